"""Freed memory, returned to the system: without this, a service grows with every model that it loads.

Nothing is lost, but glibc gives most threads a heap of their own, keeps freed pieces between used ones in each of
them, and a new model brings new threads. On other systems both functions do nothing more than collect garbage.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from typing import Any

_M_ARENA_MAX = -8  # malloc.h of glibc


def share_one_heap() -> None:
    """Have all threads allocate in one place; call it before they start. Python's lock keeps them apart anyway."""
    if (set_option := _function("mallopt")) is not None:
        set_option(_M_ARENA_MAX, 1)


def give_back() -> None:
    """Return what Python and the C library keep of what is not used any more. All threads wait for some 0.2 seconds."""
    gc.collect()  # models hold themselves in circles, and Python would find a large one late
    if (trim := _function("malloc_trim")) is not None:
        trim(0)


def _function(name: str) -> Any:  # as ctypes has it
    """A function of the C library, or None: musl and others have neither."""
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
