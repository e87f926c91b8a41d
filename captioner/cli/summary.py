"""What a folder job tells at its end."""

from __future__ import annotations

from pathlib import Path

import click

from captioner.batch.job import Job
from captioner.batch.outputs import Outputs
from captioner.batch.survey import Survey
from captioner.cli.printing import printable
from captioner.ledger import Counts

SOME_FAILED = 3  # the exit code: done, but some pictures failed
INTERRUPTED = 130


def tell_summary(job: Job, outputs: Outputs, survey: Survey, ledger: Path, *, interrupted: bool) -> int:
    """Say on standard error what was done and what was not, each failure with its reason; returns the exit code."""
    counts = job.ledger.counts(job.number)
    failed, unsure = 0, 0
    for item, row in job.rows(outputs.min_confidence):
        if "error" in row:
            unsure += row["error"]["type"] == "LowConfidence"
            failed += row["error"]["type"] != "LowConfidence"
            _tell(f"{item.source}: {row['error']['detail']}")
    for source, reason in outputs.problems.items():
        _tell(f"{source}: {reason}")
    for failure in survey.failures:
        _tell(f"{failure.source}: {failure.reason}")
    _tell(_counted(counts, failed, unsure, outputs, survey))
    _tell_left_out(survey)
    if interrupted or (counts.pending and job.shard == (0, 1)):
        _tell(f"Interrupted: run the same command again to go on with the {counts.pending} that are left.")
        return INTERRUPTED
    for file, _ in outputs.files:
        _tell(f"Written: {file.path} ({file.format}).")
    if job.ledger.changes(job.number):
        _tell(f"To take the texts back: captioner undo {job.number} --ledger {ledger}")
    if counts.done == 0 and counts.skipped == 0 and counts.failed:
        raise click.ClickException("No picture could be captioned.")
    return SOME_FAILED if failed or outputs.problems or survey.failures else 0


def _counted(counts: Counts, failed: int, unsure: int, outputs: Outputs, survey: Survey) -> str:
    parts = [f"{counts.done - unsure} of {counts.total} pictures are captioned"]
    for number, what in (
        (failed, "failed"),
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
