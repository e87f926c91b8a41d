"""The jobs of a ledger: each a command, what was settled for it, how far it is, and whether it is published."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from captioner.ledger.file import LedgerFile
from captioner.ledger.records import Counts, Share
from captioner.ledger.schema import DONE, FAILED, PENDING, SKIPPED


class Jobs(LedgerFile):
    """The methods of a Ledger that tell of whole jobs."""

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
                rows[DONE] = total - sum(rows.values())
        return Counts(
            pending=rows.get(PENDING, 0),
            done=rows.get(DONE, 0),
            failed=rows.get(FAILED, 0),
            skipped=rows.get(SKIPPED, 0),
        )

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

    def _revise(self, job: int) -> None:
        self._database.execute("UPDATE jobs SET revision = revision + 1 WHERE id = ?", (job,))
