"""`captioner caption`: captions for files and folders, on the terminal or as JSON lines."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import click

from captioner.captions import Caption, row
from captioner.cli.decoding_options import chosen_options, decoding_options
from captioner.cli.model_options import model_options
from captioner.cli.output import WholeFile, check_folder
from captioner.cli.progress import with_progress
from captioner.cli.sources import PICTURE_EXTENSIONS, find_pictures
from captioner.geometry import Geometry

SOME_FAILED = 3  # the exit code: done, but some pictures failed


@click.command
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--output",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a JSON row a picture to FILE, which appears when all are done, instead of lines to the terminal.",
)
@click.option(
    "--attention",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="For one picture: draw where the model looked for each word of its caption into FILE (PNG).",
)
@model_options(precision="auto")
@decoding_options
@click.pass_context
def caption(
    context: click.Context,
    /,
    paths: tuple[Path, ...],
    output: Path | None,
    attention: Path | None,
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
    _check_files(output, attention, len(pictures))

    failures: list[tuple[Path, str]] = []
    with _whole(output) as rows, _whole(attention) as drawing:
        from captioner.prediction import Captioner

        with Captioner.from_bundle(bundle, device=device, precision=precision) as captioner:
            options = chosen_options(captioner.options, decoding)
            outcomes = captioner.stream(pictures, options, batch_size=batch_size)
            shown = with_progress(outcomes, total=len(pictures), lines_follow=rows is None)
            for picture, outcome in zip(pictures, shown, strict=True):
                if outcome.error is not None:
                    failures.append((picture, str(outcome.error)))
                elif outcome.caption is not None and drawing is not None:
                    drawing.write_bytes(_draw(picture, outcome.caption, captioner.geometry))
                if rows is not None:
                    content = row(outcome, image=str(picture), model=captioner.model)
                    rows.write(json.dumps(content, ensure_ascii=False) + "\n")
                elif outcome.caption is not None:
                    _tell_captions(picture, outcome.caption)
        _tell_failures(failures, len(pictures))
        if len(failures) == len(pictures):
            raise click.ClickException("No picture could be captioned.")
    _tell_files(output, attention, len(pictures) - len(failures))
    if failures:
        context.exit(SOME_FAILED)


def _check_files(output: Path | None, attention: Path | None, count: int) -> None:
    """Refuse files that cannot be written for so many pictures, before any work is done."""
    if attention is not None and count != 1:
        context = click.get_current_context(silent=True)
        raise click.UsageError(f"--attention draws one picture, not {count}: name a single file.", context)
    check_folder(output)
    check_folder(attention)


def _whole(file: Path | None) -> AbstractContextManager[WholeFile | None]:
    return nullcontext() if file is None else WholeFile(file)


def _draw(picture: Path, caption: Caption, geometry: Geometry) -> bytes:
    """One PNG of where a model with this geometry looked; the picture is read once more, now for showing."""
    from captioner.pictures.attention import DISPLAY_SIZE, draw_attention
    from captioner.reader import Reader

    with Reader(Geometry(resize="fit", size=DISPLAY_SIZE), processes=1) as reader:
        pixels = reader.submit(picture).result()
    height, width = pixels.shape[:2]
    return draw_attention(pixels, caption, geometry.seen(width, height))


def printable(path: Path) -> str:
    """The path as one line of text: what a terminal would obey or could not show is replaced."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in str(path))


def _tell_captions(picture: Path, best: Caption) -> None:
    """The best caption of a picture with its confidence in a line, and each of its alternatives in one below."""
    others = ((other.caption, other.confidence) for other in best.alternatives)
    for number, (text, confidence) in enumerate([(best.text, best.confidence), *others]):
        before = f"{printable(picture)}:" if number == 0 else "    or:"
        click.echo(f"{before} {text}  (confidence {confidence:.2f})")


def _tell_files(output: Path | None, attention: Path | None, count: int) -> None:
    """Which files there are now, on standard error."""
    if attention is not None:
        click.echo(f"Where the model looked is drawn in {attention}.", err=True)
    if output is not None:
        click.echo(f"Captions of {count} pictures are in {output}.", err=True)


def _tell_failures(failures: list[tuple[Path, str]], total: int) -> None:
    """Which pictures failed, each with its reason, on standard error."""
    if failures:
        click.echo(f"{len(failures)} of {total} pictures could not be captioned:", err=True)
    for picture, reason in failures:
        click.echo(f"  {printable(picture)}: {reason}", err=True)
