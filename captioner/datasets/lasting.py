"""Objects by the hundred thousand that stay, as those of an index of COCO's size do."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def made_to_last() -> Iterator[None]:
    """What is made in this context is old at its end.

    Python looks for garbage among new objects, again and again until it takes them for old. For a million of them that
    takes as long as to make them.
    """
    looked = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()  # all objects go where nobody looks,
        gc.unfreeze()  # and from there to the old ones
        if looked:
            gc.enable()
