"""The ledger: a batch is done or not begun, whatever happens, and nothing is done twice."""

from __future__ import annotations

import json
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

from captioner.errors import LedgerError, SourceError
from captioner.ledger import Batch, Change, Done, Entry, Ledger, Share

HOUR = 3600.0
FOUR = Share(batch_size=4)


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
        "from captioner.ledger import Ledger, Share\n"
        "ledger = Ledger(sys.argv[1])\n"
        "assert ledger.lease(1, Share(batch_size=4), seconds=3600.0).number == 0\n"
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
    assert ledger.results(job, [b"00001.jpg", b"unknown"]) == {b"00001.jpg": '{"caption": "00001.jpg"}'}
    assert ledger.results(job, []) == {}


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


def test_shards_share_the_batches_out(ledger: Ledger) -> None:
    job = begin(ledger, entries(20))
    numbers: list[list[int]] = []
    for shard in ((0, 3), (1, 3), (2, 3)):
        numbers.append([])
        while (batch := ledger.lease(job, Share(batch_size=4, shard=shard), seconds=HOUR)) is not None:
            numbers[-1].append(batch.number)
            caption(ledger, job, batch)
    assert numbers == [[0, 3], [1, 4], [2]]


def test_each_shard_has_its_own_rows_counts_and_failures(ledger: Ledger) -> None:
    job = begin(ledger, entries(10))
    second = Share(batch_size=4, shard=(1, 2))
    error = {"type": "UnreadableImage", "detail": "It is empty."}
    batch = ledger.lease(job, second, seconds=HOUR)
    assert batch is not None
    assert ledger.is_waiting(job, second)
    done = [Done(entry=p.entry, digest=p.entry.source, row='{"caption": "c"}', error=None) for p in batch.pending[:3]]
    ledger.record(job, batch, [*done, Done(entry=batch.pending[3].entry, digest=None, row=None, error=error)])
    assert not ledger.is_waiting(job, second)
    assert ledger.is_waiting(job, Share(batch_size=4, shard=(0, 2)))
    counts = ledger.counts(job, second)
    assert (counts.done, counts.failed, counts.total) == (3, 1, 4)
    assert [entry.source for entry, _ in ledger.rows(job, second)] == [b"%05d.jpg" % number for number in range(4, 8)]
    assert list(ledger.rows(job, Share(batch_size=4, shard=(0, 2)))) == []
    assert [(entry.source, reason) for entry, reason in ledger.failures(job, second)] == [(b"00007.jpg", error)]
    standings = list(ledger.standings(job))
    assert [standing.position for standing in standings] == list(range(10))
    assert [standing.position for standing in standings if standing.row is not None] == [4, 5, 6, 7]
    assert [second.has(standing.position) for standing in standings] == [4 <= number < 8 for number in range(10)]


def test_the_outputs_are_written_by_one_and_not_while_anybody_works(ledger: Ledger, tmp_path: Path) -> None:
    job = begin(ledger, entries(4))
    batch = lease(ledger, job)
    assert batch is not None
    with Ledger(tmp_path / "ledger") as other:
        assert not other.lease_outputs(job, seconds=HOUR)
        ledger.record(job, batch, [], release=False)
        assert not other.lease_outputs(job, seconds=HOUR)
        assert ledger.is_busy(job)
        ledger.release(job, batch)
        assert not ledger.is_busy(job)
        assert other.lease_outputs(job, seconds=HOUR)
        assert not ledger.lease_outputs(job, seconds=HOUR)
        other.release(job, None)
        assert ledger.lease_outputs(job, seconds=HOUR)


def test_what_changes_while_outputs_are_written_is_not_taken_for_written(ledger: Ledger) -> None:
    job = begin(ledger, entries(4))
    finish(ledger, job)
    revision = ledger.revision(job)
    ledger.plan(job, entries(3))  # somebody else's, meanwhile
    ledger.set_published(job, revision)
    assert not ledger.is_published(job)


def test_a_process_of_the_same_number_does_not_inherit_a_lease(ledger: Ledger, tmp_path: Path) -> None:
    if not Path("/proc/self/stat").exists():
        pytest.skip("this system does not tell when a process was begun")
    job = begin(ledger, entries(4))
    with Ledger(tmp_path / "ledger") as other:
        other.holder = f"{ledger.holder.rpartition(':')[0]}:1"  # this number, but an earlier process
        assert lease(other, job) is not None
        assert lease(ledger, job) is not None


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


def test_a_copy_in_memory_leaves_the_file_alone(ledger: Ledger, tmp_path: Path) -> None:
    job = begin(ledger, entries(4))
    file = tmp_path / "ledger"
    before = file.read_bytes(), file.stat().st_mtime_ns
    with Ledger.copied(file) as copy:
        assert list(copy.entries(job)) == entries(4)
        finish(copy, job)
    assert (file.read_bytes(), file.stat().st_mtime_ns) == before
    with Ledger.copied(tmp_path / "gone") as empty:
        assert empty.jobs() == []
    assert not (tmp_path / "gone").exists()


def test_a_copy_of_what_a_killed_process_left(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys\n"
        "from tests.test_ledger import begin, entries\n"
        "from captioner.ledger import Ledger\n"
        "ledger = Ledger(sys.argv[1])\n"
        "begin(ledger, entries(4))\n"
        "ledger._database.execute('PRAGMA cache_size = 1')\n"  # so that it spills into the file
        "ledger._database.execute('BEGIN')\n"
        "ledger._database.executemany('INSERT INTO results (digest, settings, row) VALUES (?, ?, ?)',"
        " ((bytes(8) + b'%d' % n, 's', 'r' * 500) for n in range(2000)))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    file = tmp_path / "ledger"
    subprocess.run([sys.executable, "-c", program, str(file)], check=False, cwd=Path(__file__).parents[1])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(before["ledger-journal"]) > 0
    with Ledger.copied(file) as copy:
        assert list(copy.entries(1)) == entries(4)
        assert copy._database.execute("SELECT count(*) FROM results").fetchone() == (0,)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


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
    with pytest.raises(LedgerError, match=r"gone.*name a file in a folder that can be written with --ledger"):
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
