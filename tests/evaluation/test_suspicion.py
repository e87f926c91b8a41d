"""Suspicion: wrong captions are found."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.captions import Judged, SentenceScore
from captioner.errors import UnreadableImage
from captioner.evaluation.suspicion import area_under_curve, rank


def judged(name: str, *margins: float | None) -> Judged:
    scores = tuple(
        SentenceScore(
            sentence=f"{name} {number}", log_probability=-9.0, score=-3.0, margin=margin, words=(), unknown=()
        )
        for number, margin in enumerate(margins)
    )
    return Judged(source=name, scores=scores, error=None)


def test_the_least_believed_come_first() -> None:
    failed = Judged(source="c", scores=(), error=UnreadableImage("It is empty."))
    suspects = rank([judged("a", 1.0, -2.0), failed, judged("b", 0.5)])
    assert [(suspect.image, suspect.belief) for suspect in suspects] == [("a", -2.0), ("b", 0.5), ("a", 1.0)]
    assert suspects[0].to_dict()["caption"] == "a 1"


def test_without_other_pictures_the_score_decides() -> None:
    (suspect,) = rank([judged("a", None)])
    assert suspect.belief == -3.0
    assert suspect.to_dict()["margin"] is None


numbers = st.lists(st.integers(0, 5).map(float), min_size=1, max_size=8)


@given(numbers, numbers)
def test_the_area_is_the_share_of_pairs_in_order(wrong: list[float], right: list[float]) -> None:
    pairs = [1.0 if w < r else 0.5 if w == r else 0.0 for w, r in itertools.product(wrong, right)]
    assert area_under_curve(wrong, right) == pytest.approx(sum(pairs) / len(pairs))


def test_without_one_of_each_there_is_no_area() -> None:
    assert math.isnan(area_under_curve([], [1.0]))
    assert math.isnan(area_under_curve([1.0], []))
