"""`captioner caption`: rows, lines, exit codes, and files that are whole or untouched."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from captioner.cli.main import run
from captioner.cli.printing import printable
from captioner.ledger import Ledger

NAMES = ["a.png", "b.jpg", "below/c.webp"]
ROW = {"image", "caption", "score", "confidence", "alternatives", "words", "model"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures, one of them in a folder below, and a file that is none."""
    folder = tmp_path / "pictures"
    (folder / "below").mkdir(parents=True)
    for number, name in enumerate(NAMES):
        pixels = random.Random(number).randbytes(40 * 30 * 3)
        Image.frombytes("RGB", (40, 30), pixels).save(folder / name)
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_lines_on_the_terminal(folder: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["caption", str(folder), "--bundle", str(tiny_bundle)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in lines] == [str(folder / name) for name in NAMES]
    assert all("  (confidence 0." in line for line in lines)


def test_rows_in_a_file(folder: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = folder / "captions.jsonl"
    options = ["--beam-size", "4", "--num-captions", "2", "--batch-size", "2"]
    assert run(["caption", str(folder), "--bundle", str(tiny_bundle), "--output", str(output), *options]) == 0
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["image"] for row in rows] == [str(folder / name) for name in NAMES]
    assert all(set(row) == ROW for row in rows)
    assert all(len(row["alternatives"]) == 1 for row in rows)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "3 of 3 pictures are captioned.",
        "Left out: 2 hidden, 1 other files.",  # the ledger and its journal, and the notes
        f"Written: {output} (jsonl).",
    ]


def test_a_broken_picture_ends_with_3_and_is_told_with_its_reason(
    folder: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "a.png").write_bytes(b"\x89PNG\r\n\x1a\nhello")
    output = folder / "captions.jsonl"
    assert run(["caption", str(folder), "--bundle", str(tiny_bundle), "--output", str(output)]) == 3
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert set(rows[0]) == {"image", "error"}
    assert set(rows[0]["error"]) == {"type", "detail"}
    assert set(rows[1]) == set(rows[2]) == ROW
    message = capsys.readouterr().err
    assert "2 of 3 pictures are captioned; 1 failed." in message
    assert f"{folder / 'a.png'}: {rows[0]['error']['detail']}" in message


def test_when_no_picture_could_be_captioned_the_old_file_stays(
    folder: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = folder / "captions.jsonl"
    output.write_text("before")
    command = ["caption", str(folder / "notes.txt"), "--bundle", str(tiny_bundle), "--output", str(output)]
    assert run(command) == 1
    assert output.read_text() == "before"
    message = capsys.readouterr().err
    assert str(folder / "notes.txt") in message
    assert "No picture could be captioned." in message


def test_a_folder_without_pictures_ends_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["caption", str(tmp_path)]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"captioner: No pictures found in {tmp_path}: captioner looks for files named .bmp, .gif")


def test_a_missing_path_is_told_before_anything_is_done(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = folder / "captions.jsonl"
    assert run(["caption", str(folder), str(folder / "gone.jpg"), "--output", str(output)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "gone.jpg" in captured.err
    assert not output.exists()


@pytest.mark.parametrize("output", ["absent/captions.jsonl", "below"])
def test_an_output_that_cannot_be_is_wrong_usage(output: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["caption", str(folder), "--output", str(folder / output)]) == 2
    assert output.split("/")[0] in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "word"), [(["--beam-size", "0"], "beam_size"), (["--min-length", "50"], "min_length")]
)
def test_contradictory_options_are_wrong_usage(
    options: list[str], word: str, folder: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = folder / "captions.jsonl"
    assert run(["caption", str(folder), "--bundle", str(tiny_bundle), "--output", str(output), *options]) == 2
    assert word in capsys.readouterr().err
    assert not output.exists()


def test_a_full_disk_is_one_line(folder: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["caption", str(folder), "--bundle", str(tiny_bundle), "--output", "/dev/full"]) == 1
    assert capsys.readouterr().err == "captioner: /dev/full could not be written: No space left on device.\n"


def test_a_full_standard_output_is_one_line(folder: Path, tiny_bundle: Path) -> None:
    command = [sys.executable, "-m", "captioner", "caption", str(folder), "--bundle", str(tiny_bundle)]
    with Path("/dev/full").open("w") as full:
        for buffering in ("", "1"):
            environment = {**os.environ, "PYTHONUNBUFFERED": buffering}
            done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=environment)
            assert done.returncode == 1
            assert done.stderr == "captioner: No space left on device\n"


def recorded(ledger: Path) -> int:
    """How many pictures the job in a ledger has captioned."""
    if not ledger.exists():
        return 0
    with Ledger(ledger) as opened:
        return opened.counts(1).done


def test_ctrl_c_ends_with_130_and_leaves_the_old_file(folder: Path, tiny_bundle: Path) -> None:
    output = folder / "captions.jsonl"
    output.write_text("before")
    for number in range(2000):  # of different contents: the same one would be captioned once
        Image.new("RGB", (8, 8), (number % 256, number // 256, 0)).save(folder / f"{number:04}.png")
    command = [sys.executable, "-m", "captioner", "caption", str(folder), "--bundle", str(tiny_bundle)]
    command += ["--batch-size", "1", "--output", str(output)]
    # As a terminal does: every process of the job receives the signal.
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 60
        while recorded(folder / ".captioner.ledger") == 0:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGINT)
        _, message = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert "Finishing the batches in flight" in message
    assert "Interrupted: run the same command again to go on with the" in message
    assert output.read_text() == "before"
    assert 0 < recorded(folder / ".captioner.ledger") < 2003


def test_attention_is_drawn_for_one_picture(
    folder: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    drawn = folder / "attention.png"
    command = ["caption", str(folder / "a.png"), "--bundle", str(tiny_bundle), "--attention", str(drawn)]
    assert run(command) == 0
    with Image.open(drawn) as image:
        assert (image.format, image.mode) == ("PNG", "RGB")
        assert min(image.size) > 300
    captured = capsys.readouterr()
    assert captured.out.startswith(f"{folder / 'a.png'}: ")
    assert captured.err == f"Where the model looked is drawn in {drawn}.\n"


@pytest.mark.parametrize(
    ("picture", "attention", "told"),
    [
        (".", "attention.png", "--attention draws one picture, not 3: name a single file."),
        ("a.png", "absent/attention.png", "does not exist: create it first."),
    ],
)
def test_attention_that_cannot_be_is_wrong_usage(
    picture: str, attention: str, told: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["caption", str(folder / picture), "--attention", str(folder / attention)]) == 2
    assert told in " ".join(capsys.readouterr().err.split())


def test_no_attention_no_file(folder: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawn = folder / "attention.png"
    drawn.write_bytes(b"before")
    command = ["caption", str(folder / "notes.txt"), "--bundle", str(tiny_bundle), "--attention", str(drawn)]
    assert run(command) == 1
    assert "No picture could be captioned." in capsys.readouterr().err
    assert drawn.read_bytes() == b"before"
    assert [path.name for path in folder.iterdir() if path.name.endswith(".part")] == []


def test_a_name_cannot_command_the_terminal() -> None:
    assert printable(Path("a\x1b[2J\nb\udce9.jpg")) == "a\ufffd[2J\ufffdb\ufffd.jpg"
