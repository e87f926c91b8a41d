"""Folder jobs of the real command, with a model and reading children, under what befalls them."""

from __future__ import annotations

import contextlib
import json
import random
import signal
from pathlib import Path

import psutil
import pytest
from PIL import Image

from captioner.cli import main
from tests.integration.jobs import (
    EVERY_OUTPUT,
    LEDGER,
    REAL,
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
)


def run_here(folder: Path, command: list[str]) -> int:
    """The exit code of the command in this process, which has done with its imports: where nothing befalls it."""
    with contextlib.chdir(folder):
        return main.run(command[REAL.index("caption") :])


@pytest.fixture(scope="module")
def command(tiny_bundle: Path) -> list[str]:
    """A job with every output. It names the precision: which one `auto` takes, a busy machine decides."""
    options = ["--batch-size", "4", "--precision", "float32", "--bundle", str(tiny_bundle)]
    return [*REAL, "photos", *EVERY_OUTPUT, *options]


@pytest.fixture(scope="module")
def done(command: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 60 pictures that nothing befell; beside it, `pictures`, as it was before."""
    pytest.importorskip("pyarrow")
    folder = tmp_path_factory.mktemp("real") / "done"
    draw_photos(folder, 60, size=40)
    copied(folder, folder.with_name("pictures"))
    assert run_here(folder, command) == 0
    return folder


@pytest.fixture
def photos(done: Path, tmp_path: Path) -> Path:
    """A copy of the folder as it was before."""
    return copied(done.with_name("pictures"), tmp_path / "copy")


def test_kills_leave_no_trace(photos: Path, done: Path, command: list[str]) -> None:
    chance = random.Random(1)
    assert all(kill_after(photos, command, 4, chance.random() * 0.05) for _ in range(2))
    assert recorded(photos / LEDGER) < 60
    assert run_here(photos, command) == 0
    assert contents(photos) == contents(done)


def test_two_devices_write_what_one_does(photos: Path, done: Path, command: list[str]) -> None:
    code, told = run(photos, [*command, "--devices", "2"])
    assert code == 0, told
    assert contents(photos) == contents(done)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_and_sigterm_finish_what_is_in_flight_and_leave_the_old_file(
    number: signal.Signals, code: int, tmp_path: Path, tiny_bundle: Path
) -> None:
    output, ledger = tmp_path / "captions.jsonl", tmp_path / LEDGER
    output.write_text("before")
    for index in range(2000):  # of different contents: the same one would be captioned once
        Image.new("RGB", (8, 8), (index % 256, index // 256, 0)).save(tmp_path / f"{index:04}.bmp")
    command = [*REAL, str(tmp_path), "--bundle", str(tiny_bundle), "--batch-size", "1", "--output", str(output)]
    with begun(tmp_path, command) as process:
        wait_for(lambda: recorded(ledger) > 0, process)
        # As a terminal, systemd and Slurm do: every process of the job receives the signal.
        for each in psutil.Process(process.pid).children(recursive=True):
            each.send_signal(number)
        process.send_signal(number)
        ended, message = finish(process)
    assert ended == code
    assert " of 2000 pictures are captioned.\n" in message  # and none failed
    assert "Finishing the batches in flight" in message
    assert "Interrupted: run the same command again to go on with the" in message
    assert output.read_text() == "before"
    assert 0 < recorded(ledger) < 2000


def test_pictures_that_vanish_or_change_while_the_job_runs(
    tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_photos(tmp_path, 40, size=40)
    options = ["--batch-size", "8", "--precision", "float32", "--bundle", str(tiny_bundle)]
    command = [*REAL, "photos", "--output", "rows.jsonl", *options]
    gone, changed = tmp_path / "photos/1/00037.png", tmp_path / "photos/1/00035.png"
    with begun(tmp_path, command) as process:
        # All are in the job, but those of the last batch are not read before torch is loaded, which takes a second.
        wait_for(lambda: number_of(tmp_path / LEDGER, "items") == 40, process)
        gone.unlink()
        Image.new("RGB", (40, 40), "red").save(changed)
        code, told = finish(process)
    assert code == 3
    rows = {row["image"]: row for row in map(json.loads, (tmp_path / "rows.jsonl").read_text().splitlines())}
    assert len(rows) == 40
    assert f"photos/1/00037.png: {rows['photos/1/00037.png']['error']['detail']}\n" in told
    assert "39 of 40 pictures are captioned; 1 failed." in told
    Image.new("RGB", (40, 40), "red").save(tmp_path / "red.png")
    monkeypatch.chdir(tmp_path)
    assert main.run(["caption", "red.png", "--ledger", "other", "--output", "red.jsonl", *options]) == 0
    expected = json.loads((tmp_path / "red.jsonl").read_text())
    assert rows["photos/1/00035.png"]["caption"] == expected["caption"]
    # The ledger has the fingerprint of what was read, so nothing is left to do but to forget the one that is gone.
    capsys.readouterr()
    assert run_here(tmp_path, command) == 0
    assert "39 of 39 pictures are captioned." in capsys.readouterr().err


def test_reading_children_that_are_killed_or_hang(
    tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_photos(tmp_path, 400, size=40)
    job = ["photos", "--output", "rows.jsonl", "--batch-size", "2", "--bundle", str(tiny_bundle)]
    with begun(tmp_path, [*REAL, *job]) as process:
        wait_for(lambda: recorded(tmp_path / LEDGER) >= 2, process)
        children = psutil.Process(process.pid).children()
        assert len(children) >= 2
        children[0].send_signal(signal.SIGSTOP)
        children[1].send_signal(signal.SIGKILL)
        code, told = finish(process)
    assert "it took longer than 10 seconds" in told
    assert code == 3
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    failed = [row for row in rows if "error" in row]
    assert len(rows) == 400
    assert 1 <= len(failed) < 10  # the one that hung, and any that was being read when its child was killed
    assert all("it took longer" in row["error"]["detail"] or "Killed" in row["error"]["detail"] for row in failed)
    assert all(f"{row['image']}: {row['error']['detail']}\n" in told for row in failed)
    monkeypatch.chdir(tmp_path)
    assert main.run(["caption", *job]) == 0
    assert all("caption" in json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines())
