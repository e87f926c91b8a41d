"""Folder jobs under what befalls them: kills, signals, full disks, folders that turn read-only.

Each fault befalls a real process, of tests/integration/null_job.py, which is the command without a model.
"""

from __future__ import annotations

import os
import random
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from PIL import Image

from tests.integration.jobs import (
    EVERY_OUTPUT,
    HANGING_SECONDS,
    LEDGER,
    NULL,
    begun,
    contents,
    copied,
    draw_photos,
    finish,
    kill_after,
    number_of,
    recorded,
    run,
    wait_for,
    wait_until_told,
)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with 300 pictures below it."""
    draw_photos(tmp_path / "one", 300)
    return tmp_path / "one"


@pytest.mark.parametrize("seed", [int(os.environ.get("KILL_SEED", "1"))])
def test_ten_kills_leave_no_trace_in_any_output(photos: Path, tmp_path: Path, seed: int) -> None:
    pytest.importorskip("pyarrow")
    command = [*NULL, "photos", *EVERY_OUTPUT, "--batch-size", "8"]
    killed = copied(photos, tmp_path / "two")
    assert run(photos, command)[0] == 0
    chance = random.Random(seed)
    lives = 0
    for number in range(10):
        if recorded(killed / LEDGER) < 300 and number < 8:
            # slow enough that all 300 take longer than eight kills leave time for
            lives += kill_after(killed, command, 0, 0.2 + chance.random() * 1.2, seconds=0.1)
        else:  # while the outputs are written
            lives += kill_after(killed, command, 300 - recorded(killed / LEDGER), 0.3 + chance.random() * 0.3)
    assert lives >= 6
    code, told = run(killed, command)
    assert code == 0, told
    assert contents(killed) == contents(photos)
    assert sum(path.endswith(".txt") for path in contents(killed)) == 300


def test_kills_while_texts_are_written_into_pictures(tmp_path: Path) -> None:
    if shutil.which("exiftool") is None:
        pytest.skip("exiftool is not installed")
    draw_photos(tmp_path / "one", 24, ending="jpg", size=16)
    killed = copied(tmp_path / "one", tmp_path / "two")
    command = [*NULL, "photos", "--metadata", "--output", "rows.jsonl", "--ledger", LEDGER, "--batch-size", "4"]
    assert run(tmp_path / "one", command)[0] == 0
    for number in range(3):
        kill_after(killed, command, 4, 0.05 * number)
    assert run(killed, command)[0] == 0
    assert contents(killed) == contents(tmp_path / "one")
    # What the job itself wrote into them does not make them new pictures.
    code, told = run(killed, command)
    assert (code, "asked for" in told) == (0, False)


def test_ctrl_c_finishes_what_is_in_flight_and_twice_ends_at_once(photos: Path, tmp_path: Path) -> None:
    command = [*NULL, "photos", "--output", "rows.jsonl", "--batch-size", "8"]
    other = copied(photos, tmp_path / "two")
    assert run(photos, command)[0] == 0
    for presses in (1, 2):
        with begun(other, command, seconds=0.1 * presses) as process:
            before = recorded(other / LEDGER)
            wait_for(lambda before=before: recorded(other / LEDGER) >= before + 16, process)  # type: ignore[misc]
            process.send_signal(signal.SIGINT)
            wait_until_told(process, "Finishing the batches in flight; press Ctrl-C again to stop at once.")
            if presses == 2:
                process.send_signal(signal.SIGINT)
            code, told = finish(process)
        assert code == 130
        left = 300 - recorded(other / LEDGER)
        if presses == 1:
            assert f"run the same command again to go on with the {left} that are left" in told
        else:
            assert told.endswith("captioner: interrupted\n")
        assert not (other / "rows.jsonl").exists()
    assert run(other, command)[0] == 0
    assert contents(other) == contents(photos)


def test_sigterm_to_every_process_of_a_job_costs_no_picture(tmp_path: Path) -> None:
    if shutil.which("exiftool") is None:
        pytest.skip("exiftool is not installed")
    draw_photos(tmp_path / "one", 60, ending="jpg", size=16)
    other = copied(tmp_path / "one", tmp_path / "two")
    command = [*NULL, "photos", "--metadata", "--output", "rows.jsonl", "--ledger", LEDGER, "--batch-size", "4"]
    assert run(tmp_path / "one", command)[0] == 0
    with begun(other, command, seconds=0.1) as process:
        wait_for(lambda: recorded(other / LEDGER) >= 8, process)
        for each in (*psutil.Process(process.pid).children(recursive=True), psutil.Process(process.pid)):
            each.terminate()
        code, told = finish(process)
    assert code == 143
    left = 60 - recorded(other / LEDGER)
    assert left > 0
    assert f"{60 - left} of 60 pictures are captioned.\n" in told
    assert f"Interrupted: run the same command again to go on with the {left} that are left.\n" in told
    assert run(other, command)[0] == 0
    assert contents(other) == contents(tmp_path / "one")


def test_two_processes_share_the_work_and_the_outputs_are_whole(photos: Path, tmp_path: Path) -> None:
    command = [*NULL, "photos", *EVERY_OUTPUT[:4], *EVERY_OUTPUT[-4:], "--batch-size", "8"]
    other = copied(photos, tmp_path / "two")
    assert run(photos, command)[0] == 0
    with begun(other, command, seconds=0.1) as one, begun(other, command, seconds=0.1) as another:
        ends = [finish(process) for process in (one, another)]
    assert [code for code, _ in ends] == [0, 0], ends
    (_,) = [told for _, told in ends if "Written: rows.jsonl (jsonl)." in told]
    (_,) = [told for _, told in ends if "Up to date: rows.jsonl (jsonl)." in told]
    assert all("asked for" in told for _, told in ends)
    assert contents(other) == contents(photos)


def test_whoever_waits_takes_over_from_one_that_is_killed(photos: Path, tmp_path: Path) -> None:
    command = [*NULL, "photos", "--output", "rows.jsonl", "--batch-size", "150"]
    other = copied(photos, tmp_path / "two")
    assert run(photos, command)[0] == 0
    with begun(other, command, seconds=HANGING_SECONDS) as first:
        wait_for(lambda: number_of(other / LEDGER, "leases") == 2, first)  # it has all
        with begun(other, command) as second:
            wait_until_told(second, "Waiting for others that work on the same job.")
            first.kill()
            first.communicate()
            assert finish(second)[0] == 0
    assert contents(other) == contents(photos)


def test_a_file_size_limit_stops_the_ledger_with_one_sentence(photos: Path, tmp_path: Path) -> None:
    command = [*NULL, "photos", "--output", "rows.jsonl", "--batch-size", "8"]
    other = copied(photos, tmp_path / "two")
    assert run(photos, command)[0] == 0
    limited = ["sh", "-c", f"ulimit -f 100; exec {shlex.join(command)}"]  # blocks of 512 bytes
    code, told = run(other, limited)
    assert code == 1
    assert told.splitlines()[-1].startswith(f"captioner: the ledger {LEDGER} cannot be used")
    assert "run the same command again" in told
    assert not (other / "rows.jsonl").exists()
    assert run(other, command)[0] == 0
    assert contents(other) == contents(photos)


def in_mounts(folder: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script that may mount things, which nobody else sees."""
    if subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody make a mount namespace")
    text = f"set -u; null={shlex.quote(shlex.join(NULL))}; cd {shlex.quote(str(folder))}\n{script}"
    return subprocess.run(
        ["unshare", "-rm", "sh", "-c", text], capture_output=True, text=True, check=False, timeout=HANGING_SECONDS
    )


