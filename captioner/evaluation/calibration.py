"""Calibration of confidences: what a word's probability is worth, fitted and judged on captions that people wrote.

The event is that a word of the model's caption occurs in one of the references of its picture, by the scorers' words.
It is fitted on every other picture and judged on the rest, so what is reported was not fitted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from captioner.captions import Caption
from captioner.confidence import Calibration
from captioner.evaluation import ptb

Floats = npt.NDArray[np.float64]
Booleans = npt.NDArray[np.bool_]

EVENT = "a word occurs in one of the references"
FEWEST_WORDS = 100  # of each half; from fewer, two numbers cannot be told
_NEWTON_STEPS = 100


@dataclass(frozen=True, kw_only=True)
class WordOutcomes:
    """All W words of some captions: how probable each was, and whether it occurred in a reference of its picture."""

    images: npt.NDArray[np.int64]  # (W,) the number of the picture
    log_probabilities: Floats  # (W,)
    occurred: Booleans  # (W,)

    def of(self, images: Booleans) -> WordOutcomes:
        """Those of the pictures that `images` (N,) marks."""
        chosen = images[self.images]
        return WordOutcomes(
            images=self.images[chosen], log_probabilities=self.log_probabilities[chosen], occurred=self.occurred[chosen]
        )


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """How far probabilities can be trusted.

    Attributes:
        predicted: (B,) the mean probability of each of B bins of equally many words, lowest first.
        observed: (B,) how often the event happened in each bin.
        counts: (B,) how many words each bin has.
        calibration_error: the mean of |predicted - observed| over the words (ECE with bins of equal mass).
        brier: the mean squared error of the probabilities (Brier 1950).
    """

    predicted: Floats
    observed: Floats
    counts: npt.NDArray[np.int64]
    calibration_error: float
    brier: float

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; numbers have 4 decimals."""
        return {
            "predicted": self.predicted.round(4).tolist(),
            "observed": self.observed.round(4).tolist(),
            "counts": self.counts.tolist(),
            "calibration_error": round(self.calibration_error, 4),
            "brier": round(self.brier, 4),
        }


def word_outcomes(captions: Sequence[Caption], references: Sequence[Sequence[str]]) -> WordOutcomes:
    """What became of each word of N captions, given the references of each picture."""
    images: list[int] = []
    probabilities: list[float] = []
    occurred: list[bool] = []
    for image, (caption, group) in enumerate(zip(captions, references, strict=True)):
        known = {token for reference in group for token in ptb.tokenize(reference)}
        for word in caption.words:
            if tokens := ptb.tokenize(word.word):
                images.append(image)
                probabilities.append(word.probability)
                occurred.append(known.issuperset(tokens))
    return WordOutcomes(
        images=np.array(images, dtype=np.int64),
        log_probabilities=np.log(np.maximum(np.array(probabilities, dtype=np.float64), 1e-30)),
        occurred=np.array(occurred, dtype=np.bool_),
    )


def fit(outcomes: WordOutcomes) -> Calibration:
    """The calibration under which what occurred is most probable, by Newton's method.

    The targets are Platt's (1999): a little inside 0 and 1, as if one more of each had been seen, so that the fit stays
    finite where every word occurred. The slope is not below 0: a more probable word is not believed less.
    """
    happened = int(outcomes.occurred.sum())
    missed = len(outcomes.occurred) - happened
    targets = np.where(outcomes.occurred, (happened + 1) / (happened + 2), 1 / (missed + 2))
    inputs = np.stack([outcomes.log_probabilities, np.ones(len(targets))], axis=1)  # (W, 2)
    weights = np.zeros(2)
    for _ in range(_NEWTON_STEPS):
        predicted = 1 / (1 + np.exp(-inputs @ weights))
        gradient = inputs.T @ (targets - predicted)
        curvature = (inputs.T * (predicted * (1 - predicted))) @ inputs + 1e-6 * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        weights += step
        if float(np.abs(step).max()) < 1e-10:
            break
    if weights[0] < 0:
        mean = float(targets.mean())
        return Calibration(slope=0.0, intercept=float(np.log(mean / (1 - mean))))
    return Calibration(slope=float(weights[0]), intercept=float(weights[1]))


def judge(outcomes: WordOutcomes, calibration: Calibration | None, *, bins: int = 10) -> Reliability:
    """How calibrated probabilities (the model's own, if there is no calibration) compare with what occurred."""
    if calibration is None:
        probabilities = np.exp(outcomes.log_probabilities)
    else:
        probabilities = np.array([calibration.probability(value) for value in outcomes.log_probabilities.tolist()])
    order = np.argsort(probabilities, kind="stable")
    groups = [group for group in np.array_split(order, bins) if len(group)]
    predicted = np.array([probabilities[group].mean() for group in groups])
    observed = np.array([outcomes.occurred[group].mean() for group in groups])
    counts = np.array([len(group) for group in groups], dtype=np.int64)
    return Reliability(
        predicted=predicted,
        observed=observed,
        counts=counts,
        calibration_error=float((np.abs(predicted - observed) * counts).sum() / max(1, counts.sum())),
        brier=float(((probabilities - outcomes.occurred) ** 2).mean()) if len(order) else 0.0,
    )


def calibrate(
    captions: Sequence[Caption], references: Sequence[Sequence[str]], *, about: dict[str, Any]
) -> dict[str, Any]:
    """What a bundle keeps: the calibration fitted on the even ones of N pictures, and judged on the odd ones.

    Args:
        about: what it was measured with (data, split, decoding options), as JSON values.

    Returns:
        an empty dictionary if a half of the captions has fewer than `FEWEST_WORDS` words, which leaves the model's
        own probabilities.
    """
    outcomes = word_outcomes(captions, references)
    even = np.arange(len(captions)) % 2 == 0
    fitted, judged = outcomes.of(even), outcomes.of(~even)
    if min(len(fitted.occurred), len(judged.occurred)) < FEWEST_WORDS:
        return {}
    calibration = fit(fitted)
    before, after = judge(judged, None), judge(judged, calibration)
    return {
        **calibration.to_dict(),
        "event": EVENT,
        "fitted_on": "the even ones of the pictures, counted from 0",
        "judged_on": "the odd ones",
        "words": len(judged.occurred),
        "occurred": round(float(judged.occurred.mean()), 4),
        "calibration_error": round(after.calibration_error, 4),
        "calibration_error_before": round(before.calibration_error, 4),
        "brier": round(after.brier, 4),
        "brier_before": round(before.brier, 4),
        **about,
    }
