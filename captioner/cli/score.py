"""`captioner score`: score anybody's captions, or find the captions of a data set that a model believes least."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Literal

import click

from captioner.batch.whole_file import WholeTextFile
from captioner.cli.model_options import model_options
from captioner.cli.output import check_folder, write_json
from captioner.cli.printing import printable
from captioner.cli.progress import with_progress
from captioner.cli.scoring_options import official_option
from captioner.cli.summary import SOME_FAILED

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command
@click.option(
    "--references",
    metavar="FILE",
    type=_FILE,
    help="What people said: COCO's captions JSON (images and annotations).",
)
@click.option(
    "--hypotheses",
    metavar="FILE",
    type=_FILE,
    help="The captions to score: COCO's results JSON, or the rows of captioner caption.",
)
@click.option("--compare", metavar="FILE", type=_FILE, help="Other captions of the same images: a paired test.")
@official_option
@click.option(
    "--images",
    metavar="FOLDER",
    type=click.Path(path_type=Path, file_okay=False),
    help="Pictures whose captions are to be judged by the model, least believed first.",
)
@click.option(
    "--captions",
    metavar="FILE",
    type=_FILE,
    help="Their captions: COCO's captions JSON, Flickr's token file, CSV with image,caption, or rows.",
)
@click.option("--top", type=click.IntRange(1), default=20, show_default=True, help="How many suspects to print.")
@click.option(
    "--output", metavar="FILE", type=_FILE, help="Write the scores as JSON, or all suspects as a JSON row each."
)
@model_options(precision="float32")
@click.pass_context
def score(
    context: click.Context,
    /,
    references: Path | None,
    hypotheses: Path | None,
    compare: Path | None,
    official: tuple[Literal["METEOR", "SPICE"], ...],
    images: Path | None,
    captions: Path | None,
    top: int,
    output: Path | None,
    bundle: Path | None,
    device: str,
    precision: str,
    batch_size: int,
) -> None:
    """Score captions against references; or rank captions by how little the model believes them.

    With --references and --hypotheses: the scores of coco-caption (pycocoevalcap), from 0 to 100, CIDEr-D from 0 to
    1000, with 95 % intervals. With --images and --captions: the pairs of a picture and a caption that fit worst, by how
    much more probable the picture makes its caption than other pictures do (the margin, in nats a word).
    """
    check_folder(output)
    if (references or hypotheses or compare or official) and (images or captions):
        raise click.UsageError(
            "--images and --captions find wrong captions; what is about references scores them: give one or the other.",
            context,
        )
    if references is not None and hypotheses is not None:
        _score(references, hypotheses, compare, official, output)
    elif images is not None and captions is not None:
        if not images.is_dir():
            raise click.UsageError(f"There is no folder {images}: check the path.", context)
        failed = _suspect(images, captions, top, output, bundle, device, precision, batch_size)
        if failed:
            context.exit(SOME_FAILED)
    else:
        raise click.UsageError(
            "Give --references and --hypotheses to score captions, or --images and --captions to find wrong ones.",
            context,
        )


def _score(
    references: Path,
    hypotheses: Path,
    compare: Path | None,
    official: Sequence[Literal["METEOR", "SPICE"]],
    output: Path | None,
) -> None:
    from captioner.datasets.coco import match, read_references, read_results
    from captioner.evaluation import scores
    from captioner.evaluation.diversity import portrait
    from captioner.evaluation.official import official as run_official
    from captioner.evaluation.scorecard import Scorecard

    known = read_references(references)
    pairs, others = (
        None if file is None else match(read_results(file), known, of=str(file)) for file in (hypotheses, compare)
    )
    assert pairs is not None
    ours = scores.Scores(pairs.captions, pairs.references)
    scorecard = Scorecard(
        values=ours.values,
        intervals=ours.intervals(),
        official=run_official(official, pairs.captions, pairs.references),
        portrait=portrait(pairs.captions, cider=ours.by_image["CIDEr-D"], names=pairs.names),
        signature=ours.signature(None),
        differences=None if others is None else scores.compare(ours, scores.Scores(others.captions, others.references)),
        warnings=pairs.warnings(),
    )
    for line in scorecard.lines():
        click.echo(line)
    if output is not None:
        write_json(output, scorecard.to_dict())


def _suspect(
    images: Path,
    captions: Path,
    top: int,
    output: Path | None,
    bundle: Path | None,
    device: str,
    precision: str,
    batch_size: int,
) -> int:
    """Print the least believed pairs and write all of them; returns how many pictures could not be read."""
    from captioner.datasets.coco import read_captions
    from captioner.evaluation.suspicion import rank
    from captioner.prediction import Captioner

    found = read_captions(captions)
    with (
        WholeTextFile(output) if output is not None else nullcontext() as rows,
        Captioner.from_bundle(bundle, device=device, precision=precision) as captioner,
    ):
        pairs = ((images / name, group) for name, group in found.items())
        judged = list(with_progress(captioner.score(pairs, batch_size=batch_size), total=len(found)))
        failed = [outcome for outcome in judged if outcome.error is not None]
        if len(failed) == len(judged):
            raise click.ClickException(f"None of the {len(judged)} pictures could be read; {failed[0].error}")
        suspects = rank(judged)
        if rows is not None:
            for suspect in suspects:
                row = {**suspect.to_dict(), "model": captioner.model}
                rows.write(json.dumps(row, ensure_ascii=False) + "\n")
    click.echo(f"{'margin':>8} {'score':>7}  the {min(top, len(suspects))} least believed of {len(suspects)} captions")
    for suspect in suspects[:top]:
        margin = "" if suspect.score.margin is None else f"{suspect.score.margin:.2f}"
        name = printable(Path(suspect.image).relative_to(images))
        unknown = f"  (unknown to the model: {', '.join(suspect.score.unknown)})" if suspect.score.unknown else ""
        click.echo(f"{margin:>8} {suspect.score.score:>7.2f}  {name}: {printable(suspect.score.sentence + unknown)}")
    if failed:
        click.echo(f"{len(failed)} of {len(judged)} pictures could not be read:", err=True)
    for outcome in failed:
        click.echo(f"  {printable(Path(str(outcome.source)))}: {outcome.error}", err=True)
    return len(failed)
