"""A folder job: what is not done yet is read, captioned and recorded; outputs are made of what is recorded.

The ledger decides what happens next, so it does not matter when, or how often, a job was interrupted. This file knows
no model: it is given a function that captions batches, as `Captioner.stream_batches` does.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from captioner.batch.items import Item
from captioner.batch.writers.rows import Row
from captioner.captions import Outcome, row
from captioner.errors import ImageError, UnreadableImage
from captioner.images import ImageSource
from captioner.ledger import Batch, Counts, Done, Entry, Ledger, Pending

CaptionBatches = Callable[[Iterable[Sequence[ImageSource]]], Iterator[list[Outcome]]]
Skips = Callable[[Item], bool]

_LEASE_SECONDS = 600.0  # many times what a batch takes; a worker of this machine that died loses it at once
_IN_MEMORY_BYTES = 2**20  # a larger file is read by a child of the reader, so that few are held here


@dataclass(frozen=True, kw_only=True)
class _Read:
    """A picture that is ready to be captioned: its content or its path, and the digest of its content."""

    pending: Pending
    source: ImageSource
    digest: bytes


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What is to become of a leased batch: what is known already, what the model is asked, and what repeats it."""

    batch: Batch
    known: tuple[Done, ...]
    asked: tuple[_Read, ...]
    repeats: tuple[_Read, ...]  # same content as one that is asked, here or in a batch before


@dataclass(kw_only=True)
class Job:
    """One job of a ledger.

    Attributes:
        number: of the job in the ledger.
        model: names the model in every row.
        batch_size: pictures that are captioned together: slice n has the items n * batch_size and those after it.
        max_bytes: of a picture.
        skips: whether a picture needs no caption, because what it would get is there already.
        shard: (i, n): only every n-th batch is this job's, from batch i on.
        on_recorded: is told of each batch that was recorded.
        is_to_stop: asked before each batch is begun; those that were begun are finished.
    """

    ledger: Ledger
    number: int
    model: str
    batch_size: int
    max_bytes: int
    skips: Skips = field(default=lambda item: False)
    on_recorded: Callable[[Sequence[Done]], None] = field(default=lambda outcomes: None)
    shard: tuple[int, int] = (0, 1)
    is_to_stop: Callable[[], bool] = field(default=lambda: False)

    def plan(self, items: Iterable[Item]) -> Counts:
        """Take `items`, sorted by source, as the job's pictures."""
        return self.ledger.plan(self.number, map(entry_of, items))

    def run(self, caption_batches: CaptionBatches) -> None:
        """Caption all that is left, or until it `is_to_stop`."""
        plans: deque[_Plan] = deque()
        asked: dict[bytes, Done | None] = {}  # contents that the model has been asked for, until their last use

        def batches() -> Iterator[list[ImageSource]]:
            while (batch := self._lease()) is not None:
                plan = self._prepare(batch, asked)
                plans.append(plan)
                yield [read.source for read in plan.asked]

        for outcomes in caption_batches(batches()):
            plan = plans.popleft()
            done = [self._done(read, outcome) for read, outcome in zip(plan.asked, outcomes, strict=True)]
            for read, result in zip(plan.asked, done, strict=True):
                asked[read.digest] = result
            done += [_as(asked[read.digest], read) for read in plan.repeats]
            everything = [*plan.known, *done]
            self.ledger.record(self.number, plan.batch, everything)
            waiting = {read.digest for later in plans for read in (*later.asked, *later.repeats)}
            for digest in [digest for digest in asked if digest not in waiting]:
                del asked[digest]
            self.on_recorded(everything)

    def items(self) -> Iterator[Item]:
        """Every picture of the job, in order."""
        return map(item_of, self.ledger.entries(self.number))

    def rows(self, min_confidence: float = 0.0) -> Iterator[tuple[Item, Row]]:
        """Each picture of the job with its row, in order; a caption that is less sure is told as an error."""
        for entry, found in self.ledger.rows(self.number):
            yield _row(entry, found, min_confidence)

    def rows_of(self, outcomes: Iterable[Done], min_confidence: float = 0.0) -> Iterator[tuple[Item, Row]]:
        """The same of what was just recorded, without what was skipped."""
        for done in outcomes:
            if done.row is not None or done.error is not None:
                found = dict(done.row) if done.row is not None else {"error": done.error}
                yield _row(done.entry, found, min_confidence)

    def _lease(self) -> Batch | None:
        if self.is_to_stop():
            return None
        return self.ledger.lease(self.number, batch_size=self.batch_size, seconds=_LEASE_SECONDS, shard=self.shard)

    def _prepare(self, batch: Batch, asked: dict[bytes, Done | None]) -> _Plan:
        """Read what must be read; ask only for contents that nobody has captioned or is about to."""
        known: list[Done] = []
        read: list[_Read] = []
        for pending in batch.pending:
            item = item_of(pending.entry)
            if self.skips(item):
                known.append(Done(entry=pending.entry, digest=None, row=None, error=None))
                continue
            try:
                source, digest = _content(item, self.max_bytes)
            except ImageError as error:
                known.append(_failed(pending.entry, error))
            else:
                read.append(_Read(pending=pending, source=source, digest=digest))
        results = self.ledger.results(self.number, [each.digest for each in read])
        first: list[_Read] = []
        repeats: list[_Read] = []
        for each in read:
            if each.digest in results:
                known.append(_captioned(each, results[each.digest]))
            elif each.digest in asked:
                repeats.append(each)
            else:
                asked[each.digest] = None
                first.append(each)
        return _Plan(batch=batch, known=tuple(known), asked=tuple(first), repeats=tuple(repeats))

    def _done(self, read: _Read, outcome: Outcome) -> Done:
        if outcome.error is not None:
            return _failed(read.pending.entry, outcome.error)
        if not isinstance(read.source, bytes) and _digest_of(Path(os.fspath(read.source))) != read.digest:
            changed = "The file was changed while it was read: run the job again."
            return _failed(read.pending.entry, UnreadableImage(changed))
        content = row(outcome, image="", model=self.model)
        del content["image"]
        return _captioned(read, content)


