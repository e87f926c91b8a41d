"""`captioner caption` on the terminal: lines, exit codes, wrong usage, and where the model looked."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from captioner.cli.main import run
from captioner.cli.printing import printable
from tests.cli.conftest import PICTURES


def test_lines_on_the_terminal(folder: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["caption", str(folder), "--bundle", str(tiny_bundle)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0] for line in lines] == [str(folder / name) for name in PICTURES]
    assert all("  (confidence 0." in line for line in lines)


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
    ("options", "word"), [(["--beam-size", "0"], "--beam-size must"), (["--min-length", "50"], "--min-length must")]
)
def test_contradictory_options_are_wrong_usage(
    options: list[str], word: str, folder: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = folder / "captions.jsonl"
    assert run(["caption", str(folder), "--bundle", str(tiny_bundle), "--output", str(output), *options]) == 2
    assert word in capsys.readouterr().err
    assert not output.exists()


def test_a_full_standard_output_is_one_line(
    folder: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (
        Path("/dev/full").open("wb", buffering=0) as full,
        io.TextIOWrapper(full, write_through=True) as text,
        contextlib.redirect_stdout(text),
    ):
        assert run(["caption", str(folder), "--bundle", str(tiny_bundle)]) == 1  # while pictures are being read
    assert capsys.readouterr().err == "captioner: No space left on device\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_nor_does_it_say_more_at_the_end_of_the_process(unbuffered: str, tiny_bundle: Path) -> None:
    command = [sys.executable, "-m", "captioner", "inspect", str(tiny_bundle)]
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False, env=environment)
    assert done.returncode == 1
    assert done.stderr == "captioner: No space left on device\n"


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


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--watch"], "--watch, --shard and --devices need an --output"),
        (["--shard", "1/2"], "--watch, --shard and --devices need an --output"),
        (["--devices", "2"], "--watch, --shard and --devices need an --output"),
        (["--watch", "--shard", "1/2", "--ledger", "l"], "--watch and --shard do not go together"),
        (["--devices", "2", "--device", "auto", "--ledger", "l"], "--devices needs --device cuda or --device cpu"),
        (["--devices", "0", "--ledger", "l"], "0 is not in the range x>=1"),
    ],
)
def test_what_contradicts_itself_is_wrong_usage(
    options: list[str], told: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["caption", str(folder), *options]) == 2
    assert told in " ".join(capsys.readouterr().err.split())


def test_attention_is_a_png(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["caption", str(folder / "a.png"), "--attention", str(folder / "looked.jpg")]) == 2
    assert "call the file looked.png" in capsys.readouterr().err
