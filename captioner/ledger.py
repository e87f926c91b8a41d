"""Ledger: what a job has to do, what is done, what failed, and what it replaced, in one SQLite file.

A job is a command: its sources, options and outputs. Its items are the pictures, numbered in the order of their
sources. A batch is a fixed slice of them: leased by one worker, captioned whole, recorded in one transaction. So
whatever kills a worker, a batch is done or not begun; and outputs, which are made of what stands here, do not depend on
how often that happened.

The journal is SQLite's rollback journal, not its write-ahead log, which does not work on network file systems.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, NamedTuple, Self

from captioner.errors import LedgerError

_APPLICATION = 0x63617074  # "capt": SQLite's mark for whose file it is
_VERSION = 1
_BUSY_SECONDS = 60.0  # how long a worker waits for another one's transaction
_PENDING, _DONE, _FAILED, _SKIPPED = 0, 1, 2, 3
_SCHEMA = """
CREATE TABLE jobs (
    id INTEGER PRIMARY KEY,
    key TEXT NOT NULL UNIQUE,   -- digest of the command: the same command goes on with the same job
    command TEXT NOT NULL,      -- JSON, for people
    settings TEXT NOT NULL,     -- digest of the model and the options: what captions depend on
    revision INTEGER NOT NULL DEFAULT 1,  -- grows with every change of what the outputs are made of
    published INTEGER NOT NULL DEFAULT 0  -- the revision that the outputs hold
);
CREATE TABLE items (
    job INTEGER NOT NULL, source BLOB NOT NULL,  -- the file system's bytes: a name need not be text
    position INTEGER NOT NULL, path BLOB NOT NULL, member BLOB, root BLOB NOT NULL,
    size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,  -- the fingerprint
    digest BLOB,                -- of the content, once it has been read
    state INTEGER NOT NULL DEFAULT 0,
    error TEXT,                 -- JSON {"type", "detail"}
    attempts INTEGER NOT NULL DEFAULT 0,
    written INTEGER NOT NULL DEFAULT 0,  -- whether its text was put where it belongs
    PRIMARY KEY (job, source)
) WITHOUT ROWID;
CREATE INDEX items_in_order ON items (job, position);
CREATE INDEX items_pending ON items (job, position) WHERE state = 0;
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
    digest BLOB NOT NULL, settings TEXT NOT NULL, row TEXT NOT NULL,  -- JSON, without the picture's name
    PRIMARY KEY (digest, settings)
) WITHOUT ROWID;
CREATE TABLE changes (          -- texts that the job wrote, with what stood there before
    job INTEGER NOT NULL, target BLOB NOT NULL, source BLOB NOT NULL, before BLOB, after BLOB NOT NULL,
    PRIMARY KEY (job, target)
) WITHOUT ROWID;
"""
_ITEM = "source, path, member, root, size, mtime_ns"
_PUBLISHING = -1  # the number of the batch that is leased by who writes the outputs
_PAGE = 1000  # items that are read at a time: an open query would keep other workers from writing


_ROWS = (
    f"SELECT position, {_ITEM}, items.error, results.row FROM items JOIN jobs ON jobs.id = items.job "
    "LEFT JOIN results ON results.digest = items.digest AND results.settings = jobs.settings"
)
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


@dataclass(frozen=True, kw_only=True)
class Pending:
    """A picture of a batch that has no caption yet, with the digest of its content if that is known."""

    entry: Entry
    digest: bytes | None


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A slice of a job, leased by one worker; `pending` are those of its pictures that have no caption yet."""

    number: int
    pending: tuple[Pending, ...]


