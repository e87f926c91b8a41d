"""What goes into a ledger and comes out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple


class Entry(NamedTuple):
    """One picture of a job: how it is called, where it lies, and its fingerprint (see captioner/batch/items.py)."""

    source: bytes
    path: bytes
    member: bytes | None
    root: bytes
    size: int
    mtime_ns: int


@dataclass(frozen=True, kw_only=True)
class Share:
    """Which batches of a job are a worker's: slices of `batch_size` pictures, of shard (i, n) every n-th from i on."""

    batch_size: int
    shard: tuple[int, int] = (0, 1)

    @property
    def condition(self) -> str:
        """As SQL, for items; made of numbers only."""
        index, number = self.shard
        return "1" if number == 1 else f"(position / {self.batch_size:d}) % {number:d} = {index:d}"

    def has(self, position: int) -> bool:
        """Whether the picture with this number is among them."""
        return position // self.batch_size % self.shard[1] == self.shard[0]


class Pending(NamedTuple):
    """A picture of a batch that has no caption yet, with the digest of its content if that is known."""

    entry: Entry
    digest: bytes | None


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A slice of a job, leased by one worker; `pending` are those of its pictures that have no caption yet."""

    number: int
    pending: tuple[Pending, ...]


class Done(NamedTuple):
    """What became of one picture: the digest of its content if it was read, and its row (JSON, without the
    picture's name) or its error.

    With neither it was skipped, because what it would get is there already; the next run looks at it again. The entry
    has the fingerprint of what was read: the next run sees if the file has become another one since.
    """

    entry: Entry
    digest: bytes | None
    row: str | None
    error: Mapping[str, str] | None


class Standing(NamedTuple):
    """How far a picture is: its number in the job, the digest of its content if known, and its row if it has one."""

    position: int
    entry: Entry
    digest: bytes | None
    row: dict[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class Change:
    """A text that a job writes: what stood at `target` before (None: nothing) and what it writes there.

    `source` is the picture's, as its Entry has it; who plans a change need not know it.
    """

    target: bytes
    before: bytes | None
    after: bytes
    source: bytes = b""


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How many pictures of a job are waiting, have a caption, failed, or need none."""

    pending: int
    done: int
    failed: int
    skipped: int

    @property
    def total(self) -> int:
        """All pictures of the job."""
        return self.pending + self.done + self.failed + self.skipped