def test_a_full_disk_fails_what_is_on_it_and_the_next_run_writes_it(photos: Path, tmp_path: Path) -> None:
    job = "photos --output small/rows.jsonl --sidecar txt --mirror small/texts --ledger ledger --batch-size 8"
    done = in_mounts(
        photos,
        f"""
        mkdir small && mount -t tmpfs -o size=256k,nr_inodes=0 tmpfs small || exit 99
        $null {job}; echo "code $?" >&2
        find small -name '*.part' >&2
        mount -o remount,size=64m small
        $null {job}; echo "code $?" >&2
        cp -r small kept
        """,
    )
    told = done.stderr
    if done.returncode == 99:
        pytest.skip("no file system can be mounted here")
    first, second = told.split("code 1\n")
    assert "300 of 300 pictures are captioned; " in first
    assert "could not have their text written" in first
    assert first.count("could not be written: No space left on device.") == 21  # 20 texts and the file
    assert "asked for 285" in first  # one in twenty repeats another
    assert second.endswith("code 0\n")
    assert "asked for" not in second
    assert ".part" not in second
    other = copied(photos, tmp_path / "two")
    assert run(other, [*NULL, *job.replace("small", "good").split()])[0] == 2  # there is no such folder
    (other / "good").mkdir()
    assert run(other, [*NULL, *job.replace("small", "good").split()])[0] == 0
    assert contents(photos / "kept") == contents(other / "good")


