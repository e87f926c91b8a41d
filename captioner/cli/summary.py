"""What a folder job tells at its end."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import click

from captioner.batch.job import Job, item_of
from captioner.batch.outputs import Outputs
from captioner.batch.survey import Survey
from captioner.cli.printing import printable
from captioner.errors import OutputError
from captioner.ledger import Counts

SOME_FAILED = 3  # the exit code: done, but some pictures failed
_MOST_TOLD = 20  # of each kind: a terminal is no place for a hundred thousand lines


def tell_summary(job: Job, outputs: Outputs, survey: Survey, ledger: Path, *, stop_code: int) -> int:
    """Say on standard error what was done and what was not, failures with their reasons; returns the exit code.

    Args:
        stop_code: the exit code of a job that was stopped; 0 if it was not.

    Raises:
        ClickException: no picture could be captioned.
        OutputError: an output file could not be written.
    """
    counts = job.counts()
    failures = ((item_of(entry).source, error["detail"]) for entry, error in job.ledger.failures(job.number, job.share))
    tell_some(failures, counts.failed)
    unsure, first_unsure = _unsure(job, outputs.min_confidence)
    tell_some(first_unsure, unsure)
    tell_some(outputs.problems.items(), len(outputs.problems))
    tell_some(((failure.source, failure.reason) for failure in survey.failures), len(survey.failures))
    _tell(_counted(counts, unsure, outputs, survey))
    if counts.total == 0 and job.share.shard[1] > 1:
        number, shards = job.share.shard
        _tell(
            f"Shard {number + 1}/{shards} has nothing to do: the pictures fill fewer batches than there are shards. "
            f"A --batch-size below {job.share.batch_size} for all shards gives it some."
        )
    _tell_left_out(survey)
    for file in outputs.published:
        _tell(f"Written: {file.path} ({file.format}).")
    for file in outputs.unchanged:
        _tell(f"Up to date: {file.path} ({file.format}).")
    if job.ledger.count_changes(job.number):
        _tell(f"To take the texts back: captioner undo {job.number} --ledger {ledger}")
    if outputs.broken:
        raise OutputError(" ".join(outputs.broken))
    if stop_code:
        _tell(_how_to_go_on(job, counts))
        return stop_code
    if counts.done == 0 and counts.skipped == 0 and counts.failed:
        raise click.ClickException("No picture could be captioned.")
    return SOME_FAILED if counts.failed or outputs.problems or survey.failures else 0


def tell_some(reasons: Iterable[tuple[str, str]], total: int) -> None:
    """The first of `total` places, each with its reason, and how many more there are."""
    for source, reason in islice(reasons, min(total, _MOST_TOLD)):
        _tell(f"{source}: {reason}")
    if total > _MOST_TOLD:
        _tell(f"... and {total - _MOST_TOLD} more: a .jsonl file, as --output, has each with its reason.")


def _unsure(job: Job, min_confidence: float) -> tuple[int, list[tuple[str, str]]]:
    """How many captions are left to a person, and the first of them."""
    count = 0
    first: list[tuple[str, str]] = []
    if min_confidence > 0.0:
        for item, row in job.rows(min_confidence):
            if row.get("error", {}).get("type") == "LowConfidence":
                count += 1
                if len(first) < _MOST_TOLD:
                    first.append((item.source, row["error"]["detail"]))
    return count, first


def _how_to_go_on(job: Job, counts: Counts) -> str:
    if counts.pending:
        return f"Interrupted: run the same command again to go on with the {counts.pending} that are left."
    if not job.ledger.is_published(job.number):
        return "Interrupted: run the same command again to write the outputs."
    return "Stopped; the same command goes on from here."


def _counted(counts: Counts, unsure: int, outputs: Outputs, survey: Survey) -> str:
    parts = [f"{counts.done - unsure} of {counts.total} pictures are captioned"]
    for number, what in (
        (counts.failed, "failed"),
        (unsure, "left to a person, being less sure than --min-confidence"),
        (counts.skipped, "skipped, having a text"),
        (len(outputs.problems), "could not have their text written"),
        (len(survey.failures), "folders or archives could not be listed"),
    ):
        if number:
            parts.append(f"{number} {what}")
    return "; ".join(parts) + "."


def _tell_left_out(survey: Survey) -> None:
    left_out = {
        "hidden": survey.hidden,
        "excluded": survey.excluded,
        "other files": survey.other_files,
        "archives not named": survey.archives,
        "links": survey.links,
        "repeated": survey.repeated,
    }
    if any(left_out.values()):
        _tell("Left out: " + ", ".join(f"{number} {what}" for what, number in left_out.items() if number) + ".")


def _tell(line: str) -> None:
    click.echo(printable(line), err=True)
