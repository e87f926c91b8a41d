"""The average of several checkpoints' weights, which is often better than the best of them (arXiv:1803.05407)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click
import torch
from torch import Tensor

from captioner.soup import mean_of
from captioner.training.module import CaptionModule


def average_of(checkpoints: Sequence[Path]) -> dict[str, Tensor]:
    """The mean of the weights in `checkpoints`, by `mean_of`.

    Where a run averages its weights along the way, these averages are what is averaged here.
    """
    return mean_of(
        [torch.load(file, map_location="cpu", weights_only=True, mmap=True)["state_dict"] for file in checkpoints]
    )


def better_average(module: CaptionModule, kept: list[str], best: float) -> tuple[int, float]:
    """Load the average of the checkpoints `kept` if its CIDEr-D on dev is above `best`, that of the weights loaded now.

    Returns:
        How many checkpoints are averaged, 0 where the weights stay, and the CIDEr-D.
    """
    if len(kept) < 2:
        return 0, best
    before = {name: value.clone() for name, value in module.state_dict().items()}
    module.load_state_dict(average_of([Path(file) for file in kept]))
    average = module.dev_cider()
    better = average > best
    click.echo(
        f"the average of the {len(kept)} best checkpoints has CIDEr-D {average:.2f} on dev, the best of them "
        f"{best:.2f}: the bundle is {'the average' if better else 'the best of them'}",
        err=True,
    )
    if better:
        return len(kept), average
    module.load_state_dict(before)
    return 0, best
