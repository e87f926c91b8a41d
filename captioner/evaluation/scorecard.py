"""Scorecard: everything that is measured of some captions, to be printed, written as JSON or shown in a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from captioner.evaluation.bootstrap import Interval
from captioner.evaluation.calibration import Reliability
from captioner.evaluation.diversity import Portrait
from captioner.evaluation.scores import METRICS, Difference


@dataclass(frozen=True, kw_only=True)
class Scorecard:
    """What N captions score, and what the scores hide.

    Attributes:
        values: each metric's score; 0 to 100, CIDEr-D 0 to 1000.
        intervals: of each of them, 95 % of a bootstrap over images.
        official: METEOR and SPICE where they were asked for: the score, or one sentence that says why there is none.
        portrait: what the scores hide.
        signature: what must agree before two scores are compared.
        reliability: of the confidence, word by word, where there are probabilities.
        differences: these scores less those of other captions, where there are others.
        warnings: what a reader must know, a sentence each.
    """

    values: Mapping[str, float]
    intervals: Mapping[str, Interval]
    portrait: Portrait
    signature: Mapping[str, object]
    official: Mapping[str, float | str]
    reliability: Reliability | None = None
    differences: Mapping[str, Difference] | None = None
    warnings: Sequence[str] = ()

    def lines(self) -> list[str]:
        """What is printed."""
        lines = [f"{'':<10} {'score':>7}   95 % interval"]
        lines += [_score_line(name, self.values[name], self.intervals.get(name)) for name in METRICS]
        for name, score in self.official.items():
            lines.append(_score_line(name, score, None) if isinstance(score, float) else score)
        lines += [f"{fact.name:<24} {fact.value}" for fact in self.portrait.facts()]
        if self.reliability is not None:
            lines.append(f"{'calibration error':<24} {self.reliability.calibration_error:.3f} of the words' confidence")
        lines.append("signature: " + " | ".join(f"{name} {value}" for name, value in self.signature.items()))
        if self.differences is not None:
            lines += ["", f"{'':<10} {'these':>7} {'others':>7} {'more':>7}   95 % interval     p"]
            lines += [_difference_line(name, self.values[name], self.differences[name]) for name in METRICS]
        return [*lines, *self.warnings]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "scores": {
                **self.values,
                **{name: score for name, score in self.official.items() if isinstance(score, float)},
                "distinct captions": self.portrait.distinct.number,
                "vocabulary used": self.portrait.vocabulary_used,
            },
            "intervals": {name: [interval.low, interval.high] for name, interval in self.intervals.items()},
            "failed": {name: reason for name, reason in self.official.items() if isinstance(reason, str)},
            "portrait": asdict(self.portrait),
            "reliability": None if self.reliability is None else self.reliability.to_dict(),
            "differences": None
            if self.differences is None
            else {
                name: {
                    "other": self.values[name] - found.difference,
                    "difference": found.difference,
                    "interval": [found.interval.low, found.interval.high],
                    "p_value": found.p_value,
                }
                for name, found in self.differences.items()
            },
            "signature": dict(self.signature),
            "warnings": list(self.warnings),
        }


def _score_line(name: str, value: float, interval: Interval | None) -> str:
    return f"{name:<10} {value:>7.2f}" + ("" if interval is None else f"   {interval.low:.2f} to {interval.high:.2f}")


def _difference_line(name: str, value: float, found: Difference) -> str:
    span = f"{found.interval.low:+.2f} to {found.interval.high:+.2f}"
    both = f"{value:>7.2f} {value - found.difference:>7.2f}"
    return f"{name:<10} {both} {found.difference:>+7.2f}   {span:<16}  {found.p_value:.4f}"
