"""Jobs of a ledger whose pictures are captioned with their own names."""

from __future__ import annotations

import json
from collections.abc import Sequence

from captioner.ledger import Batch, Done, Entry, Ledger, Share

HOUR = 3600.0
FOUR = Share(batch_size=4)


def entry(name: str, size: int = 10, mtime_ns: int = 1) -> Entry:
    return Entry(name.encode(), b"/photos/" + name.encode(), None, b"/photos", size, mtime_ns)


def entries(number: int) -> list[Entry]:
    return [entry(f"{index:05}.jpg") for index in range(number)]


def begin(ledger: Ledger, items: Sequence[Entry], *, key: str = "k", settings: str = "s") -> int:
    job = ledger.job(key=key, command={"paths": ["photos"]}, settings=settings)
    ledger.plan(job, items)
    return job


def lease(ledger: Ledger, job: int, seconds: float = HOUR) -> Batch | None:
    return ledger.lease(job, FOUR, seconds=seconds)


def caption(ledger: Ledger, job: int, batch: Batch) -> None:
    """Record a batch in which each picture is captioned with its own name."""
    ledger.record(
        job,
        batch,
        [
            Done(entry=p.entry, digest=p.entry.source, row=json.dumps({"caption": p.entry.source.decode()}), error=None)
            for p in batch.pending
        ],
    )


def finish(ledger: Ledger, job: int) -> int:
    """Caption all that is left; how many pictures that was."""
    done = 0
    while (batch := lease(ledger, job)) is not None:
        caption(ledger, job, batch)
        done += len(batch.pending)
    return done


def names(ledger: Ledger, job: int) -> list[tuple[str, object]]:
    return [(entry.source.decode(), row.get("caption")) for entry, row in ledger.rows(job)]