@dataclass(frozen=True, kw_only=True)
class Done:
    """What became of one picture: the digest of its content if it was read, and its row or its error.

    With neither it was skipped, because what it would get is there already; the next run looks at it again. The entry
    has the fingerprint of what was read: the next run sees if the file has become another one since.
    """

    entry: Entry
    digest: bytes | None
    row: Mapping[str, Any] | None
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

    # --- jobs

    def job(self, *, key: str, command: Mapping[str, Any], settings: str) -> int:
        """The number of the job with this `key`, which is begun if there is none."""
        with self._transaction():
            self._database.execute(
                "INSERT INTO jobs (key, command, settings) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
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

    def plan(self, job: int, entries: Iterable[Entry]) -> Counts:
        """Make `entries`, in their order, the items of the job; what is done and has not changed stays done.

        Failed and skipped ones are to be tried again. If nothing differs from the last time, nothing is written.
        """
        with self._transaction():
            run = self._database.execute
            known = run(f"SELECT {_ITEM} FROM items WHERE job = ? ORDER BY position", (job,))
            arriving = iter(entries)
            same, first = 0, None
            for entry in arriving:
                if known.fetchone() != entry:
                    first = entry
                    break
                same += 1
            gone = first is None and known.fetchone() is not None
            known.close()
            if first is not None or gone:
                self._replan(job, same, chain([] if first is None else [first], arriving))
            if run("UPDATE items SET state = 0, error = NULL WHERE job = ? AND state IN (2, 3)", (job,)).rowcount:
                self._revise(job)
        return self.counts(job)

    def _replan(self, job: int, same: int, entries: Iterable[Entry]) -> None:
        """Replace the items from position `same` on."""
        run = self._database.execute
        run("DROP TABLE IF EXISTS temp.arriving")
        run(f"CREATE TEMP TABLE arriving ({_ITEM}, position INTEGER, PRIMARY KEY (source)) WITHOUT ROWID")
        self._database.executemany(
            "INSERT OR IGNORE INTO arriving VALUES (?, ?, ?, ?, ?, ?, ?)",
            ((*entry, position) for position, entry in enumerate(entries, start=same)),
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
        # what another job in this ledger has read and captioned in the same way is done here too
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

    def _revise(self, job: int) -> None:
        self._database.execute("UPDATE jobs SET revision = revision + 1 WHERE id = ?", (job,))

    def counts(self, job: int, share: Share | None = None) -> Counts:
        """How far the job is, or one worker's share of it."""
        where = "job = ?" if share is None else f"job = ? AND {share.condition}"
        with self._refusals():
            rows = dict(
                self._database.execute(f"SELECT state, count(*) FROM items WHERE {where} GROUP BY state", (job,))
            )
        return Counts(
            pending=rows.get(_PENDING, 0),
            done=rows.get(_DONE, 0),
            failed=rows.get(_FAILED, 0),
            skipped=rows.get(_SKIPPED, 0),
        )

    # --- batches

    def lease(self, job: int, share: Share, *, seconds: float) -> Batch | None:
        """Take the first batch of `share` in nobody's hands that has pictures without a caption; None: there is none.

        A lease ends after `seconds`, and at once if its holder was a process of this machine that is no more.
        """
        with self._transaction():
            run = self._database.execute
            taken, position, batch = self._leased(job), 0, 0
            while True:
                found = run(
                    f"SELECT position FROM items WHERE job = ? AND state = 0 AND position >= ? AND {share.condition} "
                    "ORDER BY position LIMIT 1",
                    (job, position),
                ).fetchone()
                if found is None:
                    return None
                batch = found[0] // share.batch_size
                if batch not in taken:
                    break
                position = (batch + 1) * share.batch_size
            run("INSERT INTO leases VALUES (?, ?, ?, ?)", (job, batch, self.holder, time.time() + seconds))
            scope = (job, batch * share.batch_size, (batch + 1) * share.batch_size)
            where = "WHERE job = ? AND state = 0 AND position >= ? AND position < ?"
            run(f"UPDATE items SET attempts = attempts + 1 {where}", scope)
            rows = run(f"SELECT {_ITEM}, digest FROM items {where} ORDER BY position", scope).fetchall()
        return Batch(number=batch, pending=tuple(Pending(entry=Entry(*row[:6]), digest=row[6]) for row in rows))

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
        number = _PUBLISHING if batch is None else batch.number
        with self._transaction():
            self._release(job, number)

    def _release(self, job: int, number: int) -> None:
        scope = (job, number, self.holder)
        self._database.execute("DELETE FROM leases WHERE job = ? AND batch = ? AND holder = ?", scope)

    def _leased(self, job: int) -> set[int]:
        """The batches in somebody's hands, once leases that have ended are gone; inside a transaction."""
        run, now, taken = self._database.execute, time.time(), set()
        for batch, holder, until in run("SELECT batch, holder, until FROM leases WHERE job = ?", (job,)).fetchall():
            if until < now or not _lives(holder):
                run("DELETE FROM leases WHERE job = ? AND batch = ?", (job, batch))
            else:
                taken.add(batch)
        return taken

    def is_waiting(self, job: int, share: Share) -> bool:
        """Whether any picture of `share` waits for its caption, in somebody's hands or not."""
        query = (
            f"SELECT 1 FROM items INDEXED BY items_pending WHERE job = ? AND state = 0 AND {share.condition} LIMIT 1"
        )
        with self._refusals():
            return self._database.execute(query, (job,)).fetchone() is not None

    def is_busy(self, job: int) -> bool:
        """Whether any worker holds a lease of the job."""
        with self._transaction():
            return bool(self._leased(job))

    def results(self, job: int, digests: Sequence[bytes]) -> dict[bytes, dict[str, Any]]:
        """The rows, without names, of those contents that have been captioned with the job's settings."""
        with self._refusals():
            marks = ", ".join("?" * len(digests))
            rows = self._database.execute(
                f"SELECT digest, row FROM results WHERE digest IN ({marks}) "
                "AND settings = (SELECT settings FROM jobs WHERE id = ?)",
                (*digests, job),
            ).fetchall()
        return {digest: json.loads(row) for digest, row in rows}

    def record(self, job: int, batch: Batch, outcomes: Sequence[Done], *, release: bool = True) -> None:
        """Write down what became of the pending pictures of a batch, all at once; the lease ends, if `release`."""
        with self._transaction():
            run = self._database.execute
            (settings,) = run("SELECT settings FROM jobs WHERE id = ?", (job,)).fetchone()
            for done in outcomes:
                entry = done.entry
                if done.digest is not None:
                    run(
                        "INSERT OR REPLACE INTO contents VALUES (?, ?, ?, ?, ?)",
                        (entry.path, entry.member or b"", entry.size, entry.mtime_ns, done.digest),
                    )
                    if done.row is not None:
                        row = json.dumps(done.row, ensure_ascii=False)
                        run("INSERT OR IGNORE INTO results VALUES (?, ?, ?)", (done.digest, settings, row))
                error = None if done.error is None else json.dumps(done.error, ensure_ascii=False)
                state = _FAILED if error is not None else _SKIPPED if done.digest is None else _DONE
                run(
                    "UPDATE items SET digest = ?, state = ?, error = ?, size = ?, mtime_ns = ?, written = 0 "
                    "WHERE job = ? AND source = ?",
                    (done.digest, state, error, entry.size, entry.mtime_ns, job, entry.source),
                )
            if release:
                self._release(job, batch.number)
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
        condition = "state IN (1, 2)" if share is None else f"state IN (1, 2) AND {share.condition}"
        for _, *entry, error, row in self._pages(_ROWS, job, condition):
            yield Entry(*entry), {"error": json.loads(error)} if error is not None else json.loads(row)

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
