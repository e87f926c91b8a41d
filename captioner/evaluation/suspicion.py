"""Suspicion: which captions of a data set the model believes least, so that a person can look at those first."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from captioner.captions import Judged, SentenceScore


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """A picture with one of its captions, and how well they fit."""

    image: str
    score: SentenceScore

    @property
    def belief(self) -> float:
        """What suspects are ranked by: the margin over other pictures, or without other pictures the plain score."""
        return self.score.score if self.score.margin is None else self.score.margin

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; numbers have 4 decimals."""
        score = self.score
        return {
            "image": self.image,
            "caption": score.sentence,
            "margin": None if score.margin is None else round(score.margin, 4),
            "score": round(score.score, 4),
            "log_probability": round(score.log_probability, 4),
            "unknown": list(score.unknown),
        }


def rank(judged: Iterable[Judged]) -> list[Suspect]:
    """All pairs of pictures that could be read, the least believed first."""
    suspects = [
        Suspect(image=str(outcome.source), score=score)
        for outcome in judged
        for score in outcome.scores
    ]  # fmt: skip
    return sorted(suspects, key=lambda suspect: suspect.belief)


def area_under_curve(wrong: Sequence[float], right: Sequence[float]) -> float:
    """The probability that a wrong caption is believed less than a right one, 0 to 1; equal beliefs count a half.

    The area under the receiver operating characteristic (Hanley and McNeil 1982), by ranks; NaN without one of each.
    """
    if not len(wrong) or not len(right):
        return math.nan
    ordered: npt.NDArray[np.float64] = np.sort(np.asarray(right, dtype=np.float64))
    below = np.searchsorted(ordered, wrong, side="left")  # right ones that are believed less than each wrong one
    equal = np.searchsorted(ordered, wrong, side="right") - below
    return float(1.0 - (below + 0.5 * equal).mean() / len(ordered))
