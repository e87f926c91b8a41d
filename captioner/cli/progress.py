"""The progress bar of the commands that take a while."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from typing import TypeVar

import click

from captioner.ledger import Counts, Done

Item = TypeVar("Item")


def with_progress(items: Iterable[Item], *, total: int, lines_follow: bool = False) -> Iterable[Item]:
    """The items, with a bar on standard error if that is a terminal through which none of our lines run meanwhile.

    lines_follow: whether the caller prints a line for each item on standard output.
    """
    if not sys.stderr.isatty() or (lines_follow and sys.stdout.isatty()):
        return items
    from tqdm import tqdm

    return tqdm(items, total=total, unit=" pictures", file=sys.stderr)


class JobProgress:
    """How far a job is: a bar with rate, time left and failures, or without a terminal a plain line now and then."""

    _SECONDS = 30.0  # between two lines

    def __init__(self, counts: Counts) -> None:
        from tqdm import tqdm

        self._counts, self._done, self._failed = counts, 0, 0
        self._started = self._told = time.monotonic()
        self._bar = None
        if sys.stderr.isatty():
            self._bar = tqdm(
                total=counts.total, initial=counts.total - counts.pending, unit=" pictures", file=sys.stderr
            )

    def advance(self, outcomes: Sequence[Done]) -> None:
        """Count a recorded batch."""
        self._done += len(outcomes)
        self._failed += sum(done.error is not None for done in outcomes)
        if self._bar is not None:
            self._bar.set_postfix(failed=self._failed, refresh=False)
            self._bar.update(len(outcomes))
        elif (now := time.monotonic()) - self._told >= self._SECONDS:
            self._told = now
            rate = self._done / (now - self._started)
            left = (self._counts.pending - self._done) / rate
            done = self._counts.total - self._counts.pending + self._done
            click.echo(
                f"{done} of {self._counts.total} pictures, {rate:.1f} a second, {left:.0f} s left, "
                f"{self._failed} failed",
                err=True,
            )

    def __enter__(self) -> JobProgress:
        return self

    def __exit__(self, *of_error: object) -> None:
        if self._bar is not None:
            self._bar.close()
