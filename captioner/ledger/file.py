"""The SQLite file of a ledger: opened, copied, changed in transactions, and what is said when that fails.

The journal is SQLite's rollback journal, not its write-ahead log, which does not work on network file systems.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Self

from captioner.errors import LedgerError
from captioner.ledger.holder import this_holder
from captioner.ledger.schema import APPLICATION, SCHEMA, VERSION

_BUSY_SECONDS = 60.0  # how long a worker waits for another one's transaction
_CACHE_KIBIBYTES = 2**15  # contents come in no order: with SQLite's own 2 MB, each is a page read and written


class LedgerFile:
    """One ledger file, opened. Many processes may use it at once; an object belongs to one thread.

    Every method of this and of what builds on it raises LedgerError, with one sentence, if the file cannot be used.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open the ledger at `path`, or begin it."""
        self.path = Path(path)
        self.holder = this_holder()
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
        application, version, is_empty = self._beginning()
        if application == 0 and version == 0 and is_empty:
            with self._transaction():
                if not run("SELECT 1 FROM sqlite_master").fetchone():  # another worker may have been first
                    for statement in SCHEMA.split(";\n"):
                        run(statement)
                    run(f"PRAGMA application_id = {APPLICATION}")
                    run(f"PRAGMA user_version = {VERSION}")
        elif application != APPLICATION:
            raise LedgerError(f"{self.path} is a database of another program; name another file with --ledger")
        elif version != VERSION:
            raise LedgerError(f"{self.path} has version {version}, this program reads {VERSION}; use a new ledger")
        run("PRAGMA journal_mode = TRUNCATE")  # quicker than to delete it; each connection says so anew
        run("PRAGMA synchronous = FULL")
        run(f"PRAGMA cache_size = -{_CACHE_KIBIBYTES}")

    def _beginning(self) -> tuple[int, int, bool]:
        """Whose file it is, which version, and whether it is empty; of one moment, as others may begin it just now."""
        run = self._database.execute
        run("BEGIN")
        try:
            (application,), (version,) = run("PRAGMA application_id").fetchone(), run("PRAGMA user_version").fetchone()
            return application, version, not run("SELECT 1 FROM sqlite_master").fetchone()
        finally:
            if self._database.in_transaction:
                run("ROLLBACK")

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
