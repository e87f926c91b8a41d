"""The average of several checkpoints' weights, which is often better than the best of them (arXiv:1803.05407)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor


def average_of(checkpoints: Sequence[Path]) -> dict[str, Tensor]:
    """The mean of the weights in `checkpoints`, computed in float64; what is no float is that of the first.

    Where a run averages its weights along the way, these averages are what is averaged here.
    """
    sums: dict[str, Tensor] = {}
    first: dict[str, Tensor] = {}
    for file in checkpoints:
        state = torch.load(file, map_location="cpu", weights_only=True, mmap=True)["state_dict"]
        first = first or state
        for name, value in state.items():
            if value.is_floating_point():
                sums[name] = sums.get(name, torch.zeros(value.shape, dtype=torch.float64)) + value
    return {
        name: (sums[name] / len(checkpoints)).to(value.dtype) if name in sums else value.clone()
        for name, value in first.items()
    }
