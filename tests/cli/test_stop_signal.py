"""Signals to a job: what a second Ctrl-C does wherever it strikes, and that none spoils what is done."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.integration.jobs import NULL, begun, draw_photos, finish, wait_until_told

# A destructor is as foreign code: what is raised in it goes no further.
IN_FOREIGN_CODE = """
import os, signal
from captioner.cli.stop_signal import stopping

class Foreign:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)

with stopping() as is_to_stop:
    Foreign()
    assert is_to_stop() and is_to_stop.exit_code == 130
    Foreign()
print("it went on")
"""
# It is destroyed after Python has given its own handlers up.
AT_THE_END = """
import os, signal, sys
from captioner.cli.stop_signal import stopping

class Last:
    def __del__(self, kill=os.kill, process=os.getpid(), number=int(sys.argv[1])):
        kill(process, number)
        kill(process, number)

with stopping():
    last = Last()
sys.exit(3)
"""


def test_a_second_ctrl_c_ends_the_process_also_where_an_exception_would_be_lost() -> None:
    done = subprocess.run([sys.executable, "-c", IN_FOREIGN_CODE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (130, "")
    assert done.stderr.split("\n") == [
        "",
        "Finishing the batches in flight; press Ctrl-C again to stop at once.",
        "",
        "captioner: interrupted",
        "",
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_after_the_work_leave_the_exit_code(number: signal.Signals) -> None:
    command = [sys.executable, "-c", AT_THE_END, str(int(number))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "")


def test_ctrl_c_again_and_again_at_the_end_of_a_job_never_kills_it_silently(tmp_path: Path) -> None:
    draw_photos(tmp_path, 4)
    with begun(tmp_path, [*NULL, "photos", "--output", "rows.jsonl"]) as process:
        wait_until_told(process, "Written: rows.jsonl (jsonl).")
        while process.poll() is None:
            os.kill(process.pid, signal.SIGINT)
            time.sleep(0.001)
        code, told = finish(process)
    assert code in (0, 130)
    assert "Traceback" not in told
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 4
