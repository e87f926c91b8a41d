"""Batches: leased by one worker, done or not begun, and nothing is done twice."""

from __future__ import annotations

import multiprocessing
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from captioner.ledger import Done, Ledger, Share
from tests.ledger.jobs import HOUR, begin, caption, entries, finish, lease, names


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


def test_a_process_of_the_same_number_does_not_inherit_a_lease(ledger: Ledger, tmp_path: Path) -> None:
    if not Path("/proc/self/stat").exists():
        pytest.skip("this system does not tell when a process was begun")
    job = begin(ledger, entries(4))
    with Ledger(tmp_path / "ledger") as other:
        other.holder = f"{ledger.holder.rpartition(':')[0]}:1"  # this number, but an earlier process
        assert lease(other, job) is not None
        assert lease(ledger, job) is not None


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


def test_results_are_found_by_content(ledger: Ledger) -> None:
    job = begin(ledger, entries(4))
    finish(ledger, job)
    assert ledger.results(job, [b"00001.jpg", b"unknown"]) == {b"00001.jpg": '{"caption": "00001.jpg"}'}
    assert ledger.results(job, []) == {}


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
