"""`captioner caption`: captions for files and folders, on the terminal or as a job that writes files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from captioner.batch.outputs import OutputFile
from captioner.batch.policies import Existing
from captioner.batch.selection import PICTURE_EXTENSIONS, Selection
from captioner.batch.sources import find_items, read_list
from captioner.batch.style import TextStyle
from captioner.batch.survey import Survey
from captioner.batch.whole_file import write_whole
from captioner.captions import Caption
from captioner.cli.caption_job import run_job
from captioner.cli.decoding_options import chosen_options, decoding_options
from captioner.cli.job_options import job_options
from captioner.cli.job_request import JobRequest
from captioner.cli.model_options import model_options
from captioner.cli.output import check_folder
from captioner.cli.printing import printable
from captioner.cli.progress import with_progress
from captioner.cli.summary import SOME_FAILED
from captioner.errors import ConfigurationError, SourceError
from captioner.geometry import Geometry
from captioner.images import ImageSource


@click.command
@click.argument("paths", metavar="PATH...", nargs=-1, type=click.Path(path_type=Path))
@job_options
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
    attention: Path | None,
    **others: Any,  # see `request_of` and `chosen`
) -> None:
    """Caption pictures: files, archives (zip, tar), and folders with everything below them.

    Without --output, --sidecar, --metadata or --ledger the captions are printed. Otherwise it is a job: it can be
    interrupted at any moment and goes on when the same command is given again. Folders are searched for jpg, jpeg,
    png, webp, gif, bmp, tif and tiff files. A decoding option that is not given has the model bundle's value. Exit
    code 3: done, but some pictures failed.
    """
    try:
        request = request_of({**context.params})
        if not request.is_job:
            code = _print_captions(request, attention, chosen(context.params))
        elif attention is not None:
            raise click.UsageError("--attention is for a picture whose caption is printed.", context)
        else:
            code = run_job(request, lambda defaults: chosen_options(defaults, chosen(context.params)))
    except (SourceError, ConfigurationError) as error:
        raise click.UsageError(str(error), context) from error
    if code:
        context.exit(code)


def request_of(given: dict[str, Any]) -> JobRequest:
    """The parameters of the command as one value.

    Raises:
        ConfigurationError, UsageError: they contradict each other.
    """
    if not given["paths"] and given["from_file"] is None:
        raise click.UsageError("Name at least one file or folder, or a list with --from-file.")
    files = _files(given["output"], given["output_format"])
    if given["mirror"] is not None and given["sidecar"] is None:
        raise click.UsageError("--mirror says where sidecars go: give --sidecar txt or --sidecar caption as well.")
    request = JobRequest(
        paths=given["paths"],
        list_file=given["from_file"],
        selection=Selection(
            include=given["include"],
            exclude=given["exclude"],
            hidden=given["hidden"],
            follow_links=given["follow_links"],
        ),
        files=files,
        sidecar=given["sidecar"],
        mirror=given["mirror"],
        metadata=given["metadata"],
        existing=Existing(given["existing"]),
        style=TextStyle(
            template=given["template"],
            prefix=given["prefix"],
            suffix=given["suffix"],
            alt=given["alt"],
            max_length=given["max_characters"],
            mark=given["mark"],
        ),
        min_confidence=given["min_confidence"],
        dry_run=given["dry_run"],
        watch=given["watch"],
        shard=_shard(given["shard"]),
        ledger=given["ledger"],
        bundle=given["bundle"],
        device=given["device"],
        devices=given["devices"],
        precision=given["precision"],
        batch_size=given["batch_size"],
    )
    if not request.is_job and (request.watch or given["shard"] is not None or request.devices > 1):
        raise click.UsageError("--watch, --shard and --devices need an --output, --sidecar, --metadata or --ledger.")
    if request.devices > 1 and request.device == "auto":
        raise click.UsageError("--devices needs --device cuda or --device cpu, since all of them must be of one kind.")
    if request.watch and given["shard"] is not None:
        raise click.UsageError("--watch and --shard do not go together: shares are of a list that stays.")
    return request


def _files(outputs: tuple[str, ...], output_format: str | None) -> tuple[OutputFile, ...]:
    if output_format is not None and len(outputs) != 1:
        raise click.UsageError("--format is for a single --output; with several, write FORMAT:FILE.")
    if output_format is not None:
        files: tuple[OutputFile, ...] = (OutputFile(output_format, Path(outputs[0])),)
    else:
        files = tuple(map(OutputFile.parse, outputs))
    for file in files:
        check_folder(file.path)
    return files


def _shard(text: str | None) -> tuple[int, int]:
    """ "2/4" is the second of four: (1, 4)."""
    if text is None:
        return 0, 1
    number, slash, total = text.partition("/")
    if not slash or not number.isdecimal() or not total.isdecimal() or not 1 <= int(number) <= int(total):
        raise click.UsageError(f"--shard is I/N with I from 1 to N, such as 2/4, not {text}.")
    return int(number) - 1, int(total)


def chosen(given: dict[str, Any]) -> dict[str, Any]:
    """The decoding options among the parameters: a value, or None if it was not given."""
    import dataclasses

    from captioner.decoding.options import DecodingOptions

    return {field.name: given[field.name] for field in dataclasses.fields(DecodingOptions)}


def _print_captions(request: JobRequest, attention: Path | None, decoding: dict[str, Any]) -> int:
    """Caption and print; nothing is recorded. Returns the exit code."""
    survey = Survey()
    listed = [] if request.list_file is None else read_list(request.list_file)
    items = list(find_items(request.paths, request.selection, survey, listed=listed))
    if not items:
        raise click.ClickException(
            f"No pictures found in {', '.join(printable(path) for path in request.paths)}: captioner looks for files "
            f"named {', '.join(sorted(PICTURE_EXTENSIONS))}; name a file itself to have it read whatever it is called."
        )
    _check_drawing(attention, len(items))
    if request.dry_run:
        click.echo(f"{len(items)} pictures would be captioned.")
        return 0

    from captioner.prediction import Captioner

    failures: list[tuple[str, str]] = []
    with Captioner.from_bundle(request.bundle, device=request.device, precision=request.precision) as captioner:
        options = chosen_options(captioner.options, decoding)
        outcomes = captioner.stream((item.load() for item in items), options, batch_size=request.batch_size)
        shown = with_progress(outcomes, total=len(items), lines_follow=True)
        for item, outcome in zip(items, shown, strict=True):
            if outcome.caption is None:
                failures.append((item.source, str(outcome.error)))
                continue
            if attention is not None:
                write_whole(attention, _draw(outcome.source, outcome.caption, captioner.geometry))
                click.echo(f"Where the model looked is drawn in {attention}.", err=True)
            _tell_captions(item.source, outcome.caption)
    failures += [(failure.source, failure.reason) for failure in survey.failures]
    if failures:
        click.echo(f"{len(failures)} of {len(items)} pictures could not be captioned:", err=True)
    for source, reason in failures:
        click.echo(f"  {printable(source)}: {reason}", err=True)
    if len(failures) >= len(items):
        raise click.ClickException("No picture could be captioned.")
    return SOME_FAILED if failures else 0


def _check_drawing(attention: Path | None, count: int) -> None:
    """Refuse a drawing of so many pictures, or under a wrong name, before any work is done."""
    if attention is not None and count != 1:
        raise click.UsageError(f"--attention draws one picture, not {count}: name a single file.")
    if attention is not None and attention.suffix.lower() != ".png":
        raise click.UsageError(f"--attention draws a PNG: call the file {attention.stem}.png, not {attention.name}.")
    check_folder(attention)


def _draw(picture: ImageSource, caption: Caption, geometry: Geometry) -> bytes:
    """One PNG of where a model with this geometry looked; the picture is read once more, now for showing."""
    from captioner.pictures.attention import DISPLAY_SIZE, draw_attention
    from captioner.reader import Reader

    with Reader(Geometry(resize="fit", size=DISPLAY_SIZE), processes=1) as reader:
        pixels = reader.submit(picture).result()
    height, width = pixels.shape[:2]
    return draw_attention(pixels, caption, geometry.seen(width, height))


def _tell_captions(picture: str, best: Caption) -> None:
    """The best caption of a picture with its confidence in a line, and each of its alternatives in one below."""
    others = ((other.caption, other.confidence) for other in best.alternatives)
    for number, (text, confidence) in enumerate([(best.text, best.confidence), *others]):
        before = f"{printable(picture)}:" if number == 0 else "    or:"
        click.echo(f"{before} {text}  (confidence {confidence:.2f})")
