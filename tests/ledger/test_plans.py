"""A job's pictures: what changed is done anew, and nothing else is."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.errors import SourceError
from captioner.ledger import Entry, Ledger
from tests.ledger.jobs import begin, caption, entries, entry, finish, lease, names


def test_the_same_command_goes_on_with_the_same_job(tmp_path: Path) -> None:
    with Ledger(tmp_path / "l") as first:
        job = begin(first, entries(10))
        batch = lease(first, job)
        assert batch is not None
        caption(first, job, batch)
    with Ledger(tmp_path / "l") as second:
        assert begin(second, entries(10)) == job
        assert begin(second, entries(10), key="another") != job
        assert second.counts(job).done == 4
        assert finish(second, job) == 6
        assert [command for _, command in second.jobs()] == [{"paths": ["photos"]}] * 2


def test_a_picture_that_changed_is_captioned_anew_and_the_others_are_not(ledger: Ledger) -> None:
    job = begin(ledger, entries(6))
    finish(ledger, job)
    items = entries(6)
    items[2] = entry("00002.jpg", mtime_ns=2)
    ledger.plan(job, [*items[1:4], entry("new.jpg")])
    assert finish(ledger, job) == 2
    assert [name for name, _ in names(ledger, job)] == ["00001.jpg", "00002.jpg", "00003.jpg", "new.jpg"]


def test_another_job_with_the_same_settings_need_not_read_again(ledger: Ledger) -> None:
    finish(ledger, begin(ledger, entries(6)))
    same = begin(ledger, entries(6), key="other outputs")
    assert ledger.counts(same).done == 6
    other = begin(ledger, entries(6), key="other model", settings="t")
    batch = lease(ledger, other)
    assert batch is not None
    assert [pending.digest for pending in batch.pending] == [item.source for item in entries(4)]


def test_outputs_are_to_be_made_again_when_something_changed(ledger: Ledger) -> None:
    job = begin(ledger, entries(4))
    finish(ledger, job)
    assert not ledger.is_published(job)
    ledger.set_published(job, ledger.revision(job))
    assert ledger.is_published(job)
    ledger.plan(job, entries(4))
    assert ledger.is_published(job)
    ledger.plan(job, entries(3))
    assert not ledger.is_published(job)


def test_what_changes_while_outputs_are_written_is_not_taken_for_written(ledger: Ledger) -> None:
    job = begin(ledger, entries(4))
    finish(ledger, job)
    revision = ledger.revision(job)
    ledger.plan(job, entries(3))  # somebody else's, meanwhile
    ledger.set_published(job, revision)
    assert not ledger.is_published(job)


def test_sources_that_fail_midway_leave_everything_as_it_was(ledger: Ledger) -> None:
    job = begin(ledger, entries(6))
    finish(ledger, job)
    before = list(ledger.standings(job))

    def failing() -> Iterator[Entry]:
        yield entry("00000.jpg", 5, 5)
        yield entry("another.jpg")
        raise SourceError("The folder is gone: check the path.")

    with pytest.raises(SourceError, match="gone"):
        ledger.plan(job, failing())
    assert list(ledger.standings(job)) == before
    ledger.plan(job, entries(7))
    assert ledger.counts(job).pending == 1


def test_long_jobs_are_read_in_pages_that_keep_nobody_from_writing(ledger: Ledger, tmp_path: Path) -> None:
    job = begin(ledger, entries(2500))
    with Ledger(tmp_path / "ledger") as other:
        other._database.execute("PRAGMA busy_timeout = 0")
        read = 0
        for _ in ledger.entries(job):
            read += 1
            if read in (1, 1500):
                other.settle(job, str(read), "written meanwhile")
    assert read == 2500


@settings(max_examples=50)
@given(st.lists(st.lists(st.tuples(st.integers(0, 12), st.integers(1, 3)), unique_by=lambda pair: pair[0]), max_size=4))
def test_however_the_sources_change_the_rows_are_those_of_a_new_job(lists: list[list[tuple[int, int]]]) -> None:
    def of(pairs: list[tuple[int, int]]) -> list[Entry]:
        return [entry(f"{number:02}", mtime_ns=time) for number, time in sorted(pairs)]

    number = count()
    with Ledger(":memory:") as ledger, Ledger(":memory:") as fresh:
        for pairs in lists:
            job = begin(ledger, of(pairs))
            if next(number) % 2:
                finish(ledger, job)
        new = begin(fresh, of(lists[-1]) if lists else [])
        old = begin(ledger, of(lists[-1]) if lists else [])
        finish(fresh, new)
        finish(ledger, old)
        assert list(ledger.rows(old)) == list(fresh.rows(new))
