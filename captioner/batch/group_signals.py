"""The signals that a terminal, systemd and Slurm send to a whole group of processes; they are for the job alone.

The job's process decides when to stop, and what a process of its own does then ends well. Such a process ignores these
signals, but not before its first instructions; one that came until then would end it.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

GROUP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def withheld() -> Iterator[None]:
    """A process that is started in this block has them withheld from it, for as long as it does not ask for them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, GROUP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
