"""`captioner report`: an evaluation as one HTML file that people look at."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import click

from captioner.batch.whole_file import WholeTextFile
from captioner.cli.decoding_options import chosen_options, decoding_options
from captioner.cli.model_options import model_options
from captioner.cli.output import check_folder
from captioner.cli.progress import with_progress
from captioner.cli.scoring_options import official_option


@click.command
@click.option(
    "--data", metavar="FOLDER", required=True, type=click.Path(path_type=Path), help="A data set in the Flickr layout."
)
@click.option("--split", default="dev", show_default=True, help="Which split of it: train, dev or test.")
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

    from captioner.datasets.flickr import load_split, training_captions
    from captioner.evaluation.captioning import caption_records, measure
    from captioner.evaluation.reporting import make_report
    from captioner.pictures.report import write_report
    from captioner.prediction import Captioner

    records = load_split(data, split)
    with (
        WholeTextFile(output) as file,
        Captioner.from_bundle(bundle, device=device, precision=precision) as captioner,
    ):
        options = chosen_options(captioner.options, decoding)
        captions = caption_records(
            captioner,
            records,
            options,
            batch_size=batch_size,
            watch=lambda outcomes: with_progress(outcomes, total=len(records)),
        )
        scorecard, scores = measure(
            captioner,
            records,
            captions,
            split=split,
            about={"model": captioner.model, "precision": captioner.precision, **options.to_dict()},
            training=training_captions(data),
            official=official,
        )
        content = make_report(
            f"{captioner.model} on {data.name}, {split}",
            records,
            captions,
            scorecard,
            scores.by_image["CIDEr-D"],
            geometry=captioner.geometry,
            run=run,
        )
        write_report(content, file)
    click.echo(f"The report of {len(records)} pictures is in {output}.", err=True)
