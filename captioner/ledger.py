"""Ledger: what a job has to do, what is done, what failed, and what it replaced, in one SQLite file.

A job is a command: its sources, options and outputs. Its items are the pictures, numbered in the order of their
sources. A batch is a fixed slice of them: leased by one worker, captioned whole, recorded in one transaction. So
whatever kills a worker, a batch is done or not begun; and outputs, which are made of what stands here, do not depend on
how often that happened.

The journal is SQLite's rollback journal, not its write-ahead log, which does not work on network file systems.
"""

from __future__ import annotations

import hashlib
import json
import marshal
import os
import shutil
import socket
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

from captioner.errors import LedgerError

_APPLICATION = 0x63617074  # "capt": SQLite's mark for whose file it is
_VERSION = 2
_BUSY_SECONDS = 60.0  # how long a worker waits for another one's transaction
_CACHE_KIBIBYTES = 2**15  # contents come in no order: with SQLite's own 2 MB, each is a page read and written
_PENDING, _DONE, _FAILED, _SKIPPED = 0, 1, 2, 3
_SLICE = 4096  # items that are compared with those of the last time at once
_SCHEMA = f"""
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,   -- digest of the command: the same command goes on with the same job
    command TEXT NOT NULL,      -- JSON, for people
    settings INTEGER NOT NULL,  -- number of those in the table below
    revision INTEGER NOT NULL DEFAULT 1,  -- grows with every change of what the outputs are made of
    published INTEGER NOT NULL DEFAULT 0,  -- the revision that the outputs hold
    total INTEGER NOT NULL DEFAULT 0  -- items
);
CREATE TABLE settings (
    id INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE  -- of the model and the options: what captions depend on
);
CREATE TABLE items (
    job INTEGER NOT NULL, source BLOB NOT NULL,  -- the file system's bytes: a name need not be text
    position INTEGER NOT NULL, path BLOB NOT NULL, member BLOB, root BLOB NOT NULL,
    size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,  -- the fingerprint
    digest BLOB,                -- of the content, once it has been read
    state INTEGER NOT NULL DEFAULT 0,
    error TEXT,                 -- JSON {{"type", "detail"}}
    written INTEGER NOT NULL DEFAULT 0,  -- whether its text was put where it belongs
    PRIMARY KEY (job, source)
) WITHOUT ROWID;
CREATE INDEX items_in_order ON items (job, position);
CREATE INDEX items_by_state ON items (job, state, position);
CREATE TABLE slices (           -- of the items, as they arrived: what arrives again need not be compared one by one
    job INTEGER NOT NULL, first INTEGER NOT NULL, digest BLOB NOT NULL, PRIMARY KEY (job, first)
) WITHOUT ROWID;
CREATE TRIGGER items_changed AFTER UPDATE OF size, mtime_ns ON items
WHEN old.size <> new.size OR old.mtime_ns <> new.mtime_ns BEGIN
    UPDATE slices SET digest = x'' WHERE job = old.job AND first = old.position / {_SLICE} * {_SLICE}; END;
CREATE TABLE settled (          -- what the first run found out and every later one keeps to
    job INTEGER NOT NULL, name TEXT NOT NULL, value TEXT NOT NULL, PRIMARY KEY (job, name)
) WITHOUT ROWID;
CREATE TABLE leases (
    job INTEGER NOT NULL, batch INTEGER NOT NULL, holder TEXT NOT NULL, until REAL NOT NULL,
    PRIMARY KEY (job, batch)
) WITHOUT ROWID;
CREATE TABLE contents (         -- what was read: a file with the same fingerprint is not read again
    path BLOB NOT NULL, member BLOB NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, digest BLOB NOT NULL,
    PRIMARY KEY (path, member)
) WITHOUT ROWID;
CREATE TABLE results (
    id INTEGER PRIMARY KEY,     -- rows lie in the order in which they were made, nearly that of the outputs
    digest BLOB NOT NULL, settings INTEGER NOT NULL, row TEXT NOT NULL,  -- JSON, without the picture's name
    UNIQUE (digest, settings)
);
CREATE TABLE changes (          -- texts that the job wrote, with what stood there before
    job INTEGER NOT NULL, target BLOB NOT NULL, source BLOB NOT NULL, before BLOB, after BLOB NOT NULL,
    PRIMARY KEY (job, target)
) WITHOUT ROWID;
"""
_ITEM = "source, path, member, root, size, mtime_ns"
_Item = TypeVar("_Item", bound=tuple[Any, ...])
_json = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps would make an encoder for each row
_PUBLISHING = -1  # the number of the batch that is leased by who writes the outputs
_PAGE = 1000  # items that are read at a time: an open query would keep other workers from writing


