"""Ctrl-C or SIGTERM during a job: it finishes what it has begun; Ctrl-C after that ends it at once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

_NAP_SECONDS = 0.1


class StopSignal:
    """Whether the job is to stop, when it is called, and the exit code that says why."""

    def __init__(self) -> None:
        """Nothing has come yet."""
        self._number: int | None = None

    def __call__(self) -> bool:
        """Whether a signal has come."""
        return self._number is not None

    @property
    def exit_code(self) -> int:
        """As a shell tells of a process that a signal ends: 130 for Ctrl-C, 143 for SIGTERM; 0 if none has come."""
        return 0 if self._number is None else 128 + self._number

    def take(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal.

        Raises:
            KeyboardInterrupt: it is Ctrl-C, and not the first signal.
        """
        if self._number is None:
            self._number = number
            # Not through sys.stderr: a signal may come in the middle of its writing, which allows no second one.
            with suppress(OSError):
                os.write(2, b"\nFinishing the batches in flight; press Ctrl-C again to stop at once.\n")
        elif number == signal.SIGINT:  # whoever sends SIGTERM twice knows SIGKILL
            raise KeyboardInterrupt


@contextmanager
def stopping() -> Iterator[StopSignal]:
    """Ctrl-C and SIGTERM are what the value tells of, as long as the block lasts."""
    stop = StopSignal()
    before = [(number, signal.signal(number, stop.take)) for number in (signal.SIGINT, signal.SIGTERM)]
    try:
        yield stop
    finally:
        for number, handler in before:
            signal.signal(number, handler)


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
