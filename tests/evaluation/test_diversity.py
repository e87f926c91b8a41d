"""How varied captions are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from captioner.errors import DatasetError
from captioner.evaluation.diversity import Distinct, distinct, mean_length, vocabulary_used

CAPTIONS = ["A red square.", "a red square", "Two circles!", "A red circle, large and round."]


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


@pytest.mark.parametrize("measure", [distinct, vocabulary_used, mean_length])
def test_no_captions_are_refused(measure: Callable[[Sequence[str]], Any]) -> None:
    with pytest.raises(DatasetError, match="There are no captions to measure"):
        measure([])
