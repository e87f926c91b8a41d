"""Who holds a lease: a process, so that one that died is told from one that works."""

from __future__ import annotations

import os
import socket
from pathlib import Path


def this_holder() -> str:
    """The name of this process, unlike that of any other on any machine at any time."""
    return f"{socket.gethostname()}:{os.getpid()}:{_begun(os.getpid())}"


def lives(holder: str) -> bool:
    """Whether the process that holds a lease may still be there; of other machines' processes one cannot know."""
    host, process, begun = holder.rsplit(":", 2)
    if host != socket.gethostname():
        return True
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return _begun(int(process)) == begun


def _begun(process: int) -> str:
    """When a process was started, in ticks since the machine was; empty where the system does not tell.

    Numbers of processes are used again: in a container, the next one often has the number of the one before.
    """
    try:
        return Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
