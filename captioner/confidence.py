"""Confidence: what the probabilities of a caption's words are worth.

A model's probability says how sure it is of a word among all words that could stand there; two good synonyms halve it.
What a reader wants to know is how many of the words are true of the picture. So the confidence of a caption is the
share of its words that are expected to occur in one of the captions that people wrote for the picture.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from captioner.errors import BundleError


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """From a word's log-probability to the probability that the word occurs in one of the references.

    p = 1 / (1 + exp(-(slope * log_probability + intercept))): Platt's logistic map (1999), taken of the logarithm,
    which is beta calibration with b = 0 (Kull, Silva Filho, Flach 2017, https://proceedings.mlr.press/v54/kull17a).
    `captioner.evaluation.calibration` fits it.
    """

    slope: float
    intercept: float

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise BundleError(f"the calibration's {field.name} is {value!r}; it must be a finite number")

    def probability(self, log_probability: float) -> float:
        """The calibrated probability, 0 to 1, of a word with this `log_probability` (natural logarithm)."""
        return 1.0 / (1.0 + math.exp(min(700.0, -(self.slope * max(log_probability, -100.0) + self.intercept))))

    def to_dict(self) -> dict[str, float]:
        """The values by name, as JSON holds them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Of a bundle's `calibration`, which may say more than the two numbers.

        Raises:
            BundleError: a number is missing or is none.
        """
        return cls(slope=values.get("slope", math.nan), intercept=values.get("intercept", math.nan))


def confidence(log_probabilities: Sequence[float], calibration: Calibration | None) -> float:
    """The confidence, 0 to 1, of a caption whose T words have these `log_probabilities` (T,); 0 if it has no words.

    The mean of the words' calibrated probabilities; without a `calibration`, of the model's own.
    """
    if not log_probabilities:
        return 0.0
    probability = math.exp if calibration is None else calibration.probability
    return math.fsum(map(probability, log_probabilities)) / len(log_probabilities)
