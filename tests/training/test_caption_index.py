"""The flat arrays of captions, held against the obvious lists."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as some

from captioner.datasets.records import Record
from captioner.text.tokenizer import tokenize
from captioner.text.vocabulary import Vocabulary
from captioner.training.caption_index import CaptionIndex, NumberedCaptions, Words

CAPTIONS = some.lists(some.sampled_from(["a", "dog", "left", "runs", "to", "the", "right", "é"]), max_size=7).map(
    " ".join
)
RECORDS = some.lists(
    some.tuples(
        some.text(some.characters(codec="utf-8", exclude_characters="/\x00"), min_size=1),
        some.lists(CAPTIONS, min_size=1, max_size=3),
    ),
    min_size=1,
    max_size=6,
).map(lambda made: [Record(Path("x") / name, tuple(captions)) for name, captions in made])


@given(RECORDS, some.integers(1, 3), some.none() | some.integers(1, 5))
def test_the_arrays_say_what_the_lists_say(records: list[Record], min_count: int, max_words: int | None) -> None:
    words = Words()
    numbered = NumberedCaptions.of(records, words)
    all_words = [tokenize(caption) for record in records for caption in record.captions]
    vocabulary = Vocabulary.of_counts(words.counts(numbered.numbers), min_count=min_count)
    assert vocabulary == Vocabulary.build(all_words, min_count=min_count)
    tokens = numbered.tokens(words.ids(vocabulary), max_words=max_words)
    index = CaptionIndex.of(records, tokens, numbered.holding(words.among(["left", "right"])))
    assert len(index) == len(records)
    for place, record in enumerate(records):
        said = [tokenize(caption) for caption in record.captions]
        ids = [[Vocabulary.start, *vocabulary.encode(caption), Vocabulary.end] for caption in said]
        cut = ids if max_words is None else [caption[: max_words + 2] for caption in ids]
        assert [caption.tolist() for caption in index.captions(place)] == cut
        assert bool(index.may_flip[place]) == all({"left", "right"}.isdisjoint(caption) for caption in said)
        assert index.path(place) == record.image


def test_a_name_that_is_no_utf_8_comes_back() -> None:
    image = Path("x/\udcff\udcfe.jpg")
    words = Words()
    records = [Record(image, ("a dog",))]
    numbered = NumberedCaptions.of(records, words)
    vocabulary = Vocabulary(["a", "dog"])
    index = CaptionIndex.of(records, numbered.tokens(words.ids(vocabulary), max_words=None), numbered.holding([]))
    assert index.path(0) == image


def test_counts_are_of_what_is_asked() -> None:
    """A word that another split brought is in no count of this one."""
    words = Words()
    train = NumberedCaptions.of([Record(Path("a"), ("a dog a cat",))], words)
    NumberedCaptions.of([Record(Path("b"), ("a zebra",))], words)
    assert words.counts(train.numbers) == {"a": 2, "dog": 1, "cat": 1}


@pytest.mark.parametrize("max_words", [1, 2, 3])
def test_the_longest_caption_that_keeps_its_end(max_words: int) -> None:
    words = Words()
    numbered = NumberedCaptions.of([Record(Path("a"), ("a dog",))], words)
    vocabulary = Vocabulary(["a", "dog"])
    tokens, _ = numbered.tokens(words.ids(vocabulary), max_words=max_words)
    assert (Vocabulary.end in tokens.tolist()) == (max_words >= 2)
