"""`captioner diagnose gradients`: how far back a loss reaches in the recurrent network, as tables and pictures."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TypeVar

import click

from captioner.batch.whole_file import write_whole

CELLS = ("rnn", "gru", "lstm")

Value = TypeVar("Value")


def _listed(
    read: Callable[[str], Value], wanted: str
) -> Callable[[click.Context, click.Parameter, str], tuple[Value, ...]]:
    """What reads values separated by commas; none of them from an empty text."""

    def convert(context: click.Context, parameter: click.Parameter, text: str) -> tuple[Value, ...]:
        try:
            return tuple(dict.fromkeys(read(part.strip()) for part in text.split(",") if part.strip()))
        except ValueError as error:
            raise click.BadParameter(f"'{text}' is no list of {wanted}.", context, parameter) from error

    return convert


def _cell(text: str) -> str:
    if text not in CELLS:
        raise ValueError(text)
    return text


def _depth(text: str) -> int:
    if int(text) < 1:
        raise ValueError(text)
    return int(text)


def _radius(text: str) -> float:
    if not 0 < float(text) < math.inf:
        raise ValueError(text)
    return float(text)


@click.command
@click.argument("what", metavar="gradients", type=click.Choice(["gradients"]))
@click.option(
    "--bundle",
    "bundles",
    metavar="FOLDER",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A model bundle, the shipped one if not given; may be given several times. Cells take the first one's sizes.",
)
@click.option(
    "--data",
    metavar="PATH",
    type=click.Path(path_type=Path),
    help="A data set: its folder, or the file with its captions; the generated shapes if not given.",
)
@click.option("--split", default="dev", show_default=True, help="Which split of it: train, dev or test.")
@click.option(
    "--output",
    metavar="FOLDER",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("gradients"),
    show_default=True,
    help="Where to write the tables and the pictures.",
)
@click.option(
    "--cells",
    metavar="LIST",
    default=",".join(CELLS),
    show_default=True,
    callback=_listed(_cell, "rnn, gru and lstm, such as rnn,lstm"),
    help="The kinds of untrained cells to show beside the models; '' for none.",
)
@click.option(
    "--layers",
    metavar="LIST",
    default="1,2,3",
    show_default=True,
    callback=_listed(_depth, "whole numbers from 1, such as 1,2,3"),
    help="How many layers of them.",
)
@click.option(
    "--radius",
    "radii",
    metavar="LIST",
    default="0.5,1,1.5",
    show_default=True,
    callback=_listed(_radius, "positive numbers, such as 0.5,1,1.5"),
    help="Also show untrained rnn cells whose recurrent matrices are scaled to these spectral radii; '' for none.",
)
@click.option(
    "--steps",
    metavar="N",
    type=click.IntRange(2, 1000),
    help="So many words a caption, joined from several; each caption as it is if not given.",
)
def diagnose(
    what: str,
    bundles: tuple[Path, ...],
    data: Path | None,
    split: str,
    output: Path,
    cells: tuple[str, ...],
    layers: tuple[int, ...],
    radii: tuple[float, ...],
    steps: int | None,
) -> None:
    """Show how far back in time a model's loss reaches: vanishing and exploding gradients.

    Writes the norm of the loss's gradient at every state of the recurrent network, step by step and layer by layer, for
    the loss of the last word alone and of the whole sentence, and the spectral radius and the largest singular value of
    its recurrent matrices: gradients.csv, matrices.csv and a picture of each. A summary is printed. The means are of 32
    pictures, one caption each. Needs the extra `train`.
    """
    if find_spec("matplotlib") is None:
        raise click.ClickException("Drawing needs matplotlib: pip install 'captioner[train]'.")
    output.mkdir(parents=True, exist_ok=True)

    from captioner.bundle import default_bundle, load_bundle
    from captioner.datasets.kinds import load_split
    from captioner.pictures.gradients import draw_gradients
    from captioner.training.gradient_study import (
        Studied,
        fresh_subjects,
        generated,
        study,
        subject_of,
        summary,
        write_tables,
    )

    loaded = [load_bundle(path) for path in bundles or [default_bundle()]]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        records = generated(folder / "shapes") if data is None else load_split(data, split)
        subjects = [subject_of(bundle, records, steps=steps) for bundle in loaded]
        subjects += fresh_subjects(subjects[0], cells=cells, layers=layers, radii=radii)
        found: list[Studied] = []
        for each in subjects:
            click.echo(f"{each.name} ...", err=True)
            found.append(study(each))
        write_tables(found, folder)
        for file in [folder / "gradients.csv", folder / "matrices.csv", *draw_gradients(folder)]:
            write_whole(output / file.name, file.read_bytes())
    for line in summary(found):
        click.echo(line)
    click.echo(f"Tables and pictures are in {output}.", err=True)
