"""The texts that a job wrote, and what stood there before."""

from __future__ import annotations

from captioner.ledger import Change, Ledger
from tests.ledger.jobs import FOUR, begin, entries, entry, finish


def test_the_first_text_of_a_target_is_the_one_to_go_back_to(ledger: Ledger) -> None:
    job = begin(ledger, entries(1))
    ledger.intend(job, [Change(target=b"b", before=None, after=b"1"), Change(target=b"a", before=b"0", after=b"1")])
    ledger.intend(job, [Change(target=b"a", before=b"1", after=b"2")])
    assert ledger.changes(job) == [
        Change(target=b"a", before=b"0", after=b"2"),
        Change(target=b"b", before=None, after=b"1"),
    ]
    ledger.intend(job, [Change(target=b"a", before=b"a person's", after=b"3")])
    assert ledger.changes(job)[0] == Change(target=b"a", before=b"a person's", after=b"3")
    ledger.forget(job, [change for change in ledger.changes(job) if change.target == b"a"])
    assert [change.target for change in ledger.changes(job)] == [b"b"]


def test_a_picture_that_the_job_itself_changed_stays_done(ledger: Ledger) -> None:
    job = begin(ledger, entries(3))
    finish(ledger, job)
    ledger.refresh(job, b"00001.jpg", size=99, mtime_ns=7)
    items = entries(3)
    items[1] = entry("00001.jpg", 99, 7)
    assert list(ledger.entries(job)) == items
    ledger.plan(job, items)
    assert ledger.counts(job).done == 3
    assert ledger.counts(begin(ledger, items, key="another")).done == 3


def test_texts_are_written_once_and_again_when_the_picture_changes_or_they_are_taken_back(ledger: Ledger) -> None:
    job = begin(ledger, entries(3))
    finish(ledger, job)
    assert [entry.source for entry, _ in ledger.unwritten(job, FOUR)] == [b"00000.jpg", b"00001.jpg", b"00002.jpg"]
    change = Change(target=b"/a.txt", before=None, after=b"a", source=b"00001.jpg")
    ledger.intend(job, [change])
    ledger.set_written(job, [b"00000.jpg", b"00001.jpg"])
    assert [entry.source for entry, _ in ledger.unwritten(job, FOUR)] == [b"00002.jpg"]
    ledger.forget(job, [change])
    assert [entry.source for entry, _ in ledger.unwritten(job, FOUR)] == [b"00001.jpg", b"00002.jpg"]
    ledger.plan(job, [entry("00000.jpg", 99), *entries(3)[1:]])
    finish(ledger, job)
    assert [entry.source for entry, _ in ledger.unwritten(job, FOUR)] == [b"00000.jpg", b"00001.jpg", b"00002.jpg"]
