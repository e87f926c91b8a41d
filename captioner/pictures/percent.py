"""Probabilities as people read them."""

from __future__ import annotations


def percent(probability: float) -> str:
    """In whole percent, but 0.9996 is not certain and 0.0004 not impossible: never rounded to either end."""
    if 0 < probability < 0.01:
        return "<1%"
    return f"{min(99, round(100 * probability)) if probability < 1 else 100}%"
