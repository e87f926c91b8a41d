"""`captioner caption`: captions for files and folders, on the terminal or as JSON lines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from captioner.cli.decoding_options import chosen_options, decoding_options
from captioner.cli.model_options import model_options
from captioner.cli.output import WholeFile
from captioner.cli.progress import with_progress
from captioner.cli.sources import PICTURE_EXTENSIONS, find_pictures

SOME_FAILED = 3  # the exit code: done, but some pictures failed


@click.command
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a JSON row a picture to FILE, which appears when all are done, instead of lines to the terminal.",
)
@model_options(precision="auto")
@decoding_options
@click.pass_context
def caption(
    context: click.Context,
    /,
    paths: tuple[Path, ...],
    output: Path | None,
    bundle: Path | None,
    device: str,
    precision: str,
    batch_size: int,
    **decoding: Any,  # a number or None for each field of DecodingOptions
) -> None:
    """Caption pictures: files, and folders with everything below them.

    Folders are searched for jpg, jpeg, png, webp, gif, bmp, tif and tiff files; hidden ones are skipped. A decoding
    option that is not given has the model bundle's value. Exit code 3: done, but some pictures failed.
    """
    pictures = find_pictures(paths)
    if not pictures:
        raise click.ClickException(
            f"No pictures found in {', '.join(printable(path) for path in paths)}: captioner looks for files named "
            f"{', '.join(sorted(PICTURE_EXTENSIONS))}; name a file itself to have it read whatever it is called."
        )
    if output is not None and not output.parent.is_dir():
        raise click.UsageError(f"The folder of {output} does not exist: create it first.", context)

    failures: list[tuple[Path, str]] = []
    with WholeFile(output) if output is not None else nullcontext() as rows:
        from captioner.prediction import Captioner, row

        with Captioner.from_bundle(bundle, device=device, precision=precision) as captioner:
            options = chosen_options(captioner.options, decoding)
            outcomes = captioner.stream(pictures, options, batch_size=batch_size)
            shown = with_progress(outcomes, total=len(pictures), lines_follow=rows is None)
            for picture, outcome in zip(pictures, shown, strict=True):
                if outcome.error is not None:
                    failures.append((picture, str(outcome.error)))
                elif outcome.caption is not None and rows is None:
                    best, others = outcome.caption, outcome.caption.alternatives
                    _tell_captions(
                        picture, [(best.text, best.confidence), *((o.caption, o.confidence) for o in others)]
                    )
                if rows is not None:
                    content = row(outcome, image=str(picture), model=captioner.model)
                    rows.write(json.dumps(content, ensure_ascii=False) + "\n")
        _tell_failures(failures, len(pictures))
        if len(failures) == len(pictures):
            raise click.ClickException("No picture could be captioned.")
    if output is not None:
        click.echo(f"Captions of {len(pictures) - len(failures)} pictures are in {output}.", err=True)
    if failures:
        context.exit(SOME_FAILED)


def printable(path: Path) -> str:
    """The path as one line of text: what a terminal would obey or could not show is replaced."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in str(path))


def _tell_captions(picture: Path, captions: Sequence[tuple[str, float]]) -> None:
    """The best caption of a picture with its confidence in a line, and each of its alternatives in one below."""
    for number, (text, confidence) in enumerate(captions):
        before = f"{printable(picture)}:" if number == 0 else "    or:"
        click.echo(f"{before} {text}  (confidence {confidence:.2f})")


def _tell_failures(failures: list[tuple[Path, str]], total: int) -> None:
    """Which pictures failed, each with its reason, on standard error."""
    if failures:
        click.echo(f"{len(failures)} of {total} pictures could not be captioned:", err=True)
    for picture, reason in failures:
        click.echo(f"  {printable(picture)}: {reason}", err=True)
