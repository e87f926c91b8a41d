"""From what a file says of images to a data set: the pictures are found, captions cleaned, splits made.

Every kind of data set but the official layout of Flickr goes through `arrange`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePosixPath

from captioner.datasets.records import SPLITS, DataSet, LeftOut, Record
from captioner.errors import DatasetError

TRAIN_SHARE, DEV_SHARE = 0.8, 0.1  # the rest is the test split
_LOOKED_FOR = 20  # how many pictures are looked for to find their folder
_SYNONYMS = {"training": "train", "val": "dev", "valid": "dev", "validation": "dev", "testing": "test"}
_has_letter_or_digit = re.compile(r"[^\W_]")  # what a word has, see captioner.text.tokenizer


@dataclass(slots=True)
class Described:
    """An image as a file describes it: its name as it is written, its captions, and its split if one is named."""

    name: str
    captions: list[str]
    split: str | None = None


def split_named(name: str, where: str) -> str:
    """The split that a file calls `name`: one of SPLITS.

    Raises:
        DatasetError: it is no name of a split.
    """
    split = _SYNONYMS.get(name.strip().lower(), name.strip().lower())
    if split not in SPLITS:
        raise DatasetError(f"{where}: '{name[:60]}' is no split; write train, dev (or val) or test")
    return split


def split_of_digest(name: str) -> str:
    """The split of an image that no file puts into one, by the SHA-256 of its name without folders.

    It depends on the name alone: wherever the pictures lie, in whatever order and with whatever others, an image stays
    in its split.
    """
    base = unicodedata.normalize("NFC", re.split(r"[/\\]", name)[-1])
    place = int.from_bytes(sha256(base.encode("utf-8", "surrogatepass")).digest()[:8], "big") / 2**64
    return "train" if place < TRAIN_SHARE else "dev" if place < TRAIN_SHARE + DEV_SHARE else "test"


def find_folder(names: Sequence[str], candidates: Sequence[Path], of: Path) -> Path:
    """The candidate below which the images called `names` lie: the one where most of some of them are.

    Raises:
        DatasetError: none of those that were looked for is in any of them.
    """
    some = names[:: max(1, len(names) // _LOOKED_FOR)]
    counts = [sum(_picture(folder, name).exists() for name in some) for folder in candidates]
    if not any(counts):
        folders = ", ".join(dict.fromkeys(str(folder) for folder in candidates if folder.is_dir()))
        raise DatasetError(
            f"no picture of {of} is there: {some[0]} was looked for in {folders}; put the pictures into one of these"
        )
    return candidates[counts.index(max(counts))]


def arrange(path: Path, images: Sequence[Described], folder: Path, notes: Sequence[str] = ()) -> DataSet:
    """The data set of `images`, whose names are those of pictures in `folder`.

    A caption without a letter or a digit is no caption. Without any split named, `split_of_digest` makes them.

    Raises:
        DatasetError: some images have a split and others none, or as `DataSet`.
    """
    left_out: list[LeftOut] = []
    kept: list[tuple[str, str | None, Record]] = []
    for image in images:
        picture = _picture(folder, image.name)
        captions = tuple([caption.strip() for caption in image.captions if _has_letter_or_digit.search(caption)])
        if captions:
            kept.append((image.name, image.split, Record(picture, captions)))
        else:
            reason = "None of its captions has a word." if image.captions else "It has no caption."
            left_out.append(LeftOut(picture, image.split or "", reason))
    told = [*notes]
    unnamed = [name for name, split, _ in kept if split is None]
    if kept and len(unnamed) == len(kept):
        splits = _by_digest([(name, record) for name, _, record in kept])
        sizes = ", ".join(f"{len(records):,} {split}" for split, records in splits.items())
        told.append(
            f"{path} names no splits, so the digests of the pictures' names have made them: {sizes} (docs/training.md)"
        )
    elif unnamed:
        raise DatasetError(
            f"{path} names a split for {len(kept) - len(unnamed)} pictures and none for {len(unnamed)} ({unnamed[0]}); "
            "name one for every picture, or for none"
        )
    else:
        splits = {split: [] for split in SPLITS}
        for _, named, record in kept:
            splits[named or ""].append(record)
    found = {split: records for split, records in splits.items() if records}
    return DataSet(path=path, splits=found, left_out=tuple(left_out), notes=tuple(told))


def _by_digest(images: Sequence[tuple[str, Record]]) -> dict[str, list[Record]]:
    splits: dict[str, list[Record]] = {split: [] for split in SPLITS}
    for name, record in images:
        splits[split_of_digest(name)].append(record)
    if len(images) > 1:  # of a few pictures, chance may leave a split empty without which nobody can train
        for wanted in ("dev", "train"):
            if not splits[wanted]:
                largest = max(splits, key=lambda split: len(splits[split]))
                splits[wanted].append(splits[largest].pop())
    return splits


def _picture(folder: Path, name: str) -> Path:
    """The path of a picture. Its name may be spelled in another normal form of Unicode, or with backslashes."""
    path = folder / name
    if (name.isascii() and "\\" not in name) or path.exists():
        return path
    for other in (
        unicodedata.normalize("NFC", name),
        unicodedata.normalize("NFD", name),
        str(PurePosixPath(*name.split("\\"))),
    ):
        if (folder / other).exists():
            return folder / other
    return path
