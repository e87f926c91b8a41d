"""The pictures of a job, in order, each with what became of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from captioner.ledger.file import LedgerFile
from captioner.ledger.records import Entry, Share, Standing
from captioner.ledger.schema import DONE, FAILED, ITEM

_PAGE = 1000  # items that are read at a time: an open query would keep other workers from writing
_ROWS = (
    f"SELECT position, {ITEM}, items.error, results.row FROM items JOIN jobs ON jobs.id = items.job "
    "LEFT JOIN results ON results.digest = items.digest AND results.settings = jobs.settings"
)
_LINES = _ROWS.replace(ITEM, "source")
_STANDINGS = _ROWS.replace("results.row", "results.row, state, items.digest")


class Rows(LedgerFile):
    """The methods of a Ledger that read its pictures."""

    def entries(self, job: int) -> Iterator[Entry]:
        """Every picture of the job, in order."""
        for row in self._pages(f"SELECT position, {ITEM} FROM items", job):
            yield Entry(*row[1:])

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
            yield Standing(position, Entry(*entry), digest, found if state in (DONE, FAILED) else None)

    def failures(self, job: int, share: Share | None = None) -> Iterator[tuple[Entry, dict[str, str]]]:
        """Every picture of the job that failed, in order, with its error {"type", "detail"}."""
        condition = "state = 2" if share is None else f"state = 2 AND {share.condition}"
        for _, *entry, error in self._pages(f"SELECT position, {ITEM}, error FROM items", job, condition):
            yield Entry(*entry), json.loads(error)

    def unwritten(self, job: int, share: Share) -> Iterator[tuple[Entry, dict[str, Any]]]:
        """As `rows`, those with a caption whose text was not put where it belongs yet."""
        condition = f"state = 1 AND written = 0 AND {share.condition}"
        for _, *entry, _, row in self._pages(_ROWS, job, condition):
            yield Entry(*entry), json.loads(row)

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


def _with_result(share: Share | None) -> str:
    return "state IN (1, 2)" if share is None else f"state IN (1, 2) AND {share.condition}"
