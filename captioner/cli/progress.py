"""The progress bar of the commands that take a while."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import TypeVar

Item = TypeVar("Item")


def with_progress(items: Iterable[Item], *, total: int, lines_follow: bool = False) -> Iterable[Item]:
    """The items, with a bar on standard error if that is a terminal through which none of our lines run meanwhile.

    lines_follow: whether the caller prints a line for each item on standard output.
    """
    if not sys.stderr.isatty() or (lines_follow and sys.stdout.isatty()):
        return items
    from tqdm import tqdm

    return tqdm(items, total=total, unit=" pictures", file=sys.stderr)
