"""What a job writes where: files that are made of all rows, and texts that belong to single pictures."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from captioner.batch.items import Item
from captioner.batch.job import Job
from captioner.batch.policies import Existing
from captioner.batch.style import TextStyle
from captioner.batch.writers import metadata as in_pictures
from captioner.batch.writers.alt_map import write_alt_map
from captioner.batch.writers.coco import write_coco
from captioner.batch.writers.contact_sheet import ContactSheetWriter, Thumbnail
from captioner.batch.writers.csv_table import write_csv
from captioner.batch.writers.jsonl import write_jsonl
from captioner.batch.writers.metadata import MetadataWriter
from captioner.batch.writers.parquet import require_pyarrow, write_parquet
from captioner.batch.writers.rows import Row, Write
from captioner.batch.writers.shards import ShardWriter
from captioner.batch.writers.sidecars import SidecarWriter, apply_sidecar, revert_sidecar
from captioner.errors import ConfigurationError, OutputError
from captioner.ledger import Change

FORMATS = ("jsonl", "csv", "parquet", "coco", "alt", "shards", "sheet")
_OF_ENDING = {".jsonl": "jsonl", ".csv": "csv", ".parquet": "parquet", ".tar": "shards", ".html": "sheet"}
_CHANGES_AT_ONCE = 256  # texts that are noted in one transaction


@dataclass(frozen=True)
class OutputFile:
    """One file that a job writes, and its format: one of FORMATS."""

    format: str
    path: Path

    @classmethod
    def parse(cls, text: str) -> OutputFile:
        """From `FORMAT:FILE`, or `FILE` whose ending tells the format.

        Raises:
            ConfigurationError: the ending tells no format.
        """
        name, colon, path = text.partition(":")
        if colon and name in FORMATS:
            return cls(name, Path(path))
        found = _OF_ENDING.get(Path(text).suffix.lower(), "jsonl" if Path(text).is_relative_to("/dev") else None)
        if found is None:
            raise ConfigurationError(
                f"The ending of {text} tells no format: name it, as in coco:{text}; there are {', '.join(FORMATS)}."
            )
        return cls(found, Path(text))

    def writer(self, thumbnail: Thumbnail) -> Write:
        """What writes it.

        Raises:
            ConfigurationError: a package that it needs is not installed.
        """
        if self.format == "parquet":
            require_pyarrow()
        writers: dict[str, Write] = {
            "jsonl": write_jsonl,
            "csv": write_csv,
            "parquet": write_parquet,
            "coco": write_coco,
            "alt": write_alt_map,
            "shards": ShardWriter(),
            "sheet": ContactSheetWriter(thumbnail=thumbnail),
        }
        return writers[self.format]


@dataclass(kw_only=True)
class Outputs:
    """All that a job writes.

    Attributes:
        files: each with what writes it.
        sidecars, metadata: the texts of single pictures, or None.
        min_confidence: captions that are less sure are left to a person.
        problems: pictures whose text could not be written, with the reason, as they come up.
    """

    style: TextStyle
    files: Sequence[tuple[OutputFile, Write]] = ()
    sidecars: SidecarWriter | None = None
    metadata: MetadataWriter | None = None
    min_confidence: float = 0.0
    problems: dict[str, str] = field(default_factory=dict)

    def skips(self, item: Item) -> bool:
        """Whether a picture needs no caption: all that is asked for is a sidecar, and there is one that stays."""
        if self.files or self.metadata is not None or self.sidecars is None:
            return False
        if self.sidecars.policy is not Existing.SKIP:
            return False
        try:
            return bool(self.sidecars.names.of_item(item).read_bytes().strip())
        except (OSError, OutputError):
            return False

    def write_texts(self, job: Job, rows: Iterable[tuple[Item, Row]]) -> None:
        """Write the texts of single pictures: what stood there is noted in the ledger before it is touched."""
        if self.sidecars is None and self.metadata is None:
            return
        rest = iter(rows)
        while some := list(islice(rest, _CHANGES_AT_ONCE)):
            changes = [(item, change) for item, row in some if "error" not in row for change in self._plan(item, row)]
            job.ledger.intend(job.number, (change for _, change in changes))
            for item, change in changes:
                try:
                    self._apply(job, item, change)
                except OutputError as error:
                    self.problems[item.source] = str(error)

    def publish(self, job: Job) -> None:
        """Write everything, from what the ledger holds; nothing if it was written and nothing has changed since.

        Raises:
            OutputError: a file cannot be written.
        """
        missing = any(not output.path.exists() for output, _ in self.files if output.format != "shards")
        if job.ledger.is_published(job.number) and not missing:
            return
        self.write_texts(job, job.rows(self.min_confidence))
        for output, write in self.files:
            write(job.rows(self.min_confidence), output.path, self.style)
        if not self.problems:
            job.ledger.set_published(job.number)

    def _plan(self, item: Item, row: Row) -> Iterator[Change]:
        for writer in (self.sidecars, self.metadata):
            if writer is None:
                continue
            try:
                change = writer.plan(item, row)
            except OutputError as error:
                self.problems[item.source] = str(error)
            else:
                if change is not None:
                    yield change

    def _apply(self, job: Job, item: Item, change: Change) -> None:
        if self.metadata is None or not change.target.startswith(in_pictures.TARGET):
            apply_sidecar(change)
            return
        self.metadata.apply(change)
        status = Path(item.path).stat()
        job.ledger.refresh(job.number, os.fsencode(item.source), size=status.st_size, mtime_ns=status.st_mtime_ns)


def undo(job: Job, metadata: MetadataWriter | None) -> tuple[int, list[str]]:
    """Take back every text that the job wrote and nobody has edited since.

    Returns:
        how many were taken back, and the names of those that stay because somebody has edited them.

    Raises:
        ConfigurationError: texts in pictures are to be taken back, and `metadata` is None.
        OutputError: a file cannot be read or written; what was taken back until then is noted.
    """
    back: list[bytes] = []
    edited: list[str] = []
    changes = job.ledger.changes(job.number)
    try:
        for change in changes:
            if not change.target.startswith(in_pictures.TARGET):
                reverted = revert_sidecar(change)
            elif metadata is None:
                raise ConfigurationError("Texts in pictures are to be taken back, which needs exiftool: install it.")
            else:
                reverted = metadata.revert(change)
            if reverted:
                back.append(change.target)
            else:
                edited.append(os.fsdecode(change.target.removeprefix(in_pictures.TARGET)))
    finally:
        job.ledger.forget(job.number, back)
        job.ledger.set_published(job.number, published=False)
    return len(back), edited


def described(outputs: Sequence[OutputFile]) -> list[dict[str, Any]]:
    """Output files as JSON values, for the ledger."""
    return [{"format": output.format, "path": str(output.path.absolute())} for output in outputs]
