"""How far chance reaches: intervals by the bootstrap, and a paired test by randomisation.

A corpus of N images comes as ``statistics`` (N, S), S numbers of each image, and a ``Value`` that makes M scores of
their sums. So a score need not be a mean: BLEU is one such value, and so is a mean. Each of R resamples is one row of a
matrix, and all of them are one matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Value = Callable[[Floats], Floats]  # sums over images (..., S) to scores (..., M)

_BLOCK_CELLS = 2**22  # of the matrix that is held at a time, 32 MiB
_SAME = 1e-9  # differences that the order of summation can make


@dataclass(frozen=True, kw_only=True)
class Interval:
    """From ``low`` to ``high``."""

    low: float
    high: float


def resample(statistics: Floats, resamples: int, seed: int) -> Floats:
    """Sums (R, S) over R resamples, each of N images drawn with replacement; the same draws for the same N and seed.

    Source: Efron 1979, https://doi.org/10.1214/aos/1176344552.
    """
    chance = np.random.default_rng(seed)
    num_images = len(statistics)
    sums = []
    for rows in _blocks(resamples, num_images):
        drawn = chance.integers(num_images, size=(rows, num_images)) + np.arange(rows)[:, None] * num_images
        counts = np.bincount(drawn.ravel(), minlength=rows * num_images).reshape(rows, num_images)
        sums.append(counts.astype(np.float64) @ statistics)
    return np.concatenate(sums)


def intervals(values: Floats, level: float) -> list[Interval]:
    """The percentile interval of each of M scores, from R resamples' ``values`` (R, M): it holds ``level`` of them."""
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return [Interval(low=float(one), high=float(other)) for one, other in zip(low, high, strict=True)]


def randomisation_test(one: Floats, other: Floats, value: Value, shuffles: int, seed: int) -> Floats:
    """Two-sided p-values (M,) of "it does not matter which of the two systems made which statistics (N, S)".

    Each shuffle exchanges the two systems' statistics of every image with probability one half; the p-value is the
    share of shuffles that part the two at least as far as they are, the true assignment counted among them. So it is
    never 0, and at most a share p of experiments in which nothing differs gives p or less, whatever the metric.
    Source: Noreen 1989, "Computer-Intensive Methods for Testing Hypotheses"; for corpus scores, Riezler and Maxwell
    2005, https://aclanthology.org/W05-0908, who find that it errs less than the paired bootstrap of Koehn 2004.
    """
    chance = np.random.default_rng(seed)
    total, gap = one.sum(axis=0) + other.sum(axis=0), other - one
    seen = np.abs(value(one.sum(axis=0)) - value(other.sum(axis=0)))
    as_far = np.ones(seen.shape)
    for rows in _blocks(shuffles, len(one)):
        exchanged = chance.integers(2, size=(rows, len(one)), dtype=np.int8)
        sums = one.sum(axis=0) + exchanged.astype(np.float64) @ gap  # (rows, S)
        as_far += (np.abs(value(sums) - value(total - sums)) >= seen - _SAME).sum(axis=0)
    return np.asarray(as_far / (shuffles + 1))


def _blocks(rows: int, num_images: int) -> Iterator[int]:
    """How many of ``rows`` to make at a time, so that memory is bounded."""
    step = max(1, _BLOCK_CELLS // num_images)
    for start in range(0, rows, step):
        yield min(step, rows - start)
