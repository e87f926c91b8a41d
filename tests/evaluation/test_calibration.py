"""Calibration: fitted on one half of the pictures, judged on the other."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from captioner.captions import Caption, Word
from captioner.confidence import Calibration
from captioner.evaluation.calibration import WordOutcomes, calibrate, fit, judge, word_outcomes


def caption(words: Sequence[tuple[str, float]]) -> Caption:
    return Caption(
        text=" ".join(word for word, _ in words),
        score=0.0,
        log_probability=0.0,
        confidence=0.0,
        words=tuple(Word(word=word, probability=probability) for word, probability in words),
        alternatives=(),
        attention=None,
    )


def drawn(slope: float, intercept: float, number: int, seed: int = 0) -> WordOutcomes:
    """Words whose event happens with the probability that this calibration says."""
    generator = np.random.default_rng(seed)
    logarithms = np.log(generator.uniform(0.001, 1.0, number))
    happens = 1 / (1 + np.exp(-(slope * logarithms + intercept)))
    occurred = generator.uniform(size=number) < happens
    return WordOutcomes(images=np.arange(number), log_probabilities=logarithms, occurred=occurred)


def test_the_event_is_that_a_word_occurs_in_a_reference() -> None:
    captions = [caption([("a", 0.9), ("dog", 0.5), ("'s", 0.4), ("ball", 0.3)]), caption([("cat", 0.2)])]
    outcomes = word_outcomes(captions, [["A Dog's toy.", "one ball!"], ["a dog"]])
    assert outcomes.images.tolist() == [0, 0, 0, 0, 1]
    assert outcomes.occurred.tolist() == [True, True, True, True, False]
    assert np.exp(outcomes.log_probabilities).tolist() == pytest.approx([0.9, 0.5, 0.4, 0.3, 0.2])


@pytest.mark.parametrize(("slope", "intercept"), [(1.0, 2.0), (0.3, -0.5), (2.5, 0.0)])
def test_a_fit_finds_what_the_words_were_drawn_with(slope: float, intercept: float) -> None:
    found = fit(drawn(slope, intercept, 40_000))
    assert found.slope == pytest.approx(slope, rel=0.1)
    assert found.intercept == pytest.approx(intercept, abs=0.1)


def test_a_fit_is_the_best_one_nearby() -> None:
    outcomes = drawn(0.8, 1.0, 500)
    found = fit(outcomes)

    def loss(calibration: Calibration) -> float:
        happened = int(outcomes.occurred.sum())
        high, low = (happened + 1) / (happened + 2), 1 / (500 - happened + 2)
        total = 0.0
        for value, occurred in zip(outcomes.log_probabilities.tolist(), outcomes.occurred.tolist(), strict=True):
            probability, target = calibration.probability(value), high if occurred else low
            total -= target * math.log(probability) + (1 - target) * math.log(1 - probability)
        return total

    for slope, intercept in ((0.01, 0), (-0.01, 0), (0, 0.01), (0, -0.01)):
        assert loss(Calibration(slope=found.slope + slope, intercept=found.intercept + intercept)) > loss(found)


@pytest.mark.parametrize("occurred", [True, False])
def test_a_fit_stays_finite_where_all_is_the_same(occurred: bool) -> None:
    outcomes = WordOutcomes(
        images=np.arange(50), log_probabilities=np.log(np.linspace(0.1, 1, 50)), occurred=np.full(50, occurred)
    )
    found = fit(outcomes)
    assert (found.probability(-1.0) > 0.9) is occurred


def test_a_model_that_believes_the_wrong_words_gets_no_slope() -> None:
    found = fit(drawn(-2.0, -1.0, 5_000))
    assert found.slope == 0.0
    assert 0 < found.probability(-1.0) < 1


def test_a_reliability_counts_every_word_once() -> None:
    outcomes = drawn(1.0, 1.0, 1_003)
    judged = judge(outcomes, Calibration(slope=1.0, intercept=1.0))
    assert judged.counts.sum() == 1_003
    assert (np.diff(judged.predicted) >= 0).all()
    assert judged.calibration_error < 0.05
    assert judge(outcomes, None).calibration_error > 0.1
    assert judge(outcomes, None).brier > judged.brier


def test_what_a_bundle_keeps_was_judged_on_other_pictures() -> None:
    captions = [caption([("true", 0.5), ("false", 0.1)]) for _ in range(100)]
    references = [["true"] if number % 2 == 0 else ["false"] for number in range(100)]  # the odd ones contradict
    kept = calibrate(captions, references, about={"split": "dev"})
    assert Calibration.from_dict(kept).probability(math.log(0.5)) > 0.9
    assert kept["brier"] > 0.8
    assert kept["split"] == "dev"
    assert calibrate([], [], about={}) == {}
    assert calibrate(captions[:1], references[:1], about={}) == {}
    assert calibrate(captions[:98], references[:98], about={}) == {}  # 98 words to fit: too few
