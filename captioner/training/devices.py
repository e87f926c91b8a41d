"""What the processes of a training on several devices tell each other."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.distributed as distributed
from torch import Tensor

from captioner.errors import ConfigurationError

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


def greatest_over_processes(value: Tensor) -> Tensor:
    """The greatest of `value`, element by element, of all processes."""
    if several():
        value = value.clone()
        distributed.all_reduce(value, distributed.ReduceOp.MAX)
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


def refuse_disagreement(value: str, remedy: str) -> None:
    """Refuse a training in which `value` is not the same in all processes; a sentence ends with the `remedy`.

    Raises:
        ConfigurationError: in every process.
    """
    values = gathered(value)
    for rank, other in enumerate(values):
        if other != values[0]:
            raise ConfigurationError(f"process 0 has {values[0]}, but process {rank} has {other}: {remedy}")


def lost_contact(error: RuntimeError) -> str | None:
    """What a process says that cannot talk to the others any more; None if `error` tells of something else.

    Of what gloo meets, torch makes plain RuntimeErrors.
    """
    said = str(error)
    if "/gloo/" not in said and not (distributed.is_available() and isinstance(error, distributed.DistError)):
        return None
    reason = re.sub(r"^\[\S+\] ", "", said).partition("\n")[0].partition(". ")[0]  # without the place in torch's source
    return (
        f"this process cannot talk to the others of the training ({reason}); if one of them has ended, its own "
        "messages say why, and the same command with --resume goes on from the last checkpoint"
    )
