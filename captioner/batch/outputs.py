"""What a job writes where: files that are made of all rows, and texts that belong to single pictures."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
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
from captioner.batch.writers.jsonl import write_jsonl, write_lines
from captioner.batch.writers.metadata import MetadataWriter
from captioner.batch.writers.parquet import require_pyarrow, write_parquet
from captioner.batch.writers.rows import Row, Write
from captioner.batch.writers.shards import ShardWriter, shard_path
from captioner.batch.writers.sidecars import SidecarWriter, apply_sidecar, revert_sidecar
from captioner.errors import ConfigurationError, OutputError
from captioner.ledger import Change, Ledger

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
        broken: reasons why files could not be written.
        published: the files that were written and hold what the ledger holds.
        unchanged: the files that held it already, if nothing had to be written.
    """

    style: TextStyle
    files: Sequence[tuple[OutputFile, Write]] = ()
    sidecars: SidecarWriter | None = None
    metadata: MetadataWriter | None = None
    min_confidence: float = 0.0
    problems: dict[str, str] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    published: list[OutputFile] = field(default_factory=list)
    unchanged: list[OutputFile] = field(default_factory=list)

    @property
    def have_texts(self) -> bool:
        """Whether texts of single pictures are written."""
        return self.sidecars is not None or self.metadata is not None

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
        """Write the texts of single pictures, and note which are written.

        What stood there is noted in the ledger before it is touched. A text that is written is not looked at again:
        whoever edits it has the last word.
        """
        if not self.have_texts:
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
            written = (os.fsencode(item.source) for item, _ in some if item.source not in self.problems)
            job.ledger.set_written(job.number, written)

    def is_published(self, job: Job) -> bool:
        """Whether everything was written, nothing has changed since, and the files are still there."""
        return job.ledger.is_published(job.number) and all(
            (shard_path(file.path, 0) if file.format == "shards" else file.path).exists() for file, _ in self.files
        )

    def publish(self, job: Job) -> None:
        """Write everything, from what the ledger holds; nothing if it was written and nothing has changed since.

        What cannot be written stands in `problems` and `broken` afterwards; the rest is written all the same.
        """
        self.broken.clear()
        if not self.is_published(job):
            job.publish(lambda: self._publish(job))
        elif not self.published:  # by an earlier run; else by this one, which watches
            self.unchanged = [file for file, _ in self.files]

    def _publish(self, job: Job) -> None:
        self.published.clear()
        self.unchanged.clear()
        if self.is_published(job):  # another worker was first
            self.unchanged = [file for file, _ in self.files]
            return
        revision = job.ledger.revision(job.number)
        self.problems.clear()  # all that is not written is tried again
        if self.have_texts:
            self.write_texts(job, job.unwritten(self.min_confidence))
        for file, write in self.files:
            self._write_file(job, file, write)
        if not self.problems and not self.broken:
            job.ledger.set_published(job.number, revision)

    def _write_file(self, job: Job, file: OutputFile, write: Write) -> None:
        try:
            if file.format == "jsonl" and self.style.keeps_captions and self.min_confidence == 0.0:
                write_lines(job.lines(), file.path)
            else:
                write(job.rows(self.min_confidence), file.path, self.style)
        except OutputError as error:
            self.broken.append(str(error))
        else:
            self.published.append(file)

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
                    yield replace(change, source=os.fsencode(item.source))

    def _apply(self, job: Job, item: Item, change: Change) -> None:
        if self.metadata is None or not change.target.startswith(in_pictures.TARGET):
            apply_sidecar(change)
            return
        self.metadata.apply(change)
        _refresh(job.ledger, job.number, change)


@dataclass(kw_only=True)
class Undone:
    """What became of the texts that a job wrote.

    Attributes:
        back: how many places are now as they were before.
        edited: the places that stay, because somebody has edited them since, or removed them.
        problems: places that could not be written, with the reason.
    """

    back: int = 0
    edited: list[str] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)


def undo(ledger: Ledger, job: int, metadata: MetadataWriter | None) -> Undone:
    """Take back every text that the job wrote and nobody has edited since.

    The job's captions stay in the ledger, so that its command writes the texts again without captioning anew.

    Args:
        metadata: takes texts out of pictures; None if the job wrote none.
    """
    done = Undone()
    rest = iter(ledger.changes(job))
    while some := list(islice(rest, _CHANGES_AT_ONCE)):
        back: list[Change] = []
        for change in some:
            place = os.fsdecode(change.target.removeprefix(in_pictures.TARGET))
            try:
                if _revert(ledger, job, change, metadata):
                    back.append(change)
                else:
                    done.edited.append(place)
            except OutputError as error:
                done.problems[place] = str(error)
        ledger.forget(job, back)
        done.back += len(back)
    return done


def has_metadata(changes: Iterable[Change]) -> bool:
    """Whether any of them is a text in a picture."""
    return any(change.target.startswith(in_pictures.TARGET) for change in changes)


def _revert(ledger: Ledger, job: int, change: Change, metadata: MetadataWriter | None) -> bool:
    if metadata is None or not change.target.startswith(in_pictures.TARGET):
        return revert_sidecar(change)
    reverted = metadata.revert(change)
    _refresh(ledger, job, change)
    return reverted


def _refresh(ledger: Ledger, job: int, change: Change) -> None:
    """The picture is another file now that text was written into it, but it needs no other caption."""
    with suppress(FileNotFoundError):
        status = Path(os.fsdecode(change.target.removeprefix(in_pictures.TARGET))).stat()
        ledger.refresh(job, change.source, size=status.st_size, mtime_ns=status.st_mtime_ns)


def described(outputs: Sequence[OutputFile]) -> list[dict[str, Any]]:
    """Output files as JSON values, for the ledger."""
    return [{"format": output.format, "path": str(output.path.absolute())} for output in outputs]
