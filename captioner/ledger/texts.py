"""The texts of single pictures that a job writes, with what stood there before."""

from __future__ import annotations

from collections.abc import Iterable

from captioner.ledger.jobs import Jobs
from captioner.ledger.records import Change


class Texts(Jobs):
    """The methods of a Ledger that keep what is replaced."""

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
