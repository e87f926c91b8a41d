"""The file of a ledger: copied, refused, begun by several at once, and whole whenever its user is killed."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from captioner.errors import LedgerError
from captioner.ledger import Entry, Ledger
from tests.ledger.jobs import begin, entries, finish, lease, names


@pytest.fixture
def hurried() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("hurried")
def test_several_that_begin_the_same_file_at_once(tmp_path: Path) -> None:
    refused: list[LedgerError] = []

    def open_it(file: Path, all_are_there: threading.Barrier) -> None:
        all_are_there.wait()
        try:
            Ledger(file).close()
        except LedgerError as error:
            refused.append(error)

    for number in range(100):
        barrier = threading.Barrier(4)
        workers = [threading.Thread(target=open_it, args=(tmp_path / str(number), barrier)) for _ in range(4)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    assert refused == []


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
        "from tests.ledger.jobs import begin, entries\n"
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
    subprocess.run([sys.executable, "-c", program, str(file)], check=False, cwd=Path(__file__).parents[2])
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
        "from tests.ledger.jobs import begin, entries, finish\n"
        "from captioner.ledger import Ledger\n"
        "with Ledger(sys.argv[1]) as ledger:\n"
        "    print('ready', flush=True)\n"
        "    finish(ledger, begin(ledger, entries(400)))\n"
    )
    file = tmp_path / "l"
    for round_number in range(5):
        with subprocess.Popen(
            [sys.executable, "-c", program, str(file)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2]
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
