"""How varied and how whole captions are."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from captioner.datasets.flickr import read_token_file
from captioner.errors import DatasetError
from captioner.evaluation.diversity import (
    BAD_ENDINGS,
    Commonest,
    Distinct,
    Example,
    NBest,
    distinct,
    mean_length,
    portrait,
    vocabulary_used,
)

CAPTIONS = ["A red square.", "a red square", "Two circles!", "A red circle, large and round."]
TOKEN_FILE = Path(__file__).parents[3] / "shared" / "data" / "flickr8k" / "Flickr8k.token.txt"

sentences = some.lists(some.sampled_from(["a", "dog", "runs", "with", "red", "Dog", ","]), max_size=8).map(" ".join)


def test_captions_with_the_same_words_are_the_same() -> None:
    assert distinct(CAPTIONS) == Distinct(number=3, share=0.75)


def test_vocabulary_counts_words_without_case_and_punctuation() -> None:
    assert vocabulary_used(CAPTIONS) == len({"a", "red", "square", "two", "circles", "circle", "large", "and", "round"})


def test_mean_length_counts_words() -> None:
    assert mean_length(CAPTIONS) == pytest.approx((3 + 3 + 2 + 6) / 4)


def test_empty_captions_are_captions() -> None:
    assert distinct(["", "."]) == Distinct(number=1, share=0.5)
    assert vocabulary_used([""]) == 0
    assert mean_length([""]) == 0.0


@pytest.mark.parametrize("measure", [distinct, vocabulary_used, mean_length, portrait])
def test_no_captions_are_refused(measure: Callable[[Sequence[str]], Any]) -> None:
    with pytest.raises(DatasetError, match="There are no captions to measure"):
        measure([])


def test_a_portrait_holds_the_three_measures_above() -> None:
    found = portrait(CAPTIONS)
    assert found.images == 4
    assert found.distinct == distinct(CAPTIONS)
    assert found.vocabulary_used == vocabulary_used(CAPTIONS)
    assert found.mean_length == mean_length(CAPTIONS)
    assert found.commonest == Commonest(caption="A red square.", number=2, share=0.5)
    assert found.empty.number == found.bad_endings.number == found.repetitions.number == 0
    assert [found.vocabulary_share, found.copied, found.n_best, found.worst] == [None] * 4


def test_share_of_the_vocabulary() -> None:
    assert portrait(CAPTIONS, vocabulary_size=36).vocabulary_share == pytest.approx(9 / 36)
    with pytest.raises(DatasetError, match="A vocabulary of 0 words is none"):
        portrait(CAPTIONS, vocabulary_size=0)


def test_of_captions_that_are_equally_common_the_first_is_the_commonest() -> None:
    assert portrait(["two dogs", "a cat", "A cat.", "Two dogs"]).commonest.caption == "two dogs"


@pytest.mark.parametrize(
    ("caption", "bad"),
    [
        ("a dog running with a", True),
        ("A dog running with A .", True),
        ("a man in front of", True),
        ("a dog and", True),
        ("two people who are", True),
        ("a man and his", True),
        ("a dog is running while another looks on", False),
        ("a dog with its tongue hanging out", False),
        ("a boy with a dog behind him", False),
        ("two dogs look at one another", False),
        ("a cat", False),
        ("", False),
    ],
)
def test_a_bad_ending_is_a_last_word_that_needs_another(caption: str, bad: bool) -> None:
    found = portrait(["a dog", caption], names=["one.jpg", "two.jpg"]).bad_endings
    assert found.number == int(bad)
    assert found.share == pytest.approx(0.5 * bad)
    assert found.examples == ((Example("two.jpg", caption),) if bad else ())


@pytest.mark.parametrize(
    ("caption", "repeats"),
    [
        ("a a dog", True),
        ("a dog is running running", True),
        ("A dog, dog is running", True),  # the scorers see no comma
        ("a man in a hat and a man in a coat", True),
        ("in the snow in the snow", True),
        ("a dog and a dog", False),
        ("a red hat and a red coat", False),
        ("", False),
    ],
)
def test_a_repetition_is_a_word_twice_running_or_three_words_twice(caption: str, repeats: bool) -> None:
    found = portrait([caption, "two dogs"]).repetitions
    assert found.number == int(repeats)
    assert found.examples == ((Example("0", caption),) if repeats else ())


def test_what_is_copied_is_word_for_word_a_training_caption() -> None:
    training = ["A dog runs .", "Two circles , large and round ."]
    found = portrait(["a dog runs", "a dog runs fast", "dog runs", "A dog runs!"], training=training).copied
    assert found is not None
    assert (found.number, found.share) == (2, 0.5)
    assert [example.name for example in found.examples] == ["0", "3"]
    assert portrait(["a dog"], training=iter(["A dog"])).copied == portrait(["a dog"], training=["a dog"]).copied


def test_n_best_lists_by_hand() -> None:
    # First list: 6 words, 4 different (a, dog, runs, sits), 3 different pairs. Second: 2 words, 2 different, 1 pair.
    lists = [["a dog runs", "a dog sits"], ["a cat", "A cat."]]
    found = portrait(["a dog runs", "a cat"], n_best=lists).n_best
    assert found is not None
    assert asdict(found) == pytest.approx(
        {"length": 2.0, "div_1": (4 / 6 + 2 / 4) / 2, "div_2": (3 / 6 + 1 / 4) / 2, "distinct": (1 + 1 / 2) / 2}
    )


def test_n_best_lists_of_different_lengths_and_without_words() -> None:
    found = portrait(["a", ""], n_best=[["a"], ["", "", ""]]).n_best
    assert found == NBest(length=2.0, div_1=0.5, div_2=0.0, distinct=(1 + 1 / 3) / 2)


def test_the_worst_are_those_with_the_lowest_scores() -> None:
    cider = np.array([50.0, 3.0, 10.0, 3.0, 0.5])
    found = portrait(list("abcde"), cider=cider, names=[f"{x}.jpg" for x in "abcde"], worst=3).worst
    assert found is not None
    assert (found.number, found.share) == (3, 0.6)  # 10.0 is not below 10
    assert [tuple(scored) for scored in found.examples] == [
        ("e.jpg", "e", 0.5),
        ("b.jpg", "b", 3.0),
        ("d.jpg", "d", 3.0),
    ]
    everything = portrait(["a"], cider=[120.0]).worst
    assert everything is not None
    assert (everything.number, len(everything.examples)) == (0, 1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"n_best": [["a"]]}, "There are 2 captions but 1 values of n_best"),
        ({"cider": [1.0, 2.0, 3.0]}, "but 3 values of cider"),
        ({"names": []}, "but 0 values of names"),
        ({"n_best": [["a"], []]}, "n-best list of image 1 is empty"),
    ],
)
def test_arguments_of_other_images_are_refused(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(DatasetError, match=words):
        portrait(["a dog", "a cat"], **arguments)


def test_facts_say_what_is_known_and_nothing_else() -> None:
    bare = portrait(CAPTIONS).facts()
    assert [fact.name for fact in bare] == [
        "distinct captions",
        "commonest caption",
        "mean length",
        "vocabulary used",
        "bad endings",
        "repetitions",
    ]
    assert {fact.name: fact.value for fact in bare}["distinct captions"] == "3 of 4 (75.0 %)"
    lists = [[caption, "a dog"] for caption in CAPTIONS]
    full = portrait([*CAPTIONS[:3], ""], training=CAPTIONS, n_best=lists, vocabulary_size=100, cider=[1, 2, 3, 4])
    names = [fact.name for fact in full.facts()]
    assert set(names) - {fact.name for fact in bare} == {
        "share of the vocabulary",
        "empty captions",
        "copied from training",
        "Div-1",
        "Div-2",
        "distinct in n-best",
        "CIDEr-D below 10",
    }
    assert len(names) == len(set(names))
    for fact in full.facts():
        assert fact.value
        assert fact.explanation.endswith(".")
        assert "\n" not in fact.value + fact.explanation


def test_a_fact_is_one_line_although_a_caption_is_not() -> None:
    facts = portrait(["a dog\nruns\n", "a dog\nruns\n"]).facts()
    assert "2 of 2 (100.0 %): a dog runs" in [fact.value for fact in facts]


def test_a_portrait_is_json_when_it_is_taken_apart() -> None:
    found = portrait(CAPTIONS, training=CAPTIONS, n_best=[CAPTIONS] * 4, cider=np.zeros(4), vocabulary_size=9)
    assert json.loads(json.dumps(asdict(found)))["copied"]["number"] == 4


@settings(max_examples=60)
@given(captions=some.lists(sentences, min_size=1, max_size=6), training=some.lists(sentences, max_size=6))
def test_shares_are_shares_and_the_order_of_captions_changes_no_number(
    captions: list[str], training: list[str]
) -> None:
    def numbers(captions: list[str]) -> list[float]:
        found = portrait(captions, training=training, n_best=[captions for _ in captions], vocabulary_size=7)
        assert found.copied is not None
        assert found.n_best is not None
        parts = (found.distinct, found.commonest, found.empty, found.bad_endings, found.repetitions, found.copied)
        for part in parts:
            assert part.share == part.number / len(captions)
        shares = [part.share for part in parts]
        shares += [found.n_best.div_1, found.n_best.div_2, found.n_best.distinct, found.vocabulary_share or 0.0]
        assert all(0 <= share <= 1 for share in shares)
        assert found.n_best.distinct == pytest.approx(found.distinct.share)
        return [*shares, found.mean_length, found.vocabulary_used]

    assert numbers(captions) == pytest.approx(numbers(captions[::-1]))


@given(captions=some.lists(sentences, min_size=1, max_size=6))
@settings(max_examples=30)
def test_captions_are_all_copied_from_themselves_and_case_changes_nothing(captions: list[str]) -> None:
    found = portrait(captions, training=captions)
    assert found.copied is not None
    assert found.copied.share == 1.0
    louder = portrait([caption.upper() for caption in captions])
    assert louder.distinct == found.distinct
    assert louder.bad_endings.number == found.bad_endings.number
    assert louder.repetitions.number == found.repetitions.number


def test_bad_endings_are_words_as_the_scorers_see_them() -> None:
    assert portrait(sorted(BAD_ENDINGS)).bad_endings.share == 1.0


@pytest.mark.skipif(not TOKEN_FILE.is_file(), reason="needs ../shared/data, which only the project's machines have")
def test_people_seldom_end_badly_or_repeat_themselves_and_a_data_set_is_measured_in_seconds() -> None:
    people = [caption for captions in read_token_file(TOKEN_FILE).values() for caption in captions]
    begin = time.process_time()
    found = portrait(people[:5000], training=people[5000:35000], cider=np.zeros(5000))
    seconds = time.process_time() - begin
    assert found.copied is not None
    assert 0 < found.copied.share < 0.05
    assert seconds < 10  # 1.0 where it was written; the bound is for a machine that is busy
    everyone = portrait(people)
    assert everyone.images == 35455
    assert everyone.bad_endings.number == pytest.approx(39, abs=3)  # a few, for changes of the tokeniser
    assert everyone.repetitions.number == pytest.approx(202, abs=6)
