"""The optimiser of a training run and the course of its learning rates."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

LOWEST = 0.01  # of the highest learning rate, at the end of the run


def optimizer_of(parts: Iterable[tuple[nn.Module, float]], *, weight_decay: float) -> AdamW:
    """AdamW of what learns in `parts`, each with its highest learning rate; only matrices decay."""
    groups: list[dict[str, Any]] = []
    for part, rate in parts:
        learning = [parameter for parameter in part.parameters() if parameter.requires_grad]
        matrices = [parameter for parameter in learning if parameter.dim() > 1]
        vectors = [parameter for parameter in learning if parameter.dim() <= 1]
        groups.append({"params": matrices, "lr": rate, "weight_decay": weight_decay})
        groups.append({"params": vectors, "lr": rate, "weight_decay": 0.0})
    return AdamW([group for group in groups if group["params"]])


def schedule_of(optimizer: torch.optim.Optimizer, *, steps: int, warmup: float) -> LambdaLR:
    """Learning rates that rise in a line in the share `warmup` of all `steps`, and then fall along a cosine."""
    rising = max(1, round(warmup * steps))

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / rising
        done = min(1.0, (step - rising) / max(1, steps - rising))
        return LOWEST + (1.0 - LOWEST) * 0.5 * (1 + math.cos(math.pi * done))

    return LambdaLR(optimizer, factor)
