"""`captioner undo`: what a job wrote is taken back, but not what somebody has edited since."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from captioner.cli.main import run
from captioner.ledger import Ledger, Share
from tests.integration import null_job
from tests.integration.jobs import LEDGER, contents, draw_photos


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with 20 pictures, of which two have a person's text."""
    draw_photos(tmp_path, 20)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def undo(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    capsys.readouterr()
    code = run(["undo", *arguments])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def test_places_are_told_without_dots_unless_they_lead_elsewhere_then(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "work").mkdir()
    monkeypatch.chdir(folder / "work")
    far = folder / "far" / "away"
    far.mkdir(parents=True)
    (folder / "link").symlink_to(far)
    told_of = {"../photos": folder / "photos", "../link/../texts": folder / "work/../link/../texts"}
    for number, (mirror, told_as) in enumerate(told_of.items(), start=1):
        command = ["../photos", "--include", "00003.png", "--sidecar", "txt", "--mirror", mirror, "--ledger", LEDGER]
        assert null_job.main(command) == 0
        for text in Path(mirror).rglob("*3.txt"):
            text.write_text("a better text")
        code, told = undo(capsys, str(number))
        assert code == 3
        assert f"\n{told_as}/" in f"\n{told}"


@pytest.mark.parametrize("existing", ["skip", "overwrite", "append", "prepend"])
def test_everything_is_as_it_was_and_can_be_written_again_without_a_model(
    existing: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["photos", "--sidecar", "txt", "--existing", existing, "--ledger", LEDGER]
    before = contents(folder)
    assert null_job.main(command) == 0
    after = contents(folder)
    assert len(after) == len(before) + 18
    code, told = undo(capsys, "1")
    written = 18 if existing == "skip" else 20
    assert (code, told) == (0, f"{written} texts are taken back.\n")
    assert contents(folder) == before
    capsys.readouterr()
    assert null_job.main(command) == 0
    assert "asked for" not in capsys.readouterr().err
    assert contents(folder) == after
    assert undo(capsys, "1")[0] == 0
    assert undo(capsys, "1") == (
        0,
        "Job 1 has no texts to take back: it wrote none beside or into pictures, or they were taken back.\n",
    )
    assert contents(folder) == before


def test_what_was_edited_or_removed_since_stays_and_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert null_job.main(["photos", "--sidecar", "txt", "--existing", "overwrite", "--ledger", LEDGER]) == 0
    removed, edited = folder / "photos/0/00000.txt", folder / "photos/0/00010.txt"
    edited.write_text("a better text")
    removed.unlink()
    (folder / "photos/1/00003.txt").unlink()  # there was none before, so this is as it was
    code, told = undo(capsys, "1")
    assert code == 3
    assert told.splitlines() == [
        f"{removed}: It was edited or removed since the job wrote it, and stays as it is.",
        f"{edited}: It was edited or removed since the job wrote it, and stays as it is.",
        "18 texts are taken back; 2 stay, having been edited since.",
    ]
    assert edited.read_text() == "a better text"
    assert sorted(path.name for path in folder.rglob("*.txt")) == ["00010.txt"]


def test_a_single_text_is_told_as_one(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (1, 3):
        assert null_job.main([f"photos/1/0000{number}.png", "--sidecar", "txt", "--ledger", LEDGER]) == 0
    assert undo(capsys, "1") == (0, "1 text is taken back.\n")
    (folder / "photos/1/00003.txt").write_text("a better text")
    code, told = undo(capsys, "2")
    assert (code, told.splitlines()[-1]) == (3, "0 texts are taken back; 1 stays, having been edited since.")


def test_a_text_that_cannot_be_taken_back_is_told_and_the_others_are(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert null_job.main(["photos", "--sidecar", "txt", "--ledger", LEDGER]) == 0
    shutil.move(folder / "photos/1", folder / "away")
    (folder / "photos/1").write_text("a file in the way")
    code, told = undo(capsys, "1")
    assert code == 3
    assert "8 texts are taken back; 10 could not be written: undo the job again.\n" in told
    (folder / "photos/1").unlink()
    shutil.move(folder / "away", folder / "photos/1")
    assert undo(capsys, "1") == (0, "10 texts are taken back.\n")
    assert len(list(folder.rglob("*.txt"))) == 2


def test_texts_in_pictures(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if shutil.which("exiftool") is None:
        pytest.skip("exiftool is not installed")
    shutil.rmtree(folder / "photos")
    draw_photos(folder, 3, ending="jpg")
    command = ["photos", "--metadata", "--output", "rows.jsonl", "--ledger", LEDGER]
    assert null_job.main(command) == 0
    rows, after = (folder / "rows.jsonl").read_bytes(), contents(folder)
    assert undo(capsys, "1") == (0, "3 texts are taken back.\n")
    assert all("dog" not in str(path.read_bytes()) for path in folder.rglob("*.jpg"))
    capsys.readouterr()
    assert null_job.main(command) == 0
    assert "asked for" not in capsys.readouterr().err
    assert (folder / "rows.jsonl").read_bytes() == rows
    assert contents(folder).keys() == after.keys()
    capsys.readouterr()
    assert null_job.main(command) == 0  # what the job wrote into the pictures makes them no new ones
    assert "asked for" not in capsys.readouterr().err


def test_texts_in_pictures_need_exiftool(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("exiftool") is None:
        pytest.skip("exiftool is not installed")
    Image.new("RGB", (8, 8)).save(folder / "a.jpg")
    assert null_job.main(["a.jpg", "--metadata", "--ledger", LEDGER]) == 0
    monkeypatch.setenv("PATH", "/nowhere")
    code, told = undo(capsys, "1")
    assert code == 2
    assert "needs exiftool, which is not installed" in " ".join(told.split())


def test_without_a_job_the_jobs_are_listed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert null_job.main(["photos", "--sidecar", "txt", "--ledger", LEDGER]) == 0
    assert null_job.main(["photos/0", "--output", "a.jsonl", "--include", "*1?.png", "--shard", "1/2"]) == 0
    code, told = undo(capsys)
    assert code == 0
    assert told.splitlines() == [
        "1: 20 pictures; 18 captioned, 2 skipped, 18 texts written",
        f"   captioner caption photos --sidecar txt --existing skip  (in {folder})",
        "2: 5 pictures; 5 captioned",
        f"   captioner caption photos/0 --include '*1?.png' --output jsonl:{folder}/a.jsonl --shard 1/2  (in {folder})",
    ]


def test_wrong_usage(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert undo(capsys, "1")[0] == 2
    assert not (folder / LEDGER).exists()
    assert null_job.main(["photos", "--output", "a.jsonl"]) == 0
    code, told = undo(capsys, "7")
    assert code == 2
    assert f"{LEDGER} has no job 7: it has 1." in told


def test_a_job_that_is_being_worked_on_is_left_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert null_job.main(["photos", "--sidecar", "txt", "--ledger", LEDGER]) == 0
    before = contents(folder)
    with Ledger(folder / LEDGER) as ledger:
        ledger.plan(1, list(ledger.entries(1))[:-1])
        ledger.plan(1, [*ledger.entries(1), next(ledger.entries(1))._replace(source=b"z", mtime_ns=7)])
        assert ledger.lease(1, Share(batch_size=4), seconds=60.0) is not None
        code, told = undo(capsys, "1")
    assert code == 1
    assert "Job 1 is being worked on" in told
    assert contents(folder) == before
