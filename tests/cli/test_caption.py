"""`captioner caption`: rows, lines, exit codes, and files that are whole or untouched."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
from PIL import Image

from captioner.batch.job import Job
from captioner.batch.outputs import Outputs
from captioner.batch.style import TextStyle
from captioner.batch.survey import Survey
from captioner.cli.main import run
from captioner.cli.printing import printable
from captioner.cli.summary import tell_summary
from captioner.ledger import Done, Entry, Ledger, Share
from tests.integration.jobs import NULL

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
    assert "Written" not in message
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
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "3 of 3 pictures are captioned."
    assert told[-1] == "captioner: /dev/full could not be written: No space left on device."
    assert not any("Written" in line for line in told)


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


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_and_sigterm_finish_what_is_in_flight_and_leave_the_old_file(
    number: signal.Signals, code: int, folder: Path, tiny_bundle: Path
) -> None:
    output = folder / "captions.jsonl"
    output.write_text("before")
    for index in range(2000):  # of different contents: the same one would be captioned once
        Image.new("RGB", (8, 8), (index % 256, index // 256, 0)).save(folder / f"{index:04}.png")
    command = [sys.executable, "-m", "captioner", "caption", str(folder), "--bundle", str(tiny_bundle)]
    command += ["--batch-size", "1", "--output", str(output)]
    # As a terminal, systemd and Slurm do: every process of the job receives the signal.
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 300
        while recorded(folder / ".captioner.ledger") == 0:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        for each in psutil.Process(process.pid).children(recursive=True):
            each.send_signal(number)
        process.send_signal(number)
        _, message = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == code
    assert " of 2003 pictures are captioned.\n" in message  # and none failed
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


def run_without_torch(command: list[str]) -> int:
    """The command's exit code; 99 if it loaded what a model needs."""
    program = (
        "import sys; from captioner.cli.main import run; sys.exit(run(sys.argv[1:]) or 99 * ('torch' in sys.modules))"
    )
    return subprocess.run([sys.executable, "-c", program, *command], check=False).returncode


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_with_nothing_to_do_needs_no_model_and_writes_nothing(
    folder: Path, tiny_bundle: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    command = ["caption", str(folder), "--bundle", str(tiny_bundle), "--output", str(folder / "rows.jsonl")]
    command += ["--sidecar", "txt"]
    assert run(command) == 0
    before, times = everything(folder), {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    capfd.readouterr()
    assert run_without_torch(command) == 0
    assert everything(folder) == before
    after = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert {path for path in times if after[path] != times[path]} <= set(folder.glob(".captioner.ledger*"))
    assert "3 of 3 pictures are captioned." in capfd.readouterr().err
    # An output that is gone is written again, also without a model.
    (folder / "rows.jsonl").unlink()
    assert run_without_torch(command) == 0
    assert everything(folder).keys() == before.keys()


def test_a_dry_run_writes_nothing_and_knows_what_is_done(
    folder: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = everything(folder)
    command = ["caption", str(folder), "--bundle", str(tiny_bundle), "--output", str(folder / "rows.jsonl")]
    command += ["--sidecar", "txt", "--mirror", str(folder / "mirror")]
    assert run([*command, "--dry-run"]) == 0
    assert everything(folder) == before
    assert not (folder / "mirror").exists()
    assert capsys.readouterr().out.splitlines() == [
        "3 pictures would be captioned.",
        f"{folder / 'rows.jsonl'} would be written (jsonl).",
        f"A .txt file would be written in {folder / 'mirror'}; existing ones: skip.",
    ]
    assert run(command) == 0
    Image.new("RGB", (9, 9)).save(folder / "d.png")
    before = everything(folder)
    assert run([*command, "--dry-run"]) == 0
    assert everything(folder) == before
    assert "1 pictures would be captioned." in capsys.readouterr().out


def test_texts_of_unsure_captions_are_left_to_a_person(
    folder: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["caption", str(folder), "--bundle", str(tiny_bundle), "--sidecar", "txt"]
    assert run([*command, "--min-confidence", "1.0"]) == 0
    assert sorted(path.name for path in folder.rglob("*.txt")) == ["notes.txt"]
    told = capsys.readouterr().err
    assert "0 of 3 pictures are captioned; 3 left to a person, being less sure than --min-confidence." in told
    assert all(f"{folder / name}: The confidence 0." in told for name in NAMES)
    assert run(command) == 0
    assert sorted(path.name for path in folder.rglob("*.txt")) == ["a.txt", "b.txt", "c.txt", "notes.txt"]


def test_texts_in_pictures_make_them_no_new_pictures(
    folder: Path, tiny_bundle: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    if shutil.which("exiftool") is None:
        pytest.skip("exiftool is not installed")
    command = ["caption", str(folder), "--bundle", str(tiny_bundle), "--metadata"]
    assert run(command) == 0
    before = everything(folder)
    assert run_without_torch(command) == 0
    assert everything(folder) == before
    assert "To take the texts back: captioner undo 1 --ledger" in capfd.readouterr().err


def test_without_exiftool_nothing_is_begun(
    folder: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    before = everything(folder)
    assert run(["caption", str(folder), "--bundle", str(tiny_bundle), "--metadata"]) == 2
    assert "Writing into pictures needs exiftool, which is not installed" in " ".join(capsys.readouterr().err.split())
    assert everything(folder) == before


def test_a_ledger_that_cannot_be_written_is_one_sentence(
    folder: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["caption", str(folder), "--bundle", str(tiny_bundle), "--output", "/dev/null"]
    assert run([*command, "--ledger", str(folder / "gone/ledger")]) == 1
    told = capsys.readouterr().err
    assert told == (
        f"captioner: the ledger {folder / 'gone/ledger'} cannot be used (unable to open database file): name a file in "
        "a folder that can be written with --ledger\n"
    )


def test_somebody_who_may_not_write_is_told_to_name_another_ledger(tmp_path: Path) -> None:
    if os.geteuid() != 0 or shutil.which("setpriv") is None:
        pytest.skip("only root can become somebody else")
    with tempfile.TemporaryDirectory() as name:  # below tmp_path others may see nothing
        folder = Path(name)
        folder.chmod(0o755)
        Image.new("RGB", (8, 8)).save(folder / "a.png")
        command = [*NULL, name, "--sidecar", "txt"]
        nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *command]
        done = subprocess.run(nobody, capture_output=True, text=True, check=False, cwd="/")
        if "Permission denied" in done.stderr and "ledger" not in done.stderr:
            pytest.skip("nobody may not run this Python")
        assert done.returncode == 1
        assert "name a file in a folder that can be written with --ledger" in done.stderr
        assert [path.name for path in folder.iterdir()] == ["a.png"]


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


def test_a_hundred_thousand_failures_are_a_few_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entries = [Entry(b"%06d.jpg" % number, b"p", None, b"", 1, 1) for number in range(100_001)]
    with Ledger(":memory:") as ledger:
        number = ledger.job(key="k", command={}, settings="s")
        share = Share(batch_size=200_000)
        job = Job(ledger=ledger, number=number, model="m", share=share, max_bytes=1)
        ledger.plan(number, entries)
        batch = ledger.lease(number, share, seconds=60.0)
        assert batch is not None
        error = {"type": "UnreadableImage", "detail": "It is empty."}
        captioned = Done(entry=entries[0], digest=b"d", row='{"caption": "c", "confidence": 1.0}', error=None)
        failed = [Done(entry=entry, digest=None, row=None, error=error) for entry in entries[1:]]
        ledger.record(number, batch, [captioned, *failed])
        outputs = Outputs(style=TextStyle())
        assert tell_summary(job, outputs, Survey(), tmp_path / "ledger", stop_code=0) == 3
        assert sum("error" in row for _, row in job.rows()) == 100_000
    told = capsys.readouterr().err.splitlines()
    assert told[:20] == [f"{number:06}.jpg: It is empty." for number in range(1, 21)]
    assert told[20] == "... and 99980 more: a .jsonl file, as --output, has each with its reason."
    assert told[21:] == ["1 of 100001 pictures are captioned; 100000 failed."]


def test_attention_is_a_png(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["caption", str(folder / "a.png"), "--attention", str(folder / "looked.jpg")]) == 2
    assert "call the file looked.png" in capsys.readouterr().err
