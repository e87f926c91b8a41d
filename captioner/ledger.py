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
import socket
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
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
    published INTEGER NOT NULL DEFAULT 0  -- whether the outputs hold what stands here
);
CREATE TABLE items (
    job INTEGER NOT NULL, source BLOB NOT NULL,  -- the file system's bytes: a name need not be text
    position INTEGER NOT NULL, path BLOB NOT NULL, member BLOB, root BLOB NOT NULL,
    size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,  -- the fingerprint
    digest BLOB,                -- of the content, once it has been read
    state INTEGER NOT NULL DEFAULT 0,
    error TEXT,                 -- JSON {"type", "detail"}
    attempts INTEGER NOT NULL DEFAULT 0,
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
    job INTEGER NOT NULL, target BLOB NOT NULL, before BLOB, after BLOB NOT NULL,
    PRIMARY KEY (job, target)
) WITHOUT ROWID;
"""
_ITEM = "source, path, member, root, size, mtime_ns"


class Entry(NamedTuple):
    """One picture of a job: how it is called, where it lies, and its fingerprint (see captioner/batch/items.py)."""

    source: bytes
    path: bytes
    member: bytes | None
    root: bytes
    size: int
    mtime_ns: int


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

    With neither it was skipped, because what it would get is there already; the next run looks at it again.
    """

    entry: Entry
    digest: bytes | None
    row: Mapping[str, Any] | None
    error: Mapping[str, str] | None


