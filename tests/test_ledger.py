"""The ledger: a batch is done or not begun, whatever happens, and nothing is done twice."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.errors import LedgerError
from captioner.ledger import Batch, Change, Done, Entry, Ledger

HOUR = 3600.0


def entry(name: str, size: int = 10, mtime_ns: int = 1) -> Entry:
    return Entry(name.encode(), b"/photos/" + name.encode(), None, b"/photos", size, mtime_ns)


def entries(number: int) -> list[Entry]:
    return [entry(f"{index:05}.jpg") for index in range(number)]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger") as ledger:
        yield ledger


def begin(ledger: Ledger, items: Sequence[Entry], *, key: str = "k", settings: str = "s") -> int:
    job = ledger.job(key=key, command={"paths": ["photos"]}, settings=settings)
    ledger.plan(job, items)
    return job


def lease(ledger: Ledger, job: int, seconds: float = HOUR) -> Batch | None:
    return ledger.lease(job, batch_size=4, seconds=seconds)


def caption(ledger: Ledger, job: int, batch: Batch) -> None:
    """Record a batch in which each picture is captioned with its own name."""
    ledger.record(
        job,
        batch,
        [
            Done(entry=p.entry, digest=p.entry.source, row={"caption": p.entry.source.decode()}, error=None)
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


def test_batches_are_slices_in_order_and_every_row_comes_back(ledger: Ledger) -> None:
    job = begin(ledger, entries(10))
    sizes: list[int] = []
    while (batch := lease(ledger, job)) is not None:
        assert batch.number == len(sizes)
        sizes.append(len(batch.pending))
        caption(ledger, job, batch)
    assert sizes == [4, 4, 2]
    assert names(ledger, job) == [(f"{index:05}.jpg",) * 2 for index in range(10)]
    counts = ledger.counts(job)
    assert (counts.pending, counts.done, counts.failed, counts.total) == (0, 10, 0, 10)


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


def test_a_lease_is_one_workers_and_ends(ledger: Ledger, tmp_path: Path) -> None:
    job = begin(ledger, entries(8))
    with Ledger(tmp_path / "ledger") as other:
        first, second = lease(ledger, job), lease(other, job)
        assert first is not None
        assert second is not None
        assert (first.number, second.number) == (0, 1)
        assert lease(other, job) is None
        ledger.record(job, first, [])  # nothing of it was done
        again = lease(other, job, seconds=-1.0)  # it has ended already
        assert again is not None
        assert again.number == 0
        assert lease(ledger, job) == again


def test_the_lease_of_a_process_that_died_ends_at_once(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys\n"
        "from captioner.ledger import Ledger\n"
        "ledger = Ledger(sys.argv[1])\n"
        "assert ledger.lease(1, batch_size=4, seconds=3600.0).number == 0\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    with Ledger(tmp_path / "l") as ledger:
        job = begin(ledger, entries(4))
        died = subprocess.run([sys.executable, "-c", program, str(tmp_path / "l")], check=False)
        assert died.returncode == -signal.SIGKILL
        batch = lease(ledger, job)
        assert batch is not None
        assert batch.number == 0


def test_many_workers_do_each_batch_once(tmp_path: Path) -> None:
    with Ledger(tmp_path / "l") as ledger:
        job = begin(ledger, entries(101))
        with multiprocessing.get_context("spawn").Pool(3) as pool:
            done = pool.starmap(_work, [(str(tmp_path / "l"), job)] * 3)
        assert sum(done) == 101
        assert len(names(ledger, job)) == 101


def _work(path: str, job: int) -> int:
    with Ledger(path) as ledger:
        return finish(ledger, job)


def test_failures_are_rows_and_are_tried_again_by_the_next_run(ledger: Ledger) -> None:
    job = begin(ledger, entries(3))
    batch = lease(ledger, job)
    assert batch is not None
    error = {"type": "UnreadableImage", "detail": "It is empty."}
    ledger.record(job, batch, [Done(entry=p.entry, digest=None, row=None, error=error) for p in batch.pending])
    assert [row for _, row in ledger.rows(job)] == [{"error": error}] * 3
    assert ledger.counts(job).failed == 3
    assert lease(ledger, job) is None
    ledger.plan(job, entries(3))
    assert finish(ledger, job) == 3


def test_skipped_pictures_have_no_row_and_are_looked_at_again(ledger: Ledger) -> None:
    job = begin(ledger, entries(3))
    batch = lease(ledger, job)
    assert batch is not None
    ledger.record(job, batch, [Done(entry=p.entry, digest=None, row=None, error=None) for p in batch.pending])
    assert list(ledger.rows(job)) == []
    assert (ledger.counts(job).skipped, ledger.counts(job).total) == (3, 3)
    ledger.plan(job, entries(3))
    assert ledger.counts(job).pending == 3


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


def test_results_are_found_by_content(ledger: Ledger) -> None:
    job = begin(ledger, entries(4))
    finish(ledger, job)
    assert ledger.results(job, [b"00001.jpg", b"unknown"]) == {b"00001.jpg": {"caption": "00001.jpg"}}
    assert ledger.results(job, []) == {}


def test_outputs_are_to_be_made_again_when_something_changed(ledger: Ledger) -> None:
    job = begin(ledger, entries(4))
    finish(ledger, job)
    assert not ledger.is_published(job)
    ledger.set_published(job)
    ledger.plan(job, entries(4))
    assert ledger.is_published(job)
    ledger.plan(job, entries(3))
    assert not ledger.is_published(job)


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
    ledger.forget(job, [b"a"])
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


def test_shards_share_the_batches_out(ledger: Ledger) -> None:
    job = begin(ledger, entries(20))
    numbers: list[list[int]] = []
    for shard in ((0, 3), (1, 3), (2, 3)):
        numbers.append([])
        while (batch := ledger.lease(job, batch_size=4, seconds=HOUR, shard=shard)) is not None:
            numbers[-1].append(batch.number)
            caption(ledger, job, batch)
    assert numbers == [[0, 3], [1, 4], [2]]


def test_names_that_are_no_text_survive(ledger: Ledger) -> None:
    odd = Entry(b"\xff\xfe.jpg", b"/\xff\n.zip", b"in\xffside", b"/", 1, 2)
    job = begin(ledger, [odd])
    batch = lease(ledger, job)
    assert batch is not None
    assert batch.pending[0].entry == odd


@settings(deadline=None, max_examples=50)
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


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"no database, but long enough to be looked at" * 9, "cannot be used"), (None, "another program")],
)
def test_a_file_of_somebody_else_is_refused_and_not_touched(tmp_path: Path, content: bytes | None, told: str) -> None:
    file = tmp_path / "theirs"
    if content is None:
        database = sqlite3.connect(file)
        database.execute("CREATE TABLE theirs (x)")
        database.close()
    else:
        file.write_bytes(content)
    before = file.read_bytes()
    with pytest.raises(LedgerError, match=told):
        Ledger(file)
    assert file.read_bytes() == before


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="gone"):
        Ledger(tmp_path / "gone" / "ledger")


def test_kill_at_any_moment_leaves_batches_whole(tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "from tests.test_ledger import begin, entries, finish\n"
        "from captioner.ledger import Ledger\n"
        "with Ledger(sys.argv[1]) as ledger:\n"
        "    print('ready', flush=True)\n"
        "    finish(ledger, begin(ledger, entries(400)))\n"
    )
    file = tmp_path / "l"
    for round_number in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", program, str(file)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[1]
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            try:
                process.wait(timeout=0.02 * (round_number + 1))
            except subprocess.TimeoutExpired:
                os.kill(process.pid, signal.SIGKILL)
        with Ledger(file) as ledger:
            job = begin(ledger, entries(400))
            assert ledger.counts(job).done % 4 == 0
    with Ledger(file) as ledger:
        finish(ledger, job)
        assert names(ledger, job) == [(f"{index:05}.jpg",) * 2 for index in range(400)]
