"""Where the sidecar of each picture of a job lies: a rule that no two pictures fight over.

a.jpg has a.txt. But a.jpg and a.png in one folder have a.jpg.txt and a.png.txt: a picture keeps its ending if another
picture of the job has the same name without its ending, or is called so altogether (a.jpg beside a.jpg.png, whose short
name it would be). This depends on the pictures of the job alone, not on their order and not on what else is in the
folder, so a resumed job finds the names that it gave.

To know, one goes through all pictures once before the first is written. What is kept of each is two digests of 8 bytes,
of its name without its ending and of its whole name: 16 MB for a million, wherever in the list the two stand. Sorting
alone would not do: a.b.jpg stands between a.jpg and a.png, and so may a million others. Two names have one digest by
chance once in ten million jobs of a million pictures; then one of them keeps its ending, and nothing is lost.
"""

from __future__ import annotations

import os
import unicodedata
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt

from captioner.batch.items import Item
from captioner.errors import OutputError

Keys = npt.NDArray[np.uint64]

_NO_KEYS: Keys = np.empty(0, dtype=np.uint64)


@dataclass(frozen=True, kw_only=True)
class SidecarNames:
    """The places of sidecars.

    Attributes:
        suffix: ".txt" or ".caption".
        mirror: the folder of a tree of their own; None: beside the pictures.
        long: digests of the names without ending that are too short for a sidecar's name, sorted.
        twice: digests of the places that two pictures would have even so, sorted: pictures of the same path below two
            folders that are mirrored into one.
    """

    suffix: str
    mirror: Path | None
    long: Keys = field(default_factory=lambda: _NO_KEYS, repr=False)
    twice: Keys = field(default_factory=lambda: _NO_KEYS, repr=False)

    @classmethod
    def of(cls, items: Iterable[Item], *, suffix: str = ".txt", mirror: Path | None = None) -> Self:
        """The names for a job of `items`: all of it, even if this process writes only a share."""
        names = cls(suffix=suffix, mirror=mirror)
        stems, wholes, places = array("Q"), array("Q"), array("Q")
        for item in items:
            if item.member is not None and mirror is None:
                continue
            place = names._place(item)
            stem, ending = _split(place)
            stems.append(_key(_folded(stem)))
            if ending:
                wholes.append(_key(_folded(place)))
            if mirror is not None:
                places.append(_key(os.fsencode(place)))
        long = np.union1d(_repeated(stems), np.intersect1d(_keys(stems), _keys(wholes)))
        return cls(suffix=suffix, mirror=mirror, long=long, twice=_repeated(places))

    def of_item(self, item: Item) -> Path:
        """The absolute path of an item's sidecar.

        Raises:
            OutputError: the item lies in an archive and there is no mirrored tree, its place is outside the tree, or
                another picture has the same place.
        """
        if self.mirror is None and item.member is not None:
            raise OutputError(
                f"{item.source} lies in an archive, which has no room for a sidecar: write sidecars to a mirrored tree."
            )
        if self.mirror is not None and ".." in item.relative.split("/"):
            raise OutputError(f"The sidecar of {item.source} would lie outside of {self.mirror}: name its folder.")
        place = self._place(item)
        if _contains(self.twice, _key(os.fsencode(place))):
            raise OutputError(
                f"Another picture of this job has the same place in {self.mirror} as {item.source}: mirror one folder "
                "at a time, or name the folder above them."
            )
        stem = _split(place)[0]
        return Path((place if _contains(self.long, _key(_folded(stem))) else stem) + self.suffix)

    def _place(self, item: Item) -> str:
        """Where the picture itself lies, or would lie in the mirrored tree."""
        if self.mirror is None:
            return _absolute(item.path)
        return _absolute(f"{self.mirror}/{item.relative.lstrip('/')}")


def _absolute(path: str) -> str:
    return path if path.startswith("/") else f"{Path.cwd()}/{path.removeprefix('./')}"


def _split(place: str) -> tuple[str, str]:
    """A path without its ending, and the ending with its full stop, or nothing."""
    stem, stop, ending = place.rpartition(".")
    if not stop or "/" in ending or not stem or stem.endswith("/"):
        return place, ""
    return stem, stop + ending


def _folded(place: str) -> bytes:
    """A name as file systems see it that take a.JPG and a.jpg, or two ways to write an é, for the same."""
    folded = place.lower() if place.isascii() else unicodedata.normalize("NFC", place.casefold())
    return os.fsencode(folded)


def _key(name: bytes) -> int:
    return int.from_bytes(blake2b(name, digest_size=8).digest(), "little")


def _keys(found: array[int]) -> Keys:
    return np.frombuffer(found, dtype=np.uint64) if found else _NO_KEYS


def _repeated(found: array[int]) -> Keys:
    """The keys that are there more than once, sorted, each once."""
    keys = np.sort(_keys(found))
    return np.unique(keys[1:][keys[1:] == keys[:-1]])


def _contains(keys: Keys, key: int) -> bool:
    place = int(np.searchsorted(keys, np.uint64(key)))
    return place < len(keys) and int(keys[place]) == key