@dataclass(frozen=True, kw_only=True)
class Change:
    """A text that a job writes: what stood at `target` before (None: nothing) and what it writes there."""

    target: bytes
    before: bytes | None
    after: bytes


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
        self._path = Path(path)
        self.holder = f"{socket.gethostname()}:{os.getpid()}"
        with self._refusals():
            self._database = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None)
            try:
                self._open()
            except BaseException:
                self._database.close()
                raise

    def _open(self) -> None:
        run = self._database.execute
        (application,), (version,) = run("PRAGMA application_id").fetchone(), run("PRAGMA user_version").fetchone()
        if application == 0 and version == 0 and not run("SELECT 1 FROM sqlite_master").fetchone():
            run("PRAGMA journal_mode = TRUNCATE")
            with self._transaction():
                if not run("SELECT 1 FROM sqlite_master").fetchone():  # another worker may have been first
                    for statement in _SCHEMA.split(";\n"):
                        run(statement)
                    run(f"PRAGMA application_id = {_APPLICATION}")
                    run(f"PRAGMA user_version = {_VERSION}")
        elif application != _APPLICATION:
            raise LedgerError(f"{self._path} is a database of another program; name another file with --ledger")
        elif version != _VERSION:
            raise LedgerError(f"{self._path} has version {version}, this program reads {_VERSION}; use a new ledger")
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
                run("UPDATE jobs SET published = 0 WHERE id = ?", (job,))
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
            f"state = CASE WHEN {changed} THEN 0 ELSE state END, error = CASE WHEN {changed} THEN NULL ELSE error END",
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
        run("UPDATE jobs SET published = 0 WHERE id = ?", (job,))

    def counts(self, job: int) -> Counts:
        """How far the job is."""
        with self._refusals():
            rows = dict(
                self._database.execute("SELECT state, count(*) FROM items WHERE job = ? GROUP BY state", (job,))
            )
        return Counts(
            pending=rows.get(_PENDING, 0),
            done=rows.get(_DONE, 0),
            failed=rows.get(_FAILED, 0),
            skipped=rows.get(_SKIPPED, 0),
        )

    # --- batches

    def lease(self, job: int, *, batch_size: int, seconds: float, shard: tuple[int, int] = (0, 1)) -> Batch | None:
        """Take the first batch that has pictures without a caption and is in nobody's hands; None if there is none.

        A lease ends after `seconds`, and at once if its holder was a process of this machine that is no more. Of a
        `shard` (i, n) only every n-th batch is taken, from batch i on.
        """
        with self._transaction():
            run, now = self._database.execute, time.time()
            for batch, holder, until in run("SELECT batch, holder, until FROM leases WHERE job = ?", (job,)).fetchall():
                if until < now or not _lives(holder):
                    run("DELETE FROM leases WHERE job = ? AND batch = ?", (job, batch))
            taken = {batch for (batch,) in run("SELECT batch FROM leases WHERE job = ?", (job,))}
            position = 0
            while True:
                found = run(
                    "SELECT min(position) FROM items WHERE job = ? AND state = 0 AND position >= ?",
                    (job, position),
                ).fetchone()
                if found[0] is None:
                    return None
                batch = found[0] // batch_size
                if batch % shard[1] == shard[0] and batch not in taken:
                    break
                position = (batch + 1) * batch_size
            run("INSERT INTO leases VALUES (?, ?, ?, ?)", (job, batch, self.holder, now + seconds))
            scope = (job, batch * batch_size, (batch + 1) * batch_size)
            where = "WHERE job = ? AND state = 0 AND position >= ? AND position < ?"
            run(f"UPDATE items SET attempts = attempts + 1 {where}", scope)
            rows = run(f"SELECT {_ITEM}, digest FROM items {where} ORDER BY position", scope).fetchall()
        return Batch(number=batch, pending=tuple(Pending(entry=Entry(*row[:6]), digest=row[6]) for row in rows))

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

    def record(self, job: int, batch: Batch, outcomes: Sequence[Done]) -> None:
        """Write down what became of the pending pictures of a batch, all at once, and give the lease back."""
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
                    "UPDATE items SET digest = ?, state = ?, error = ? WHERE job = ? AND source = ?",
                    (done.digest, state, error, job, entry.source),
                )
            run("DELETE FROM leases WHERE job = ? AND batch = ?", (job, batch.number))
            run("UPDATE jobs SET published = 0 WHERE id = ?", (job,))

    def entries(self, job: int) -> Iterator[Entry]:
        """Every picture of the job, in order."""
        with self._refusals():
            query = self._database.execute(f"SELECT {_ITEM} FROM items WHERE job = ? ORDER BY position", (job,))
            yield from (Entry(*row) for row in query)

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

    def rows(self, job: int) -> Iterator[tuple[Entry, dict[str, Any]]]:
        """Every picture of the job that has its result, in order, with its row: `image` is left to the caller."""
        with self._refusals():
            query = self._database.execute(
                f"SELECT {_ITEM}, items.error, results.row FROM items JOIN jobs ON jobs.id = items.job "
                "LEFT JOIN results ON results.digest = items.digest AND results.settings = jobs.settings "
                "WHERE items.job = ? AND state IN (1, 2) ORDER BY position",
                (job,),
            )
            for *entry, error, row in query:
                yield Entry(*entry), {"error": json.loads(error)} if error is not None else json.loads(row)

    # --- outputs

    def is_published(self, job: int) -> bool:
        """Whether the outputs were made after the last change of what stands here."""
        with self._refusals():
            (published,) = self._database.execute("SELECT published FROM jobs WHERE id = ?", (job,)).fetchone()
        return bool(published)

    def set_published(self, job: int, published: bool = True) -> None:
        """Note whether the outputs hold what stands here."""
        with self._transaction():
            self._database.execute("UPDATE jobs SET published = ? WHERE id = ?", (int(published), job))

    def intend(self, job: int, changes: Iterable[Change]) -> None:
        """Keep what stands at the targets before it is touched.

        Of a target that the job has written before, and nobody else since, the text before the first time.
        """
        with self._transaction():
            self._database.executemany(
                "INSERT INTO changes (job, target, before, after) VALUES (?, ?, ?, ?) "
                "ON CONFLICT DO UPDATE SET after = excluded.after, "
                "before = CASE WHEN excluded.before IS changes.after THEN changes.before ELSE excluded.before END",
                ((job, change.target, change.before, change.after) for change in changes),
            )

    def forget(self, job: int, targets: Iterable[bytes]) -> None:
        """Drop the notes of targets that were taken back."""
        with self._transaction():
            self._database.executemany(
                "DELETE FROM changes WHERE job = ? AND target = ?", ((job, target) for target in targets)
            )

    def changes(self, job: int) -> list[Change]:
        """Every text that the job wrote or is about to write, in the order of the targets."""
        with self._refusals():
            rows = self._database.execute(
                "SELECT target, before, after FROM changes WHERE job = ? ORDER BY target", (job,)
            ).fetchall()
        return [Change(target=row[0], before=row[1], after=row[2]) for row in rows]

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
            raise LedgerError(f"the ledger {self._path} cannot be used: {error}") from error


def _lives(holder: str) -> bool:
    """Whether the process that holds a lease may still be there; of other machines' processes one cannot know."""
    host, _, process = holder.rpartition(":")
    if host != socket.gethostname():
        return True
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