_ROWS = (
    f"SELECT position, {_ITEM}, items.error, results.row FROM items JOIN jobs ON jobs.id = items.job "
    "LEFT JOIN results ON results.digest = items.digest AND results.settings = jobs.settings"
)
_LINES = _ROWS.replace(_ITEM, "source")
_STANDINGS = _ROWS.replace("results.row", "results.row, state, items.digest")


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


class Ledger:
    """One ledger file. Many processes may use it at once; an object belongs to one thread.

    Every method raises LedgerError, with one sentence, if the file cannot be used.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open the ledger at `path`, or begin it."""
        self.path = Path(path)
        self.holder = f"{socket.gethostname()}:{os.getpid()}:{_begun(os.getpid())}"
        with self._refusals():
            self._database = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None)
            try:
                self._open()
            except BaseException:
                self._database.close()
                raise

    @classmethod
    def copied(cls, path: str | os.PathLike[str]) -> Self:
        """A copy in memory of the ledger at `path`, which is not touched; an empty one if nothing is there."""
        copy = cls(":memory:")
        if Path(path).is_file():
            copy.path = Path(path)
            with copy._refusals():
                try:
                    _back_up(Path(path), copy._database)
                except sqlite3.OperationalError:
                    # Its last user was killed: what is half written must be taken back first, in another copy.
                    with TemporaryDirectory() as folder:
                        for name in (copy.path.name, f"{copy.path.name}-journal"):
                            shutil.copy(copy.path.with_name(name), folder)
                        cls(Path(folder, copy.path.name)).close()
                        _back_up(Path(folder, copy.path.name), copy._database)
                copy._open()
        return copy

    def _open(self) -> None:
        run = self._database.execute
        (application,), (version,) = run("PRAGMA application_id").fetchone(), run("PRAGMA user_version").fetchone()
        if application == 0 and version == 0 and not run("SELECT 1 FROM sqlite_master").fetchone():
            with self._transaction():
                if not run("SELECT 1 FROM sqlite_master").fetchone():  # another worker may have been first
                    for statement in _SCHEMA.split(";\n"):
                        run(statement)
                    run(f"PRAGMA application_id = {_APPLICATION}")
                    run(f"PRAGMA user_version = {_VERSION}")
        elif application != _APPLICATION:
            raise LedgerError(f"{self.path} is a database of another program; name another file with --ledger")
        elif version != _VERSION:
            raise LedgerError(f"{self.path} has version {version}, this program reads {_VERSION}; use a new ledger")
        run("PRAGMA journal_mode = TRUNCATE")  # quicker than to delete it; each connection says so anew
        run("PRAGMA synchronous = FULL")
        run(f"PRAGMA cache_size = -{_CACHE_KIBIBYTES}")

    # --- jobs

    def job(self, *, key: str, command: Mapping[str, Any], settings: str) -> int:
        """The number of the job with this `key`, which is begun if there is none."""
        with self._transaction():
            self._database.execute("INSERT OR IGNORE INTO settings (digest) VALUES (?)", (settings,))
            self._database.execute(
                "INSERT INTO jobs (key, command, settings) "
                "VALUES (?, ?, (SELECT id FROM settings WHERE digest = ?)) ON CONFLICT DO NOTHING",
                (key, json.dumps(command, sort_keys=True), settings),
            )
            (number,) = self._database.execute("SELECT id FROM jobs WHERE key = ?", (key,)).fetchone()
        return int(number)

    def jobs(self) -> list[tuple[int, dict[str, Any]]]:
        """Every job: its number and its command."""
        with self._refusals():
            rows = self._database.execute("SELECT id, command FROM jobs ORDER BY id").fetchall()
        return [(number, json.loads(command)) for number, command in rows]

    def settle(self, job: int, name: str, value: str) -> str:
        """The value that was settled first: this one, unless an earlier run of the job settled another."""
        with self._transaction():
            self._database.execute("INSERT OR IGNORE INTO settled VALUES (?, ?, ?)", (job, name, value))
            row = self._database.execute("SELECT value FROM settled WHERE job = ? AND name = ?", (job, name)).fetchone()
        return str(row[0])

    def settled(self, job: int, name: str) -> str | None:
        """What was settled, if anything."""
        with self._refusals():
            row = self._database.execute("SELECT value FROM settled WHERE job = ? AND name = ?", (job, name)).fetchone()
        return None if row is None else str(row[0])

    def plan(self, job: int, items: Iterable[_Item], entry_of: Callable[[_Item], Entry] = Entry._make) -> Counts:
        """Make `items`, in their order, those of the job; what is done and has not changed stays done.

        Failed and skipped ones are to be tried again. If nothing differs from the last time, nothing is written.

        Args:
            entry_of: makes an entry of an item. Of a slice of items that equal those of the last time it is not asked.
        """
        with self._transaction():
            run = self._database.execute
            arriving = iter(items)
            first = 0
            while some := list(islice(arriving, _SLICE)):
                if not self._is_same(job, first, some, entry_of):
                    break
                first += len(some)
            if some or run("SELECT 1 FROM slices WHERE job = ? AND first >= ?", (job, first)).fetchone():
                self._replan(job, first, chain(some, arriving), entry_of)
            if run("UPDATE items SET state = 0, error = NULL WHERE job = ? AND state IN (2, 3)", (job,)).rowcount:
                self._revise(job)
        return self.counts(job)

    def _is_same(self, job: int, first: int, items: list[_Item], entry_of: Callable[[_Item], Entry]) -> bool:
        """Whether a slice of items is as it was when the job was planned before."""
        run = self._database.execute
        known = run("SELECT digest FROM slices WHERE job = ? AND first = ?", (job, first)).fetchone()
        if known is None:
            return False
        if known[0] == _digest(items):
            return True
        # The fingerprints in the ledger may be newer: of what was read, or of what the job itself wrote to.
        query = f"SELECT {_ITEM} FROM items WHERE job = ? AND position BETWEEN ? AND ? ORDER BY position"
        there = run(query, (job, first, first + _SLICE - 1)).fetchall()
        return there == [tuple(entry_of(item)) for item in items]

    def _replan(self, job: int, same: int, items: Iterable[_Item], entry_of: Callable[[_Item], Entry]) -> None:
        """Replace the items from position `same` on."""
        run = self._database.execute
        run("DELETE FROM slices WHERE job = ? AND first >= ?", (job, same))
        arriving = self._arriving(job, same, iter(items), entry_of)
        if run("SELECT 1 FROM items WHERE job = ? AND position >= ?", (job, same)).fetchone() is not None:
            self._replace(job, same, arriving)
        else:
            query = f"INSERT OR IGNORE INTO items ({_ITEM}, position, job) VALUES (?, ?, ?, ?, ?, ?, ?, {job:d})"
            self._database.executemany(query, arriving)
        run("UPDATE jobs SET total = (SELECT count(*) FROM items WHERE job = ?1) WHERE id = ?1", (job,))
        # what another job in this ledger has read and captioned in the same way is done here too
        if run("SELECT 1 FROM contents LIMIT 1").fetchone() is not None:
            run(
                "UPDATE items SET digest = (SELECT digest FROM contents AS c WHERE c.path = items.path AND "
                "c.member = ifnull(items.member, x'') AND c.size = items.size AND c.mtime_ns = items.mtime_ns) "
                "WHERE job = ? AND state = 0 AND digest IS NULL",
                (job,),
            )
            run(
                "UPDATE items SET state = 1 WHERE job = ? AND state = 0 AND EXISTS (SELECT 1 FROM results JOIN jobs "
                "USING (settings) WHERE jobs.id = items.job AND results.digest = items.digest)",
                (job,),
            )
        self._revise(job)

    def _arriving(
        self, job: int, first: int, items: Iterator[_Item], entry_of: Callable[[_Item], Entry]
    ) -> Iterator[tuple[Any, ...]]:
        """The items from position `first` on as rows, while their slices are noted."""
        while some := list(islice(items, _SLICE)):
            self._database.execute("INSERT INTO slices VALUES (?, ?, ?)", (job, first, _digest(some)))
            for position, item in enumerate(some, start=first):
                yield (*entry_of(item), position)
            first += len(some)

    def _replace(self, job: int, same: int, arriving: Iterable[tuple[Any, ...]]) -> None:
        """The items from position `same` on are those that arrive; what is known of them stays."""
        run = self._database.execute
        run("DROP TABLE IF EXISTS temp.arriving")
        run(f"CREATE TEMP TABLE arriving ({_ITEM}, position INTEGER, PRIMARY KEY (source)) WITHOUT ROWID")
        self._database.executemany(
            "INSERT OR IGNORE INTO arriving VALUES (?, ?, ?, ?, ?, ?, ?)",
            arriving,
        )
        run(
            "DELETE FROM items WHERE job = ? AND position >= ? AND source NOT IN (SELECT source FROM arriving)",
            (job, same),
        )
        changed = "size <> excluded.size OR mtime_ns <> excluded.mtime_ns"
        run(
            f"INSERT INTO items (job, {_ITEM}, position) SELECT ?, {_ITEM}, position FROM arriving WHERE true "
            "ON CONFLICT (job, source) DO UPDATE SET position = excluded.position, path = excluded.path, "
            f"member = excluded.member, root = excluded.root, size = excluded.size, mtime_ns = excluded.mtime_ns, "
            f"digest = CASE WHEN {changed} THEN NULL ELSE digest END, "
            f"state = CASE WHEN {changed} THEN 0 ELSE state END, error = CASE WHEN {changed} THEN NULL ELSE error END, "
            f"written = CASE WHEN {changed} THEN 0 ELSE written END",
            (job,),
        )
        run("DROP TABLE temp.arriving")

    def _revise(self, job: int) -> None:
        self._database.execute("UPDATE jobs SET revision = revision + 1 WHERE id = ?", (job,))

    def counts(self, job: int, share: Share | None = None) -> Counts:
        """How far the job is, or one worker's share of it."""
        with self._refusals():
            run = self._database.execute
            query = "SELECT state, count(*) FROM items WHERE job = ? AND "
            if share is not None and share.shard[1] > 1:
                rows = dict(run(f"{query}{share.condition} GROUP BY state", (job,)))
            else:  # those that are done, nearly all of a million, need not be counted
                rows = dict(run(f"{query}state IN (0, 2, 3) GROUP BY state", (job,)))
                (total,) = run("SELECT total FROM jobs WHERE id = ?", (job,)).fetchone()
                rows[_DONE] = total - sum(rows.values())
        return Counts(
            pending=rows.get(_PENDING, 0),
            done=rows.get(_DONE, 0),
            failed=rows.get(_FAILED, 0),
            skipped=rows.get(_SKIPPED, 0),
        )

    # --- batches

    def lease(self, job: int, share: Share, *, seconds: float) -> Batch | None:
        """One batch, as `lease_many`; None: there is none."""
        return next(iter(self.lease_many(job, share, seconds=seconds, count=1)), None)

    def lease_many(self, job: int, share: Share, *, seconds: float, count: int) -> list[Batch]:
        """Take the first batches of `share` in nobody's hands that have pictures without a caption, `count` at most.

        A lease ends after `seconds`, and at once if its holder was a process of this machine that is no more.
        """
        batches: list[Batch] = []
        with self._transaction():
            run = self._database.execute
            taken, position = self._leased(job), 0
            lease = (self.holder, time.time() + seconds)
            while len(batches) < count:
                found = run(
                    f"SELECT position FROM items WHERE job = ? AND state = 0 AND position >= ? AND {share.condition} "
                    "ORDER BY position LIMIT 1",
                    (job, position),
                ).fetchone()
                if found is None:
                    break
                number = found[0] // share.batch_size
                position = (number + 1) * share.batch_size
                if number in taken:
                    continue
                run("INSERT INTO leases VALUES (?, ?, ?, ?)", (job, number, *lease))
                rows = run(
                    f"SELECT {_ITEM}, digest FROM items WHERE job = ? AND state = 0 AND position >= ? "
                    "AND position < ? ORDER BY position",
                    (job, number * share.batch_size, position),
                )
                pending = tuple(Pending(entry=Entry(*row[:6]), digest=row[6]) for row in rows)
                batches.append(Batch(number=number, pending=pending))
        return batches

    def lease_outputs(self, job: int, *, seconds: float) -> bool:
        """Take what only one worker may do: writing the outputs. Not while anybody still works on a batch."""
        with self._transaction():
            if self._leased(job):
                return False
            lease = (job, _PUBLISHING, self.holder, time.time() + seconds)
            self._database.execute("INSERT INTO leases VALUES (?, ?, ?, ?)", lease)
        return True

    def release(self, job: int, batch: Batch | None) -> None:
        """Give a lease back; None: that of the outputs."""
        with self._transaction():
            self._release(job, [_PUBLISHING if batch is None else batch.number])

    def release_many(self, job: int, batches: Iterable[Batch]) -> None:
        """Give the leases of batches back."""
        numbers = [batch.number for batch in batches]
        if numbers:
            with self._transaction():
                self._release(job, numbers)

    def _release(self, job: int, numbers: Iterable[int]) -> None:
        query = "DELETE FROM leases WHERE job = ? AND batch = ? AND holder = ?"
        self._database.executemany(query, ((job, number, self.holder) for number in numbers))

    def _leased(self, job: int) -> set[int]:
        """The batches in somebody's hands, once leases that have ended are gone; inside a transaction."""
        run, now, taken = self._database.execute, time.time(), set()
        for batch, holder, until in run("SELECT batch, holder, until FROM leases WHERE job = ?", (job,)).fetchall():
            if until < now or (holder != self.holder and not _lives(holder)):
                run("DELETE FROM leases WHERE job = ? AND batch = ?", (job, batch))
            else:
                taken.add(batch)
        return taken

    def is_waiting(self, job: int, share: Share) -> bool:
        """Whether any picture of `share` waits for its caption, in somebody's hands or not."""
        query = (
            f"SELECT 1 FROM items INDEXED BY items_by_state WHERE job = ? AND state = 0 AND {share.condition} LIMIT 1"
        )
        with self._refusals():
            return self._database.execute(query, (job,)).fetchone() is not None

    def is_busy(self, job: int) -> bool:
        """Whether any worker holds a lease of the job."""
        with self._transaction():
            return bool(self._leased(job))

    def results(self, job: int, digests: Sequence[bytes]) -> dict[bytes, str]:
        """The rows, as `Done` has them, of those contents that have been captioned with the job's settings."""
        with self._refusals():
            marks = ", ".join("?" * len(digests))
            rows = self._database.execute(
                f"SELECT digest, row FROM results WHERE digest IN ({marks}) "
                "AND settings = (SELECT settings FROM jobs WHERE id = ?)",
                (*digests, job),
            ).fetchall()
        return dict(rows)

    def record(self, job: int, batch: Batch, outcomes: Sequence[Done], *, release: bool = True) -> None:
        """One batch, as `record_many`."""
        self.record_many(job, [(batch, outcomes)], release=release)

    def record_many(self, job: int, done: Sequence[tuple[Batch, Sequence[Done]]], *, release: bool = True) -> None:
        """Write down what became of the pending pictures of batches, all at once; their leases end, if `release`."""
        outcomes = [outcome for _, some in done for outcome in some]
        with self._transaction():
            run, run_many = self._database.execute, self._database.executemany
            (settings,) = run("SELECT settings FROM jobs WHERE id = ?", (job,)).fetchone()
            run_many(
                "INSERT OR REPLACE INTO contents VALUES (?, ?, ?, ?, ?)",
                (
                    (entry.path, entry.member or b"", entry.size, entry.mtime_ns, digest)
                    for entry, digest, _, _ in outcomes
                    if digest is not None
                ),
            )
            run_many(
                "INSERT OR IGNORE INTO results (digest, settings, row) VALUES (?, ?, ?)",
                ((digest, settings, row) for _, digest, row, _ in outcomes if digest and row),
            )
            run_many(
                "UPDATE items SET digest = ?, state = ?, error = ?, size = ?, mtime_ns = ?, written = 0 "
                "WHERE job = ? AND source = ?",
                (
                    (
                        digest,
                        _FAILED if error is not None else _SKIPPED if digest is None else _DONE,
                        None if error is None else _json(error),
                        entry.size,
                        entry.mtime_ns,
                        job,
                        entry.source,
                    )
                    for entry, digest, _, error in outcomes
                ),
            )
            if release:
                self._release(job, [batch.number for batch, _ in done])
            self._revise(job)

    def entries(self, job: int) -> Iterator[Entry]:
        """Every picture of the job, in order."""
        for row in self._pages(f"SELECT position, {_ITEM} FROM items", job):
            yield Entry(*row[1:])

    def _pages(self, query: str, job: int, condition: str = "1") -> Iterator[Any]:
        """The rows of a query on items, in order, a page at a time; each begins with its position."""
        last = -1
        while True:
            with self._refusals():
                rows = self._database.execute(
                    f"{query} WHERE items.job = ? AND position > ? AND {condition} ORDER BY position LIMIT {_PAGE}",
                    (job, last),
                ).fetchall()
            yield from rows
            if len(rows) < _PAGE:
                return
            last = rows[-1][0]

    def refresh(self, job: int, source: bytes, *, size: int, mtime_ns: int) -> None:
        """Note the fingerprint of a picture that the job itself has changed, so that it is not captioned anew."""
        with self._transaction():
            fingerprint = (size, mtime_ns, job, source)
            self._database.execute("UPDATE items SET size = ?, mtime_ns = ? WHERE job = ? AND source = ?", fingerprint)
            self._database.execute(
                "UPDATE contents SET size = ?, mtime_ns = ? WHERE (path, member) = "
                "(SELECT path, ifnull(member, x'') FROM items WHERE job = ? AND source = ?)",
                fingerprint,
            )

    def rows(self, job: int, share: Share | None = None) -> Iterator[tuple[Entry, dict[str, Any]]]:
        """Every picture of the job that has its result, in order, with its row: `image` is left to the caller."""
        for _, *entry, error, row in self._pages(_ROWS, job, _with_result(share)):
            yield Entry(*entry), {"error": json.loads(error)} if error is not None else json.loads(row)

    def lines(self, job: int, share: Share | None = None) -> Iterator[tuple[bytes, str]]:
        """As `rows`: the source of each picture, and its row as the JSON that stands here."""
        for _, source, error, row in self._pages(_LINES, job, _with_result(share)):
            yield source, row if error is None else f'{{"error": {error}}}'

    def standings(self, job: int, share: Share | None = None) -> Iterator[Standing]:
        """Every picture of the job, or of one worker's share of it, in order, whether it has its row or not."""
        condition = "1" if share is None else share.condition
        for position, *entry, error, row, state, digest in self._pages(_STANDINGS, job, condition):
            found = {"error": json.loads(error)} if error is not None else None if row is None else json.loads(row)
            yield Standing(position, Entry(*entry), digest, found if state in (_DONE, _FAILED) else None)

    def failures(self, job: int, share: Share | None = None) -> Iterator[tuple[Entry, dict[str, str]]]:
        """Every picture of the job that failed, in order, with its error {"type", "detail"}."""
        condition = "state = 2" if share is None else f"state = 2 AND {share.condition}"
        for _, *entry, error in self._pages(f"SELECT position, {_ITEM}, error FROM items", job, condition):
            yield Entry(*entry), json.loads(error)

    # --- outputs

    def revision(self, job: int) -> int:
        """A number that grows with every change of what the outputs are made of."""
        with self._refusals():
            (revision,) = self._database.execute("SELECT revision FROM jobs WHERE id = ?", (job,)).fetchone()
        return int(revision)

    def is_published(self, job: int) -> bool:
        """Whether the outputs were made after the last change of what stands here."""
        with self._refusals():
            query = "SELECT published = revision FROM jobs WHERE id = ?"
            (published,) = self._database.execute(query, (job,)).fetchone()
        return bool(published)

    def set_published(self, job: int, revision: int) -> None:
        """Note that the outputs hold what stood here at this revision; 0: what they hold is not known."""
        with self._transaction():
            self._database.execute("UPDATE jobs SET published = ? WHERE id = ?", (revision, job))

    def unwritten(self, job: int, share: Share) -> Iterator[tuple[Entry, dict[str, Any]]]:
        """As `rows`, those with a caption whose text was not put where it belongs yet."""
        condition = f"state = 1 AND written = 0 AND {share.condition}"
        for _, *entry, _, row in self._pages(_ROWS, job, condition):
            yield Entry(*entry), json.loads(row)

    def set_written(self, job: int, sources: Iterable[bytes]) -> None:
        """Note that the texts of these pictures are where they belong."""
        with self._transaction():
            self._database.executemany(
                "UPDATE items SET written = 1 WHERE job = ? AND source = ?", ((job, source) for source in sources)
            )

    def intend(self, job: int, changes: Iterable[Change]) -> None:
        """Keep what stands at the targets before it is touched.

        Of a target that the job has written before, and nobody else since, the text before the first time.
        """
        with self._transaction():
            self._database.executemany(
                "INSERT INTO changes (job, target, source, before, after) VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT DO UPDATE SET source = excluded.source, after = excluded.after, "
                "before = CASE WHEN excluded.before IS changes.after THEN changes.before ELSE excluded.before END",
                ((job, each.target, each.source, each.before, each.after) for each in changes),
            )

    def forget(self, job: int, changes: Iterable[Change]) -> None:
        """Drop the notes of texts that were taken back: those pictures' texts are to be written again."""
        with self._transaction():
            for change in changes:
                run = self._database.execute
                run("DELETE FROM changes WHERE job = ? AND target = ?", (job, change.target))
                run("UPDATE items SET written = 0 WHERE job = ? AND source = ?", (job, change.source))
            self._revise(job)

    def changes(self, job: int) -> list[Change]:
        """Every text that the job wrote or is about to write, in the order of the targets."""
        with self._refusals():
            rows = self._database.execute(
                "SELECT target, before, after, source FROM changes WHERE job = ? ORDER BY target", (job,)
            ).fetchall()
        return [Change(target=row[0], before=row[1], after=row[2], source=row[3]) for row in rows]

    def count_changes(self, job: int) -> int:
        """How many texts the job wrote or is about to write."""
        with self._refusals():
            (number,) = self._database.execute("SELECT count(*) FROM changes WHERE job = ?", (job,)).fetchone()
        return int(number)

    # --- the file

    def close(self) -> None:
        """Close the file; leases of this object's process that were not given back end with the process."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._refusals():
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._database.execute("COMMIT")
            except BaseException:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise LedgerError(f"the ledger {self.path} cannot be used ({error}): {_advice(error)}") from error


def _back_up(path: Path, into: sqlite3.Connection) -> None:
    there = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=_BUSY_SECONDS)
    try:
        there.backup(into)
    finally:
        there.close()


def _with_result(share: Share | None) -> str:
    return "state IN (1, 2)" if share is None else f"state IN (1, 2) AND {share.condition}"


def _digest(items: Iterable[tuple[Any, ...]]) -> bytes:
    # By columns, which is quicker. Version 2 of this format, unlike later ones, does not depend on which of the values
    # are the same object.
    return hashlib.blake2b(marshal.dumps(list(zip(*items, strict=True)), 2), digest_size=20).digest()


def _lives(holder: str) -> bool:
    """Whether the process that holds a lease may still be there; of other machines' processes one cannot know."""
    host, process, begun = holder.rsplit(":", 2)
    if host != socket.gethostname():
        return True
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return _begun(int(process)) == begun


def _begun(process: int) -> str:
    """When a process was started, in ticks since the machine was; empty where the system does not tell.

    Numbers of processes are used again: in a container, the next one often has the number of the one before.
    """
    try:
        return Path(f"/proc/{process}/stat").read_text(errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _advice(error: sqlite3.Error) -> str:
    """What to do about an error of SQLite."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary code of an extended one
    if code == sqlite3.SQLITE_FULL:
        return "make room on its disk and run the same command again"
    if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return "name a file in a folder that can be written with --ledger"
    if code == sqlite3.SQLITE_BUSY:
        return "wait until the others that use it are done"
    if code == sqlite3.SQLITE_IOERR:
        return "check the disk and the room on it, and run the same command again"
    return "name another file with --ledger"
