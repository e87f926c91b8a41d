"""Confidence: the share of a caption's words that is expected to be true."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.confidence import Calibration, confidence
from captioner.errors import BundleError

logarithms = st.floats(-1e6, 0.0)


def test_without_a_calibration_it_is_the_mean_probability() -> None:
    assert confidence([math.log(0.5), math.log(0.25)], None) == pytest.approx(0.375)
    assert confidence([], None) == 0.0


@given(st.floats(0, 50), st.floats(-50, 50), logarithms, logarithms)
def test_a_more_probable_word_is_never_believed_less(slope: float, intercept: float, one: float, other: float) -> None:
    calibration = Calibration(slope=slope, intercept=intercept)
    low, high = sorted([one, other])
    assert 0 <= calibration.probability(low) <= calibration.probability(high) <= 1


@given(st.lists(logarithms), st.floats(0, 50), st.floats(-50, 50))
def test_a_confidence_lies_between_its_words(values: list[float], slope: float, intercept: float) -> None:
    calibration = Calibration(slope=slope, intercept=intercept)
    words = [calibration.probability(value) for value in values] or [0.0]
    assert min(words) - 1e-12 <= confidence(values, calibration) <= max(words) + 1e-12


def test_it_is_read_from_a_bundle_that_says_more() -> None:
    calibration = Calibration(slope=1.5, intercept=-0.25)
    assert Calibration.from_dict({**calibration.to_dict(), "brier": 0.2}) == calibration


@pytest.mark.parametrize(
    "values", [{}, {"slope": 1.0}, {"slope": "1", "intercept": 0.0}, {"slope": 1e999, "intercept": 0}]
)
def test_numbers_that_are_none_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(BundleError, match="must be a finite number"):
        Calibration.from_dict(values)
