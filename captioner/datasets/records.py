"""DataSet: the splits of a data set, each a list of records, and what was left out of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from captioner.errors import DatasetError

SPLITS = ("train", "dev", "test")


@dataclass(frozen=True, slots=True)
class Record:
    """A picture's path, and its captions as people wrote them."""

    image: Path
    captions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A picture that is not used, the split that it would be in (or "") and why, as a sentence."""

    image: Path
    split: str
    reason: str


def told_of(left_out: Sequence[LeftOut]) -> str:
    """One sentence on at least one picture that is left out, without its full stop."""
    many = "1 picture is" if len(left_out) == 1 else f"{len(left_out):,} pictures are"
    return f"{many} left out, such as {left_out[0].image}: {left_out[0].reason.rstrip('.')}"


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """What was read of a data set.

    Attributes:
        path: the folder or the file that was named.
        splits: the records of each split that there is, by its name (one of SPLITS).
        left_out: the pictures without a usable caption.
        notes: what whoever uses it must know, a sentence each.

    Raises:
        DatasetError: no record at all, or a picture is in two splits.
    """

    path: Path
    splits: dict[str, list[Record]]
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not any(self.splits.values()):
            raise DatasetError(f"{self.path} has no picture with a caption that has a word in it; add captions")
        seen: dict[Path, str] = {}
        for split, records in self.splits.items():
            for record in records:
                if record.image in seen:
                    raise DatasetError(
                        f"{record.image.name} is listed in {seen[record.image]} and again in {split}: splits must not "
                        "overlap"
                    )
                seen[record.image] = split

    def split(self, name: str) -> list[Record]:
        """The records of one split.

        Raises:
            DatasetError: there is no such split.
        """
        if name not in self.splits:
            raise DatasetError(f"{self.path} has no split '{name}'; it has {', '.join(self.splits)}")
        return self.splits[name]

    @property
    def training_captions(self) -> list[str] | None:
        """The captions of the training split, which a model may know by heart; None if there is no such split."""
        if "train" not in self.splits:
            return None
        return [caption for record in self.splits["train"] for caption in record.captions]