def test_a_full_disk_below_the_ledger_is_one_sentence_and_the_next_run_goes_on(photos: Path) -> None:
    job = "photos --output rows.jsonl --ledger small/ledger --batch-size 8"
    done = in_mounts(
        photos,
        f"""
        mkdir small && mount -t tmpfs -o size=100k tmpfs small || exit 99
        $null {job}; echo "code $?" >&2
        mount -o remount,size=64m small
        $null {job}; echo "code $?" >&2
        """,
    )
    if done.returncode == 99:
        pytest.skip("no file system can be mounted here")
    first, second = done.stderr.split("code 1\n")
    assert "make room on its disk and run the same command again" in first
    assert "300 of 300 pictures are captioned." in second
    assert second.endswith("code 0\n")


def test_a_folder_that_turns_read_only_fails_by_name_and_the_next_run_writes(photos: Path) -> None:
    job = "photos --sidecar txt --existing append --ledger ledger --batch-size 8"
    done = in_mounts(
        photos,
        f"""
        mount --bind photos photos || exit 99
        NULL_SECONDS=0.05 $null {job} & process=$!
        while [ "$(find photos -name '*.txt' | wc -l)" -lt 60 ]; do sleep 0.02; done
        until mount -o remount,bind,ro photos; do :; done
        wait $process; echo "code $?" >&2
        mount -o remount,bind,rw photos
        $null {job}; echo "code $?" >&2
        """,
    )
    if done.returncode == 99:
        pytest.skip("no file system can be mounted here")
    first, second = done.stderr.split("code 3\n")
    assert "300 of 300 pictures are captioned; " in first
    assert "Read-only file system" in first
    assert first.count("photos/0/") + first.count("photos/1/") >= 20
    assert second.endswith("code 0\n")
    assert "asked for" not in second
    texts = sorted((photos / "photos").rglob("*.txt"))
    assert len(texts) == 300
    assert {len(path.read_text(encoding="utf-8").splitlines()) for path in texts if not path.stem.endswith("0")} == {1}
    assert {len(path.read_text(encoding="utf-8").splitlines()) for path in texts if path.stem.endswith("0")} == {2}


def test_watching_takes_in_what_comes_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    draw_photos(tmp_path, 4)
    command = [*NULL, "photos", "--watch", "--output", "rows.jsonl", "--sidecar", "txt", "--ledger", LEDGER]
    with begun(tmp_path, command) as process:
        wait_for(lambda: (tmp_path / "rows.jsonl").exists(), process)
        Image.new("RGB", (8, 8), "red").save(tmp_path / "photos/0/red.png")
        wait_for(lambda: (tmp_path / "photos/0/red.txt").exists(), process)
        wait_for(lambda: len((tmp_path / "rows.jsonl").read_text().splitlines()) == 5, process)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        code, told = finish(process)
    assert code == 130
    assert time.monotonic() - began < 15.0
    assert "5 of 5 pictures are captioned." in told
    assert "Stopped; the same command goes on from here." in told
    assert run(tmp_path, [*command[:3], *command[4:]])[0] == 0
