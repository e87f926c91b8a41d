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
    """Whether the job is to stop, when it is called, and the exit code that says why.

    Attributes:
        at_once: is called before a second Ctrl-C ends the process; it ends processes that would work on for long.
    """

    at_once: Callable[[], None] | None = None

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
        """Handle a signal. Ctrl-C that is not the first one ends the process here, with 130.

        No exception could do that: one that is raised while foreign code runs, such as the imports of a model, may
        be swallowed there or end the process otherwise. Nothing is lost, as by any kill: see the ledger.
        """
        if self._number is None:
            self._number = number
            _tell(b"\nFinishing the batches in flight; press Ctrl-C again to stop at once.\n")
        elif number == signal.SIGINT:  # whoever sends SIGTERM twice knows SIGKILL
            end, self.at_once = self.at_once, None  # a third one does not wait for it
            try:
                if end is not None:
                    end()
            finally:
                _tell(b"\ncaptioner: interrupted\n")
                os._exit(128 + number)


@contextmanager
def stopping() -> Iterator[StopSignal]:
    """Ctrl-C and SIGTERM are what the value tells of, as long as the block lasts.

    After it they are ignored until the process ends: the work is done, and its exit code stands. (Python gives a
    handler of ours up some time before the process ends, but leaves a signal that is ignored as it is.)
    """
    stop = StopSignal()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop.take)
    try:
        yield stop
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)


def _tell(line: bytes) -> None:
    """Not through sys.stderr: a signal may come in the middle of its writing, which allows no second one."""
    with suppress(OSError):
        os.write(2, line)


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
