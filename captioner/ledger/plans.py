"""The plan of a job: which pictures it has, compared with those that it had the last time."""

from __future__ import annotations

import hashlib
import marshal
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice
from typing import Any, TypeVar

from captioner.ledger.jobs import Jobs
from captioner.ledger.records import Counts, Entry
from captioner.ledger.schema import ITEM, SLICE

_Item = TypeVar("_Item", bound=tuple[Any, ...])


class Plans(Jobs):
    """The methods of a Ledger that make the plan of a job."""

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
            while some := list(islice(arriving, SLICE)):
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
        query = f"SELECT {ITEM} FROM items WHERE job = ? AND position BETWEEN ? AND ? ORDER BY position"
        there = run(query, (job, first, first + SLICE - 1)).fetchall()
        return there == [tuple(entry_of(item)) for item in items]

    def _replan(self, job: int, same: int, items: Iterable[_Item], entry_of: Callable[[_Item], Entry]) -> None:
        """Replace the items from position `same` on."""
        run = self._database.execute
        run("DELETE FROM slices WHERE job = ? AND first >= ?", (job, same))
        arriving = self._arriving(job, same, iter(items), entry_of)
        if run("SELECT 1 FROM items WHERE job = ? AND position >= ?", (job, same)).fetchone() is not None:
            self._replace(job, same, arriving)
        else:
            query = f"INSERT OR IGNORE INTO items ({ITEM}, position, job) VALUES (?, ?, ?, ?, ?, ?, ?, {job:d})"
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
        while some := list(islice(items, SLICE)):
            self._database.execute("INSERT INTO slices VALUES (?, ?, ?)", (job, first, _digest(some)))
            for position, item in enumerate(some, start=first):
                yield (*entry_of(item), position)
            first += len(some)

    def _replace(self, job: int, same: int, arriving: Iterable[tuple[Any, ...]]) -> None:
        """The items from position `same` on are those that arrive; what is known of them stays."""
        run = self._database.execute
        run("DROP TABLE IF EXISTS temp.arriving")
        run(f"CREATE TEMP TABLE arriving ({ITEM}, position INTEGER, PRIMARY KEY (source)) WITHOUT ROWID")
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
            f"INSERT INTO items (job, {ITEM}, position) SELECT ?, {ITEM}, position FROM arriving WHERE true "
            "ON CONFLICT (job, source) DO UPDATE SET position = excluded.position, path = excluded.path, "
            f"member = excluded.member, root = excluded.root, size = excluded.size, mtime_ns = excluded.mtime_ns, "
            f"digest = CASE WHEN {changed} THEN NULL ELSE digest END, "
            f"state = CASE WHEN {changed} THEN 0 ELSE state END, error = CASE WHEN {changed} THEN NULL ELSE error END, "
            f"written = CASE WHEN {changed} THEN 0 ELSE written END",
            (job,),
        )
        run("DROP TABLE temp.arriving")


def _digest(items: Iterable[tuple[Any, ...]]) -> bytes:
    # By columns, which is quicker. Version 2 of this format, unlike later ones, does not depend on which of the values
    # are the same object.
    return hashlib.blake2b(marshal.dumps(list(zip(*items, strict=True)), 2), digest_size=20).digest()
