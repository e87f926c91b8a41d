"""A folder job: what is not done yet is read, captioned and recorded; outputs are made of what is recorded.

The ledger decides what happens next, so it does not matter when, or how often, a job was interrupted. This file knows
no model: it is given a function that captions batches, as `Captioner.stream_batches` does.
"""

from __future__ import annotations

import json
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from captioner.batch.contents import Content
from captioner.batch.items import Item
from captioner.batch.writers.rows import Row, one_line
from captioner.captions import Outcome, row
from captioner.errors import ImageError, UnreadableImage
from captioner.images import ImageSource
from captioner.ledger import Batch, Counts, Done, Entry, Ledger, Share

# As os.fsencode and os.fsdecode, which take three times as long.
_NAMES = sys.getfilesystemencoding(), sys.getfilesystemencodeerrors()

CaptionBatches = Callable[[Iterable[Sequence[ImageSource]]], Iterator[list[Outcome]]]
Skips = Callable[[Item], bool]

_LEASE_SECONDS = 600.0  # many times what a batch takes; a worker of this machine that died loses it at once
_OUTPUT_SECONDS = 3600.0  # the same for writing all outputs
_RECORD_SECONDS = 0.5  # between two transactions: no more than this is done again after a kill
_BATCHES_AT_ONCE = 128  # are leased at most, however quickly they are done
_POLL_SECONDS = 0.5  # between two looks at what other workers have in their hands


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What is to become of a leased batch: what is known already, what the model is asked, and what repeats it."""

    batch: Batch
    known: tuple[Done, ...]
    asked: tuple[Content, ...]
    repeats: tuple[Content, ...]  # same content as one that is asked, here or in a batch before


@dataclass(kw_only=True)
class Job:
    """One job of a ledger.

    Attributes:
        number: of the job in the ledger.
        model: names the model in every row.
        share: the batches that are done here: pictures that are captioned together.
        max_bytes: of a picture.
        skips: whether a picture needs no caption, because what it would get is there already.
        write_texts: puts the texts of a recorded batch where they belong, while the batch is still in our hands.
        on_recorded: is told of each batch that was recorded.
        on_waiting: is told, once, that other workers have all that is left in their hands.
        is_to_stop: asked before each batch is begun; those that were begun are finished.
    """

    ledger: Ledger
    number: int
    model: str
    share: Share
    max_bytes: int
    skips: Skips = field(default=lambda item: False)
    write_texts: Callable[[Sequence[Done]], None] | None = None
    on_recorded: Callable[[Sequence[Done]], None] = field(default=lambda outcomes: None)
    on_waiting: Callable[[], None] = field(default=lambda: None)
    is_to_stop: Callable[[], bool] = field(default=lambda: False)

    def plan(self, items: Iterable[Item]) -> Counts:
        """Take `items`, sorted by source, as the job's pictures."""
        self.ledger.plan(self.number, items, entry_of)
        return self.counts()

    def counts(self) -> Counts:
        """How far this job's share is."""
        return self.ledger.counts(self.number, self.share)

    def run(self, caption_batches: CaptionBatches) -> None:
        """Caption all that is left, or until it `is_to_stop`.

        What other workers have in their hands is waited for, and taken over if they die.
        """
        told = False
        while True:
            self._run_once(caption_batches)
            if self.is_to_stop() or not self.ledger.is_waiting(self.number, self.share):
                return
            if not told:
                self.on_waiting()
                told = True
            time.sleep(_POLL_SECONDS)

    def publish(self, write: Callable[[], None]) -> None:
        """Have the outputs written by one worker at a time; an exception of `write` is passed on."""
        told = False
        while not self.ledger.lease_outputs(self.number, seconds=_OUTPUT_SECONDS):
            if not told:
                self.on_waiting()
                told = True
            if self.is_to_stop():
                return
            time.sleep(_POLL_SECONDS)
        try:
            write()
        finally:
            self.ledger.release(self.number, None)

    def _run_once(self, caption_batches: CaptionBatches) -> None:
        plans: deque[_Plan] = deque()
        asked: dict[bytes, Done | None] = {}  # contents that the model has been asked for, until their last use
        leased: deque[Batch] = deque()  # in our hands, not begun
        finished: list[tuple[Batch, list[Done]]] = []  # recorded together: every transaction waits for the disk
        recorded = begun = time.monotonic()
        at_once = 1

        def batches() -> Iterator[list[ImageSource]]:
            nonlocal begun, at_once
            while not self.is_to_stop():
                if not leased:
                    now = time.monotonic()
                    at_once = min(2 * at_once, _BATCHES_AT_ONCE) if now - begun < _RECORD_SECONDS else 1
                    begun = now
                    leased.extend(
                        self.ledger.lease_many(self.number, self.share, seconds=_LEASE_SECONDS, count=at_once)
                    )
                if not leased:
                    return
                plan = self._prepare(leased.popleft(), asked)
                plans.append(plan)
                yield [read.source for read in plan.asked]

        try:
            for outcomes in caption_batches(batches()):
                plan = plans.popleft()
                finished.append((plan.batch, self._finish(plan, outcomes, asked)))
                if time.monotonic() - recorded >= _RECORD_SECONDS:
                    self._record(finished)
                    recorded = time.monotonic()
                    waiting = {read.digest for later in plans for read in (*later.asked, *later.repeats)}
                    for digest in [digest for digest in asked if digest not in waiting]:
                        del asked[digest]
        finally:
            self._record(finished)
            self.ledger.release_many(self.number, [*leased, *(plan.batch for plan in plans)])

    def _finish(self, plan: _Plan, outcomes: Sequence[Outcome], asked: dict[bytes, Done | None]) -> list[Done]:
        """What became of each picture of a batch."""
        done = list(plan.known)
        for read, outcome in zip(plan.asked, outcomes, strict=True):
            result = asked[read.digest] = self._done(read, outcome)
            done.append(result)
        done += [_as(asked[read.digest], read) for read in plan.repeats]
        return done

    def _record(self, finished: list[tuple[Batch, list[Done]]]) -> None:
        """Put finished batches into the ledger and their texts where they belong."""
        if not finished:
            return
        everything = [done for _, some in finished for done in some]
        batches = [batch for batch, _ in finished]
        self.ledger.record_many(self.number, finished, release=self.write_texts is None)
        finished.clear()
        if self.write_texts is not None:
            self.write_texts(everything)
            self.ledger.release_many(self.number, batches)
        self.on_recorded(everything)

    def items(self) -> Iterator[Item]:
        """Every picture of the job, in order."""
        return map(item_of, self.ledger.entries(self.number))

    def rows(self, min_confidence: float = 0.0) -> Iterator[tuple[Item, Row]]:
        """Each picture of the job with its row, in order; a caption that is less sure is told as an error."""
        for entry, found in self.ledger.rows(self.number, self.share):
            yield row_of(entry, found, min_confidence)

    def lines(self) -> Iterator[str]:
        """The rows as JSON, as `one_line` makes them, without taking them apart and making them anew."""
        for source, line in self.ledger.lines(self.number, self.share):
            yield f'{{"image": {one_line(source.decode(*_NAMES))}, {line[1:]}'

    def unwritten(self, min_confidence: float = 0.0) -> Iterator[tuple[Item, Row]]:
        """The same of those with a caption whose text is not where it belongs yet."""
        for entry, found in self.ledger.unwritten(self.number, self.share):
            yield row_of(entry, found, min_confidence)

    def rows_of(self, outcomes: Iterable[Done], min_confidence: float = 0.0) -> Iterator[tuple[Item, Row]]:
        """The same of what was just recorded, without what was skipped."""
        for done in outcomes:
            if done.row is not None or done.error is not None:
                found = json.loads(done.row) if done.row is not None else {"error": done.error}
                yield row_of(done.entry, found, min_confidence)

    def _prepare(self, batch: Batch, asked: dict[bytes, Done | None]) -> _Plan:
        """Read what must be read; ask only for contents that nobody has captioned or is about to."""
        known: list[Done] = []
        read: list[Content] = []
        for pending in batch.pending:
            item = item_of(pending.entry)
            if self.skips(item):
                known.append(Done(entry=pending.entry, digest=None, row=None, error=None))
                continue
            try:
                read.append(Content.of(item, pending.entry, self.max_bytes))
            except ImageError as error:
                known.append(_failed(pending.entry, error))
        results = self.ledger.results(self.number, [each.digest for each in read])
        first: list[Content] = []
        repeats: list[Content] = []
        for each in read:
            if each.digest in results:
                known.append(_captioned(each, results[each.digest]))
            elif each.digest in asked:
                repeats.append(each)
            else:
                asked[each.digest] = None
                first.append(each)
        return _Plan(batch=batch, known=tuple(known), asked=tuple(first), repeats=tuple(repeats))

    def _done(self, read: Content, outcome: Outcome) -> Done:
        if outcome.error is not None:
            return _failed(read.entry, outcome.error)
        if not read.is_still():
            changed = "The file was changed while it was read: run the job again."
            return _failed(read.entry, UnreadableImage(changed))
        content = row(outcome, image="", model=self.model)
        del content["image"]
        return _captioned(read, one_line(content))


