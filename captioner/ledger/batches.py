"""The batches of a job: leased by one worker, captioned whole, recorded in one transaction."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence

from captioner.ledger.holder import lives
from captioner.ledger.jobs import Jobs
from captioner.ledger.records import Batch, Done, Entry, Pending, Share
from captioner.ledger.schema import DONE, FAILED, ITEM, SKIPPED

_json = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps would make an encoder for each row
_PUBLISHING = -1  # the number of the batch that is leased by who writes the outputs


class Batches(Jobs):
    """The methods of a Ledger that hand out batches and take in what became of them."""

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
                    f"SELECT {ITEM}, digest FROM items WHERE job = ? AND state = 0 AND position >= ? "
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
                        FAILED if error is not None else SKIPPED if digest is None else DONE,
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

    def _release(self, job: int, numbers: Iterable[int]) -> None:
        query = "DELETE FROM leases WHERE job = ? AND batch = ? AND holder = ?"
        self._database.executemany(query, ((job, number, self.holder) for number in numbers))

    def _leased(self, job: int) -> set[int]:
        """The batches in somebody's hands, once leases that have ended are gone; inside a transaction."""
        run, now, taken = self._database.execute, time.time(), set()
        for batch, holder, until in run("SELECT batch, holder, until FROM leases WHERE job = ?", (job,)).fetchall():
            if until < now or (holder != self.holder and not lives(holder)):
                run("DELETE FROM leases WHERE job = ? AND batch = ?", (job, batch))
            else:
                taken.add(batch)
        return taken
