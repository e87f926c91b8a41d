"""`captioner report`: an evaluation as one HTML file that people look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import click

from captioner.batch.whole_file import WholeTextFile
from captioner.cli.decoding_options import decoding_options
from captioner.cli.model_options import model_options
from captioner.cli.output import check_folder
from captioner.cli.scoring_options import official_option, split_options


@click.command
@split_options
@click.option(
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("report.html"),
    show_default=True,
    help="Where to write the report.",
)
@click.option(
    "--run",
    metavar="FOLDER",
    type=click.Path(path_type=Path, file_okay=False),
    help="The folder of a training, whose curves are shown.",
)
@official_option
@model_options(precision="float32")
@decoding_options
def report(
    data: Path,
    split: str,
    output: Path,
    run: Path | None,
    official: tuple[Literal["METEOR", "SPICE"], ...],
    bundle: Path | None,
    device: str,
    precision: str,
    batch_size: int,
    **decoding: Any,  # a number or None for each field of DecodingOptions
) -> None:
    """Evaluate a model and write one self-contained HTML page about it.

    The page opens from disk, without a network: scores with intervals, what they hide, and every picture with its
    caption, where the model looked for each word, and what people wrote. It holds small copies of the pictures.
    """
    check_folder(output)

    from captioner.cli.evaluation_run import evaluation_run
    from captioner.evaluation.reporting import check_run, make_report
    from captioner.pictures.report import write_report

    if run is not None:
        check_run(run)
    with (
        WholeTextFile(output) as file,
        evaluation_run(
            data, split, bundle=bundle, device=device, precision=precision, batch_size=batch_size, decoding=decoding
        ) as evaluated,
    ):
        scorecard, scores = evaluated.measure(official)
        content = make_report(
            f"{evaluated.captioner.model} on {data.name}, {split}",
            evaluated.records,
            evaluated.captions,
            scorecard,
            scores.by_image["CIDEr-D"],
            geometry=evaluated.captioner.geometry,
            run=run,
        )
        write_report(content, file)
    click.echo(f"The report of {len(evaluated.records)} pictures is in {output}.", err=True)
