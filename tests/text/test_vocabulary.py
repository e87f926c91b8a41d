"""The words that a model knows."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.text.vocabulary import SPECIAL_WORDS, Vocabulary


def test_the_special_words_come_first() -> None:
    vocabulary = Vocabulary(["dog", "cat"])
    assert vocabulary.words == ("<pad>", "<start>", "<end>", "<unk>", "dog", "cat")
    special = (Vocabulary.pad, Vocabulary.start, Vocabulary.end, Vocabulary.unk)
    assert vocabulary.decode(special) == list(SPECIAL_WORDS)
    assert vocabulary.ordinary == ("dog", "cat")
    assert len(vocabulary) == 6


def test_encode_and_decode() -> None:
    vocabulary = Vocabulary(["dog", "cat"])
    assert vocabulary.encode(["cat", "zebra", "dog"]) == [5, 3, 4]
    assert vocabulary.decode([5, 4]) == ["cat", "dog"]
    assert vocabulary.encode([]) == []


@given(st.lists(st.text(min_size=1).filter(lambda word: word not in SPECIAL_WORDS), unique=True))
def test_decode_reverses_encode(words: list[str]) -> None:
    vocabulary = Vocabulary(words)
    assert vocabulary.decode(vocabulary.encode(words)) == words
    assert vocabulary == Vocabulary(vocabulary.ordinary)


def test_building_keeps_frequent_words_most_frequent_first_then_by_name() -> None:
    captions = [["b", "a", "c", "c"], ["a", "b", "c", "rare"], ["z", "z"]]
    assert Vocabulary.build(captions, min_count=2).ordinary == ("c", "a", "b", "z")
    assert Vocabulary.build(captions, min_count=4).ordinary == ()
    assert Vocabulary.build(reversed(captions), min_count=1) == Vocabulary.build(captions, min_count=1)


def test_a_special_word_in_a_caption_is_no_ordinary_word() -> None:
    assert Vocabulary.build([["<unk>", "<end>", "dog"]], min_count=1).ordinary == ("dog",)


@pytest.mark.parametrize("words", [["dog", "dog"], ["<pad>"], ["dog", ""]])
def test_words_that_cannot_be_are_refused(words: list[str]) -> None:
    with pytest.raises(ValueError, match="word"):
        Vocabulary(words)


def test_equal_vocabularies_have_equal_hashes() -> None:
    assert Vocabulary(["dog"]) == Vocabulary(["dog"])
    assert hash(Vocabulary(["dog"])) == hash(Vocabulary(["dog"]))
    assert Vocabulary(["dog"]) != Vocabulary(["cat"])
    assert Vocabulary(["dog"]) != ["dog"]
