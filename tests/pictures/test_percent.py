"""Percent: whole numbers, and never certain or impossible what is not."""

from __future__ import annotations

import pytest

from captioner.pictures.percent import percent


@pytest.mark.parametrize(
    ("probability", "shown"),
    [(0.0, "0%"), (0.0004, "<1%"), (0.01, "1%"), (0.5, "50%"), (0.9996, "99%"), (1.0, "100%")],
)
def test_a_probability_keeps_off_both_ends(probability: float, shown: str) -> None:
    assert percent(probability) == shown