def entry_of(item: Item) -> Entry:
    """An item as the ledger keeps it."""
    member = None if item.member is None else os.fsencode(item.member)
    return Entry(
        os.fsencode(item.source), os.fsencode(item.path), member, os.fsencode(item.root), item.size, item.mtime_ns
    )


def item_of(entry: Entry) -> Item:
    """The reverse of `entry_of`."""
    member = None if entry.member is None else os.fsdecode(entry.member)
    return Item(
        os.fsdecode(entry.source),
        os.fsdecode(entry.path),
        member,
        os.fsdecode(entry.root),
        entry.size,
        entry.mtime_ns,
    )


def _row(entry: Entry, found: dict[str, Any], min_confidence: float) -> tuple[Item, Row]:
    item = item_of(entry)
    if found.get("confidence", 1.0) < min_confidence:
        told = f"The confidence {found['confidence']} is below {min_confidence}: '{found['caption']}'."
        return item, {"image": item.source, "error": {"type": "LowConfidence", "detail": told}}
    return item, {"image": item.source, **found}


def _content(item: Item, max_bytes: int) -> tuple[ImageSource, bytes]:
    """What the reader is given, and the digest of the content.

    A small file is read here, once, so that what is captioned is what has this digest even if the file changes; of a
    large one the path is given, and `Job` looks afterwards whether it is still the same.

    Raises:
        ImageError: the picture cannot be read, or is too large.
    """
    source = item.load(max_bytes)
    if isinstance(source, bytes):
        return source, _digest(source)
    path = Path(os.fspath(source))
    # Of what cannot be read the reader says why; no content has the path for its digest.
    unread = source, os.fsencode(path)
    try:
        if not path.is_file():  # a pipe would never end
            return unread
        with path.open("rb") as file:
            content = file.read(_IN_MEMORY_BYTES + 1)
    except (OSError, ValueError):
        return unread
    if len(content) <= _IN_MEMORY_BYTES:
        return content, _digest(content)
    digest = _digest_of(path)
    return unread if digest is None else (source, digest)


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=20).digest()


def _digest_of(path: Path) -> bytes | None:
    """The digest of a file's content; None if it cannot be read."""
    with suppress(OSError, ValueError), path.open("rb") as file:
        digest = hashlib.blake2b(digest_size=20)
        while block := file.read(2**20):
            digest.update(block)
        return digest.digest()
    return None


def _captioned(read: _Read, content: dict[str, Any]) -> Done:
    return Done(entry=read.pending.entry, digest=read.digest, row=content, error=None)


def _failed(entry: Entry, error: ImageError) -> Done:
    return Done(entry=entry, digest=None, row=None, error={"type": type(error).__name__, "detail": str(error)})


def _as(result: Done | None, read: _Read) -> Done:
    """What became of a picture is what became of the one with the same content."""
    if result is None:
        raise AssertionError("a repeated picture comes after the one that it repeats")
    return Done(entry=read.pending.entry, digest=result.digest, row=result.row, error=result.error)
