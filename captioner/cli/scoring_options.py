"""What the commands that score have in common."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., object])

official_option = click.option(
    "--official",
    type=click.Choice(["METEOR", "SPICE"], case_sensitive=False),
    multiple=True,
    help="Also run this official scorer, which needs Java and pip install pycocoevalcap. May be given twice.",
)


def split_options(command: Command) -> Command:
    """Adds `--data` and `--split`: which captions of people a model is held against."""
    split = click.option("--split", default="dev", show_default=True, help="Which split of it: train, dev or test.")
    data = click.option(
        "--data",
        metavar="PATH",
        required=True,
        type=click.Path(path_type=Path),
        help="A data set: its folder, or the file with its captions (docs/training.md).",
    )
    return data(split(command))
