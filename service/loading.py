"""A model is loaded in a thread that ends."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Loaded = TypeVar("Loaded")


def in_a_thread_that_ends(load: Callable[[], Loaded]) -> Loaded:
    """What `load` returns or raises, called in a thread of its own.

    A thread that computes has a team of OpenMP threads from then on, and loading a model computes. Where the loading
    thread keeps its team, the thread that runs the model makes a second one; with more threads than processors, those
    of GNU's OpenMP no longer wait awake for the next piece of work, and each picture takes a third longer.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="load") as executor:
        return executor.submit(load).result()
