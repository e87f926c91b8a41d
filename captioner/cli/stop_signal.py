"""Ctrl-C during a job: once, it finishes what it has begun; twice, it ends at once."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import click

_NAP_SECONDS = 0.1


@contextmanager
def stopping() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C was pressed once; when it is pressed twice, KeyboardInterrupt is raised."""
    pressed = False

    def press(number: int, frame: FrameType | None) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True
        click.echo("\nFinishing the batches in flight; press Ctrl-C again to stop at once.", err=True)

    before = signal.signal(signal.SIGINT, press)
    try:
        yield lambda: pressed
    finally:
        signal.signal(signal.SIGINT, before)


def sleep_until(is_to_stop: Callable[[], bool], seconds: float) -> None:
    """Sleep, but no longer than until `is_to_stop`.

    Raises:
        KeyboardInterrupt: it is to stop.
    """
    end = time.monotonic() + seconds
    while not is_to_stop():
        left = end - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(left, _NAP_SECONDS))
    raise KeyboardInterrupt
