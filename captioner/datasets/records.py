"""Record: one picture of a data set with its captions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Record:
    """A picture's path, and its captions as people wrote them."""

    image: Path
    captions: tuple[str, ...]
