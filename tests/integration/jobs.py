"""Folder jobs as processes of their own, to be killed, starved and compared."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from PIL import Image

from captioner.ledger import Ledger

LEDGER = ".captioner.ledger"
HANGING_SECONDS = 600.0  # many times what anything takes, on a machine that has much else to do as well
NULL = [sys.executable, str(Path(__file__).with_name("null_job.py"))]
REAL = [sys.executable, "-m", "captioner", "caption"]
EVERY_OUTPUT = [
    *("--output", "rows.jsonl", "--output", "table.csv", "--output", "table.parquet", "--output", "coco:coco.json"),
    *("--output", "alt:alt.json", "--output", "set.tar", "--output", "sheet.html"),
    *("--sidecar", "txt", "--existing", "append"),
]


def draw_photos(folder: Path, count: int, *, ending: str = "png", size: int = 8) -> None:
    """Small pictures below `folder`/photos, in two folders; one in twenty repeats another, one in ten has a text."""
    for number in range(count):
        below = folder / "photos" / f"{number % 2}"
        below.mkdir(parents=True, exist_ok=True)
        repeated = number - 7 if number % 20 == 19 else number
        pixels = random.Random(repeated).randbytes(size * size * 3)
        Image.frombytes("RGB", (size, size), pixels).save(below / f"{number:05}.{ending}")
        if number % 10 == 0:
            (below / f"{number:05}.txt").write_text("a person's words", encoding="utf-8")


def begin(folder: Path, command: Sequence[str], *, seconds: float = 0.0) -> subprocess.Popen[str]:
    """The command, begun in `folder`."""
    environment = {**os.environ, "NULL_SECONDS": str(seconds), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        list(command), cwd=folder, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


@contextlib.contextmanager
def begun(folder: Path, command: Sequence[str], *, seconds: float = 0.0) -> Iterator[subprocess.Popen[str]]:
    """The same, of which nothing is left at the end of the block, however that is reached."""
    process = begin(folder, command, seconds=seconds)
    try:
        yield process
    finally:
        end(process)


def end(process: subprocess.Popen[str]) -> None:
    """Kill it, should it live, and leave nothing open."""
    process.kill()
    process.wait()
    if process.stderr is not None:
        process.stderr.close()


def finish(process: subprocess.Popen[str], timeout: float = HANGING_SECONDS) -> tuple[int, str]:
    """Its exit code and what it told."""
    _, told = process.communicate(timeout=timeout)
    return process.returncode, told


def run(
    folder: Path, command: Sequence[str], *, seconds: float = 0.0, timeout: float = HANGING_SECONDS
) -> tuple[int, str]:
    """Both."""
    with begun(folder, command, seconds=seconds) as process:
        return finish(process, timeout)


def recorded(ledger: Path) -> int:
    """How many pictures have been done, as it stands on the disk at this moment."""
    return number_of(ledger, "items WHERE state > 0")


def number_of(ledger: Path, rows: str) -> int:
    """How many `rows` the ledger has at this moment, such as "leases"; 0 if it is not begun."""
    if not ledger.exists():
        return 0
    question = f"SELECT count(*) FROM {rows}"
    with contextlib.closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True, timeout=HANGING_SECONDS)) as database:
        try:
            return int(database.execute(question).fetchone()[0])
        except sqlite3.OperationalError:
            # A kill left it half written: the command is to mend that, so look at a copy. Or there are no tables yet.
            with Ledger.copied(ledger) as copy:
                return int(copy._database.execute(question).fetchone()[0])


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Until it is so, or the process has ended."""
    deadline = time.monotonic() + HANGING_SECONDS
    while not condition() and process.poll() is None:
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.02)  # each look opens the ledger


def kill_after(folder: Path, command: Sequence[str], rows: int, delay: float, *, seconds: float = 0.0) -> bool:
    """Run the command and kill -9 it when it has recorded `rows` more and `delay` has passed; whether it was alive."""
    ledger = folder / LEDGER
    goal = recorded(ledger) + rows
    with begun(folder, command, seconds=seconds) as process:
        wait_for(lambda: recorded(ledger) >= goal, process)
        time.sleep(delay)
        alive = process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.communicate()
    return alive


def wait_until_told(process: subprocess.Popen[str], line: str) -> None:
    """Until the process says so; what it said before is gone."""
    assert process.stderr is not None
    for told in process.stderr:
        if told.strip() == line:
            return
    raise AssertionError(f"it never said: {line}")


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the ledger, hidden ones too."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(LEDGER)
    }


def copied(folder: Path, to: Path) -> Path:
    """A copy with the same times."""
    shutil.copytree(folder, to)
    return to
