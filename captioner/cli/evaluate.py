"""`captioner evaluate`: a model's scores on a split of a data set, with what is needed to compare them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import click

from captioner.cli.decoding_options import decoding_options
from captioner.cli.model_options import model_options
from captioner.cli.output import check_folder, write_json
from captioner.cli.scoring_options import official_option, split_options


@click.command
@split_options
@click.option("--output", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), help="Write scores as JSON.")
@click.option(
    "--captions",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the captions as COCO results JSON; an image_id is the picture's file name.",
)
@click.option(
    "--compare",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Other captions of the split (--captions of another model): a paired test of the difference.",
)
@official_option
@model_options(precision="float32")
@decoding_options
def evaluate(
    data: Path,
    split: str,
    output: Path | None,
    captions: Path | None,
    compare: Path | None,
    official: tuple[Literal["METEOR", "SPICE"], ...],
    bundle: Path | None,
    device: str,
    precision: str,
    batch_size: int,
    **decoding: Any,  # a number or None for each field of DecodingOptions
) -> None:
    """Caption a split of a data set and score the captions.

    The scores are those of coco-caption (pycocoevalcap), from 0 to 100, CIDEr-D from 0 to 1000. A picture that cannot
    be read ends the evaluation: a score over fewer pictures would be another score.
    """
    for file in (output, captions):
        check_folder(file)

    from captioner.cli.evaluation_run import evaluation_run
    from captioner.datasets.coco import read_results_of
    from captioner.datasets.kinds import load_split

    # before the work of captioning
    others = None if compare is None else read_results_of(load_split(data, split), compare)
    with evaluation_run(
        data, split, bundle=bundle, device=device, precision=precision, batch_size=batch_size, decoding=decoding
    ) as run:
        if captions is not None:  # before the scores, which may yet be interrupted
            pairs = zip(run.records, run.captions, strict=True)
            write_json(captions, [{"image_id": record.image.name, "caption": each.text} for record, each in pairs])
        scorecard, _ = run.measure(official, others)
    for line in scorecard.lines():
        click.echo(line)
    if output is not None:
        write_json(output, scorecard.to_dict())
