"""The options of every command that captions pictures: which model, and how it is run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., object])


def _usual_size(context: click.Context, parameter: click.Parameter, value: int | None) -> int:
    """What fits the device; an option that was not given is looked at after those that were."""
    if value is not None:
        return value
    return 32 if context.params.get("device", "cpu") == "cpu" else 256


def model_options(*, precision: str) -> Callable[[Command], Command]:
    """Adds `--bundle`, `--device`, `--precision` (with this default) and `--batch-size` to a click command."""
    options = (
        click.option(
            "--bundle",
            metavar="FOLDER",
            type=click.Path(path_type=Path),
            help="The model bundle; the shipped one if not given.",
        ),
        click.option(
            "--device",
            type=click.Choice(["cpu", "cuda", "auto"]),
            default="cpu",
            show_default=True,
            help="Where the model runs; auto is cuda where there is one.",
        ),
        click.option(
            "--precision",
            type=click.Choice(["auto", "float32", "float16", "bfloat16"]),
            default=precision,
            show_default=True,
            help="Of the encoder; auto is float16 where that is quicker and gives the same, else float32.",
        ),
        click.option(
            "--batch-size",
            type=click.IntRange(1),
            callback=_usual_size,
            help="Pictures captioned at once; 32, or 256 on a GPU (fewer when its memory runs out), if not given.",
        ),
    )

    def decorate(command: Command) -> Command:
        for option in reversed(options):  # the decorator applied last is listed first
            command = option(command)
        return command

    return decorate
