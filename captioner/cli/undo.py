"""`captioner undo`: what jobs wrote beside and into pictures is taken back."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from captioner.batch.outputs import has_metadata
from captioner.batch.outputs import undo as take_back
from captioner.batch.style import TextStyle
from captioner.batch.writers.exiftool import ExifTool
from captioner.batch.writers.metadata import MetadataWriter
from captioner.cli.job_request import LEDGER
from captioner.cli.printing import printable
from captioner.cli.summary import SOME_FAILED, tell_some
from captioner.errors import ConfigurationError
from captioner.ledger import Ledger


@click.command
@click.argument("job", metavar="[JOB]", type=int, required=False)
@click.option(
    "--ledger",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path(LEDGER),
    show_default=True,
    help="Where the job is recorded.",
)
@click.pass_context
def undo(context: click.Context, /, job: int | None, ledger: Path) -> None:
    """Take back the texts that a job wrote beside or into pictures; without JOB, list the jobs.

    Texts that it replaced are restored. What somebody has edited since stays, and is told (exit code 3). Files that
    hold all captions (--output) stay as well. The same caption command writes the texts again, without captioning anew.
    """
    if not ledger.is_file():
        raise click.UsageError(f"There is no ledger {ledger}: name it with --ledger.", context)
    with Ledger(ledger) as opened:
        jobs = dict(opened.jobs())
        if job is None:
            for number, command in jobs.items():
                click.echo(f"{number}: {_standing(opened, number)}")
                click.echo(f"   {printable(shown(command))}")
            if not jobs:
                click.echo("No job has been recorded.")
            return
        if job not in jobs:
            known = ", ".join(map(str, jobs)) or "none"
            raise click.UsageError(f"{ledger} has no job {job}: it has {known}.", context)
        code = _undo(opened, job, context)
    if code:
        context.exit(code)


def _undo(ledger: Ledger, job: int, context: click.Context) -> int:
    """Take back one job's texts; returns the exit code."""
    if ledger.is_busy(job):
        raise click.ClickException(f"Job {job} is being worked on: let it finish, or stop it, and undo it then.")
    with ExitStack() as parts:
        metadata = None
        if has_metadata(ledger.changes(job)):
            try:
                exiftool = parts.enter_context(ExifTool())
            except ConfigurationError as error:
                raise click.UsageError(str(error), context) from error
            metadata = MetadataWriter(style=TextStyle(), exiftool=exiftool)
        done = take_back(ledger, job, metadata)
    stays = "It was edited or removed since the job wrote it, and stays as it is."
    tell_some(((_short(place), stays) for place in done.edited), len(done.edited))
    tell_some(((_short(place), reason) for place, reason in done.problems.items()), len(done.problems))
    if not (done.back or done.edited or done.problems):
        told = f"Job {job} has no texts to take back: it wrote none beside or into pictures, or they were taken back"
    else:
        told = f"{done.back} {'text is' if done.back == 1 else 'texts are'} taken back"
    if done.edited:
        told += f"; {len(done.edited)} {'stays' if len(done.edited) == 1 else 'stay'}, having been edited since"
    if done.problems:
        told += f"; {len(done.problems)} could not be written: undo the job again"
    click.echo(f"{told}.", err=True)
    return SOME_FAILED if done.edited or done.problems else 0


def _short(path: str) -> str:
    """The path without `..`, unless it leads elsewhere then, because a link stands before it."""
    short = os.path.normpath(path)
    return short if os.path.realpath(short) == os.path.realpath(path) else path


def _standing(ledger: Ledger, job: int) -> str:
    """How far a job is, in words."""
    counts = ledger.counts(job)
    numbers = (
        (counts.done, "captioned"),
        (counts.failed, "failed"),
        (counts.skipped, "skipped"),
        (counts.pending, "waiting"),
        (ledger.count_changes(job), "texts written"),
    )
    return f"{counts.total} pictures; " + ", ".join(f"{number} {what}" for number, what in numbers if number)


def shown(command: dict[str, Any]) -> str:
    """A recorded command as one would give it, with what differs from the defaults."""
    words = ["captioner caption", *command["paths"]]
    if command["list"] is not None:
        words.append(f"--from-file {command['list']}")
    for name in ("include", "exclude"):
        words += [f"--{name} '{pattern}'" for pattern in command[name]]
    words += [f"--output {output['format']}:{output['path']}" for output in command["outputs"]]
    if command["sidecar"] is not None:
        words.append(f"--sidecar {command['sidecar']} --existing {command['existing']}")
    if command["mirror"] is not None:
        words.append(f"--mirror {command['mirror']}")
    if command["metadata"]:
        words.append("--metadata")
    if command["shard"] != [0, 1]:
        words.append(f"--shard {command['shard'][0] + 1}/{command['shard'][1]}")
    return " ".join(words) + f"  (in {command['folder']})"
