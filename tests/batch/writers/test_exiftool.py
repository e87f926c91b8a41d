"""The program that reads and writes metadata; its own behaviour is tried where it is installed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from captioner.batch.writers.exiftool import ExifTool
from captioner.errors import ConfigurationError, OutputError

needs_exiftool = pytest.mark.skipif(
    shutil.which("exiftool") is None, reason="no exiftool on this machine (apt-get install libimage-exiftool-perl)"
)


def stand_in(folder: Path, script: str) -> str:
    """A program that is started as exiftool is."""
    path = folder / "stand-in"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def test_without_it_one_sentence_says_how_to_install_it() -> None:
    message = r"^Writing into pictures needs exiftool, which is not installed: install it \(apt-get install "
    with pytest.raises(ConfigurationError, match=message):
        ExifTool("no-such-exiftool")


def test_arguments_reach_it_line_by_line_and_answers_come_back(tmp_path: Path) -> None:
    answer = 'case "$line" in -execute*) echo "{ready${line#-execute}}";; *) echo "<$line>";; esac'
    script = f"while read -r line; do {answer}; done"
    with ExifTool(stand_in(tmp_path, script)) as exiftool:
        assert exiftool.run([b"-j", b"/tmp/a b.jpg"]) == b"<-j>\n</tmp/a b.jpg>\n"
        assert exiftool.run([b"-x"]) == b"<-x>\n"


def test_an_argument_of_several_lines_gets_a_process_of_its_own(tmp_path: Path) -> None:
    with ExifTool(stand_in(tmp_path, 'for one in "$@"; do echo "<$one>"; done')) as exiftool:
        assert exiftool.run([b"-j", b"a\nb"]) == b"<-config>\n<>\n<-j>\n<a\nb>\n"


@pytest.mark.parametrize(
    ("script", "seconds", "reason"),
    [
        ("exit 3", 600.0, "it ended by itself|Broken pipe"),
        ("exec sleep 600", 0.3, r"no answer within 0\.3 seconds"),
        (
            """while read -r line; do echo 'Error: Bad format - x' >&2; echo "{ready${line#-execute}}"; done""",
            600.0,
            r"Bad format - x\.$",
        ),
    ],
)
def test_what_goes_wrong_is_one_sentence_and_the_next_call_starts_anew(
    script: str, seconds: float, reason: str, tmp_path: Path
) -> None:
    with ExifTool(stand_in(tmp_path, script), timeout_seconds=seconds) as exiftool:
        for _ in range(2):
            with pytest.raises(OutputError, match=f"^exiftool (stopped|refused).*({reason})"):
                exiftool.run([])


def test_sigterm_to_all_processes_reaches_it_too_early_to_end_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shell that is to ignore SIGTERM is sent one before it has read its first line."""
    shell = shutil.which("sh")
    (tmp_path / "sh").write_text(f'#!{shell}\nkill -TERM $$\nexec {shell} "$@"\n')
    (tmp_path / "sh").chmod(0o755)
    program = stand_in(tmp_path, 'while read -r line; do echo "{ready${line#-execute}}"; done')
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with ExifTool(program) as exiftool:
        assert exiftool.run([]) == b""


def test_nor_do_they_end_one_for_an_argument_of_several_lines(tmp_path: Path) -> None:
    with ExifTool(stand_in(tmp_path, "for name in INT TERM HUP; do kill -$name $$; done; echo fine")) as exiftool:
        assert exiftool.run([b"a\nb"]) == b"fine\n"


def test_one_that_hangs_at_an_argument_of_several_lines_is_ended(tmp_path: Path) -> None:
    told = r"^exiftool failed \(.*timed out after 0\.3 seconds\): try again"
    with (
        ExifTool(stand_in(tmp_path, "exec sleep 600"), timeout_seconds=0.3) as exiftool,
        pytest.raises(OutputError, match=told),
    ):
        exiftool.run([b"a\nb"])


@needs_exiftool
def test_a_real_one_answers_and_refuses_in_turn() -> None:
    with ExifTool() as exiftool:
        version = exiftool.run([b"-ver"])
        assert float(version) > 12
        with pytest.raises(OutputError, match=r"^exiftool refused: File not found - /no/such"):
            exiftool.run([b"-j", b"/no/such"])
        with pytest.raises(OutputError, match=r"^exiftool refused: File not found"):
            exiftool.run([b"-j", b"/no/such\nfile"])
        assert exiftool.run([b"-ver"]) == version


@needs_exiftool
def test_it_ends_when_whoever_asked_it_is_killed() -> None:
    program = (
        "import os, signal\nfrom captioner.batch.writers.exiftool import ExifTool\n"
        "exiftool = ExifTool()\nexiftool.run([b'-ver'])\nprint(exiftool._process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, timeout=600)
    assert done.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline and living_in_session(int(done.stdout)):
        time.sleep(0.05)
    assert not living_in_session(int(done.stdout))


def living_in_session(number: int) -> list[int]:
    """The processes of a session, but for those that have ended and wait to be noticed."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getsid(process.pid) == number and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found
