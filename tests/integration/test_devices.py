"""Folder jobs on several devices: the outputs are those of one, whatever befalls the processes."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path

import psutil
import pytest

from tests.integration.jobs import (
    EVERY_OUTPUT,
    HANGING_SECONDS,
    LEDGER,
    NULL,
    REAL,
    begun,
    contents,
    copied,
    draw_photos,
    finish,
    kill_after,
    recorded,
    run,
    wait_for,
    wait_until_told,
)

OUTPUTS = [*EVERY_OUTPUT[:4], *EVERY_OUTPUT[6:]]  # without parquet, which is an extra
COMMAND = [*NULL, "photos", *OUTPUTS, "--batch-size", "8"]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 300 pictures, of which two are broken, captioned on one device."""
    folder = tmp_path_factory.mktemp("done")
    draw_photos(folder, 300)
    for number in (40, 201):
        (folder / f"photos/{number % 2}/{number:05}.png").write_bytes(b"no picture %d" % number)
    copied(folder, folder.with_name("pictures"))
    assert run(folder, COMMAND)[0] == 3
    return folder


@pytest.fixture
def photos(done: Path, tmp_path: Path) -> Path:
    """A copy of the folder as it was before."""
    return copied(done.with_name("pictures"), tmp_path / "copy")


def models(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The processes of its devices."""
    return [each for each in psutil.Process(process.pid).children() if "device_process" in " ".join(each.cmdline())]


def asked(told: str) -> list[int]:
    """How many pictures each model was asked for."""
    return [int(number) for number in re.findall(r"^asked for (\d+)$", told, re.MULTILINE)]


@pytest.mark.parametrize("devices", [2, 3])
def test_the_outputs_are_those_of_one_device(devices: int, photos: Path, done: Path) -> None:
    code, told = run(photos, [*COMMAND, "--devices", str(devices)], seconds=0.02)
    assert code == 3, told
    assert contents(photos) == contents(done)
    assert len(asked(told)) == devices
    assert all(number > 0 for number in asked(told))
    assert sum(asked(told)) == 285  # each content once: one in twenty repeats another
    # Another number of devices is no other job.
    code, told = run(photos, COMMAND)
    assert (code, asked(told)) == (3, [2])  # the broken ones are tried again
    assert contents(photos) == contents(done)


def test_what_a_killed_process_had_in_hand_is_taken_over(photos: Path, done: Path) -> None:
    with begun(photos, [*COMMAND, "--devices", "3"], seconds=0.1) as process:
        wait_for(lambda: recorded(photos / LEDGER) >= 16, process)
        first, *others = models(process)
        assert len(others) == 2
        first.kill()
        wait_for(lambda: recorded(photos / LEDGER) >= 80, process)
        others[0].kill()
        code, told = finish(process)
    assert code == 3, told
    assert told.count("ended (Killed); the others take over.") == 2
    assert contents(photos) == contents(done)


def test_without_any_process_the_job_ends_and_goes_on_later(photos: Path, done: Path) -> None:
    with begun(photos, [*COMMAND, "--devices", "2"], seconds=0.1) as process:
        wait_for(lambda: recorded(photos / LEDGER) >= 16, process)
        for model in models(process):
            model.kill()
        code, told = finish(process)
    assert code == 1
    assert "ended (Killed) and none is left: what is done is recorded; free some memory, and run the same" in told
    assert 16 <= recorded(photos / LEDGER) < 300
    assert not (photos / "rows.jsonl").exists()
    assert run(photos, [*COMMAND, "--devices", "2"])[0] == 3
    assert contents(photos) == contents(done)


def test_kills_of_the_job_leave_no_trace_and_no_process(photos: Path, done: Path) -> None:
    command = [*COMMAND, "--devices", "2"]
    for _ in range(3):
        before = recorded(photos / LEDGER)
        with begun(photos, command, seconds=0.5) as process:
            wait_for(lambda before=before: recorded(photos / LEDGER) > before, process)  # type: ignore[misc]
            left = models(process)
            assert len(left) == 2
            process.send_signal(signal.SIGKILL)
            process.communicate()  # returns when none of them has standard error open any more
        _, alive = psutil.wait_procs(left, timeout=HANGING_SECONDS)
        assert not alive
    assert kill_after(photos, command, 0, 0.3, seconds=0.5)  # while they start
    assert recorded(photos / LEDGER) < 300
    assert run(photos, command)[0] == 3
    assert contents(photos) == contents(done)


@pytest.mark.parametrize(("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_to_all_processes_finishes_what_is_in_flight(
    number: signal.Signals, expected: int, photos: Path, done: Path
) -> None:
    command = [*COMMAND, "--devices", "2"]
    with begun(photos, command, seconds=0.1) as process:
        wait_for(lambda: recorded(photos / LEDGER) >= 16, process)
        for each in (*models(process), psutil.Process(process.pid)):
            each.send_signal(number)
        code, told = finish(process)
    assert code == expected
    left = 300 - recorded(photos / LEDGER)
    assert 0 < left < 300
    assert f"run the same command again to go on with the {left} that are left" in told
    assert "the others take over" not in told
    assert run(photos, command)[0] == 3
    assert contents(photos) == contents(done)


def test_ctrl_c_twice_ends_at_once(photos: Path) -> None:
    # A batch takes longer than anybody waits here, so whoever waits for it fails.
    with begun(photos, [*COMMAND, "--devices", "2"], seconds=2 * HANGING_SECONDS) as process:
        wait_for(lambda: len(models(process)) == 2, process)
        left = models(process)
        process.send_signal(signal.SIGINT)
        wait_until_told(process, "Finishing the batches in flight; press Ctrl-C again to stop at once.")
        process.send_signal(signal.SIGINT)
        code, told = finish(process)
    assert code == 130
    # each model that was still loading says, once it sees that the job is gone, that it was asked for nothing
    assert [line for line in told.splitlines() if line not in ("", "asked for 0")] == ["captioner: interrupted"]
    _, alive = psutil.wait_procs(left, timeout=HANGING_SECONDS)
    assert not alive


def test_a_device_that_is_not_there(photos: Path, tiny_bundle: Path) -> None:
    command = [*REAL, "photos", "--output", "rows.jsonl", "--bundle", str(tiny_bundle), "--device", "cuda"]
    code, told = run(photos, ["env", "CUDA_VISIBLE_DEVICES=", *command, "--devices", "2"])
    assert code == 2
    assert "device 1 of 2 cannot be used: there is no CUDA device here" in " ".join(told.split())
