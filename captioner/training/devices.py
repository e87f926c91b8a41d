"""What the processes of a training on several devices tell each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as distributed
from torch import Tensor

_T = TypeVar("_T")


def several() -> bool:
    """Whether this process is one of several that train together."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def share_of(count: Tensor) -> Tensor:
    """`count`, a number, divided by its mean over all processes; 1 where there is one process.

    What is a mean over a process's own words, times the share of these words, becomes a sum over them divided by the
    words that a process has in the mean. The processes' gradients are averaged, and the mean of all sum_r / mean(words)
    is the sum of all sums divided by all words: the loss of the whole batch. Without it, the words of a process with
    short captions would count more.
    """
    if not several():
        return torch.ones_like(count)
    return count * distributed.get_world_size() / total_over_processes(count).clamp(min=1)


def total_over_processes(value: Tensor) -> Tensor:
    """The sum of `value`, of any shape and without gradient, over all processes."""
    if several():
        value = value.detach().clone()
        distributed.all_reduce(value)
    return value


@dataclass
class WeightedMean:
    """The mean of a loss over all words that it was computed for, batch after batch."""

    total: float = 0.0
    weight: int = 0

    def add(self, mean: Tensor, weight: int) -> None:
        """Add the `mean` (one number) over `weight` words."""
        self.total += float(mean) * weight
        self.weight += weight

    @staticmethod
    def of(parts: Sequence[WeightedMean]) -> float | None:
        """The mean over the words of all processes; None if there were none."""
        weight = sum(part.weight for part in parts)
        return sum(part.total for part in parts) / weight if weight else None


def gathered(value: _T) -> list[_T]:
    """The `value` of every process, in the order of their ranks."""
    if not several():
        return [value]
    values: list[_T | None] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return [each for each in values if each is not None]
