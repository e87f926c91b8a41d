"""`captioner caption` as a job: rows, exit codes, and files that are whole or untouched."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from PIL import Image

from captioner.batch.job import Job
from captioner.batch.outputs import Outputs
from captioner.batch.style import TextStyle
from captioner.batch.survey import Survey
from captioner.cli.main import run
from captioner.cli.summary import tell_summary
from captioner.ledger import Done, Entry, Ledger, Share
from tests.cli.conftest import PICTURES
from tests.integration.jobs import NULL

ROW = {"image", "caption", "score", "confidence", "alternatives", "words", "model"}


def test_rows_in_a_file(folder: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = folder / "captions.jsonl"
    options = ["--beam-size", "4", "--num-captions", "2", "--batch-size", "2"]
    assert run(["caption", str(folder), "--bundle", str(tiny_bundle), "--output", str(output), *options]) == 0
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert [row["image"] for row in rows] == [str(folder / name) for name in PICTURES]
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


def test_a_full_disk_is_one_line(folder: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["caption", str(folder), "--bundle", str(tiny_bundle), "--output", "/dev/full"]) == 1
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "3 of 3 pictures are captioned."
    assert told[-1] == "captioner: /dev/full could not be written: No space left on device."
    assert not any("Written" in line for line in told)


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
    told = capfd.readouterr().err.splitlines()
    assert (told[0], told[2]) == (
        "3 of 3 pictures are captioned.",
        f"Up to date: {folder / 'rows.jsonl'} (jsonl).",
    )
    assert not any("Written" in line for line in told)
    # An output that is gone is written again, also without a model.
    (folder / "rows.jsonl").unlink()
    assert run_without_torch(command) == 0
    assert everything(folder).keys() == before.keys()
    assert f"Written: {folder / 'rows.jsonl'} (jsonl)." in capfd.readouterr().err


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
    assert all(f"{folder / name}: The confidence 0." in told for name in PICTURES)
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
