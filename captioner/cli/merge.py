"""`captioner merge`: the outputs of one command that was shared out with --shard."""

from __future__ import annotations

import os
import re
from contextlib import ExitStack
from pathlib import Path

import click

from captioner.batch.merging import Merged, find_shards
from captioner.batch.outputs import OutputFile
from captioner.batch.style import TextStyle
from captioner.batch.writers.rows import Write
from captioner.cli.caption_job import thumbnail_maker
from captioner.cli.output import check_folder
from captioner.cli.summary import SOME_FAILED, tell_some
from captioner.errors import ConfigurationError, LedgerError
from captioner.ledger import Ledger


@click.command
@click.argument(
    "ledgers", metavar="LEDGER...", nargs=-1, required=True, type=click.Path(path_type=Path, dir_okay=False)
)
@click.option(
    "--output",
    "outputs",
    metavar="[FORMAT:]FILE",
    multiple=True,
    required=True,
    help="Write all captions to FILE, as captioner caption does. May be given several times.",
)
@click.pass_context
def merge(context: click.Context, /, ledgers: tuple[Path, ...], outputs: tuple[str, ...]) -> None:
    """Join the shards of one command: the ledgers of captioner caption --shard 1/N ... N/N.

    Nothing is written unless every shard is there, they are of the same list of pictures and the same settings, and
    every picture has its caption or its error. Then the outputs are those of the same command without --shard, byte for
    byte. Texts beside or in pictures are there already: each shard wrote its own. Exit code 3: some pictures failed.
    """
    try:
        files = [OutputFile.parse(output) for output in outputs]
    except ConfigurationError as error:
        raise click.UsageError(str(error), context) from error
    for file in files:
        check_folder(file.path)
    for path in ledgers:
        if not path.is_file():
            raise click.UsageError(f"There is no ledger {path}: check the path.", context)
    with ExitStack() as parts:
        opened = [parts.enter_context(_opened(path)) for path in dict.fromkeys(path.resolve() for path in ledgers)]
        code = _merge([(file, file.writer(thumbnail_maker(files, parts))) for file in files], opened)
    if code:
        context.exit(code)


def _opened(path: Path) -> Ledger:
    """The ledger. The advice of one that cannot be used is for captioner caption; merge has no --ledger."""
    try:
        return Ledger(path)
    except LedgerError as error:
        advice = "give ledgers of captioner caption --shard that can be read and written"
        raise LedgerError(re.sub(r"name .* with --ledger", advice, str(error))) from error


def _merge(files: list[tuple[OutputFile, Write]], ledgers: list[Ledger]) -> int:
    """Check and write everything; returns the exit code."""
    shards = find_shards(ledgers)
    merged = Merged(shards)
    command = shards[0].command
    if merged.failed:
        failures = (
            (os.fsdecode(entry.source), error["detail"])
            for shard in shards
            for entry, error in shard.ledger.failures(shard.job, shard.share)
        )
        tell_some(failures, merged.failed)
    if merged.failed and not merged.captioned:
        raise click.ClickException("No picture could be captioned.")
    for file, write in files:
        write(merged.rows(command["min_confidence"]), file.path, TextStyle(**command["style"]))
    total = merged.captioned + merged.failed
    click.echo(f"{merged.captioned} of {total} pictures of {len(shards)} shards are captioned.", err=True)
    for file, _ in files:
        click.echo(f"Written: {file.path} ({file.format}).", err=True)
    return SOME_FAILED if merged.failed else 0