def entry_of(item: Item) -> Entry:
    """An item as the ledger keeps it."""
    source, path, member, root, size, mtime_ns = item
    name = source.encode(*_NAMES)
    return Entry(
        name,
        name if path == source else path.encode(*_NAMES),
        None if member is None else member.encode(*_NAMES),
        root.encode(*_NAMES),
        size,
        mtime_ns,
    )


def item_of(entry: Entry) -> Item:
    """The reverse of `entry_of`."""
    source, path, member, root, size, mtime_ns = entry
    name = source.decode(*_NAMES)
    return Item(
        name,
        name if path == source else path.decode(*_NAMES),
        None if member is None else member.decode(*_NAMES),
        root.decode(*_NAMES),
        size,
        mtime_ns,
    )


def row_of(entry: Entry, found: dict[str, Any], min_confidence: float) -> tuple[Item, Row]:
    """A picture and its row, from what the ledger has of it."""
    item = item_of(entry)
    if found.get("confidence", 1.0) < min_confidence:
        told = f"The confidence {found['confidence']} is below {min_confidence}: '{found['caption']}'."
        return item, {"image": item.source, "error": {"type": "LowConfidence", "detail": told}}
    return item, {"image": item.source, **found}


def _captioned(read: Content, content: str) -> Done:
    return Done(entry=read.entry, digest=read.digest, row=content, error=None)


def _failed(entry: Entry, error: ImageError) -> Done:
    return Done(entry=entry, digest=None, row=None, error={"type": type(error).__name__, "detail": str(error)})


def _as(result: Done | None, read: Content) -> Done:
    """What became of a picture is what became of the one with the same content."""
    if result is None:
        raise AssertionError("a repeated picture comes after the one that it repeats")
    return Done(entry=read.entry, digest=result.digest, row=result.row, error=result.error)
