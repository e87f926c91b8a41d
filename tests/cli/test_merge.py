"""`captioner merge`: the outputs of all shards are those of the command without shards, or nothing is written."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest

from captioner.cli.main import run
from captioner.ledger import Ledger, Share
from tests.integration import null_job
from tests.integration.jobs import draw_photos

OUTPUTS = ["rows.jsonl", "table.csv", "table.parquet", "coco:coco.json", "alt:alt.json", "set.tar", "sheet.html"]
STYLE = ["--batch-size", "4", "--alt", "--prefix", "A text: ", "--min-confidence", "0.3"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with 50 pictures, one of which cannot be read."""
    draw_photos(tmp_path, 50)
    (tmp_path / "photos/0/00012.png").write_bytes(b"no picture")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shard(number: int, of: int, *options: str, ledger: str | None = None) -> int:
    where = ledger or f"{number}.ledger"
    return null_job.main(["photos", "--shard", f"{number}/{of}", "--ledger", where, *STYLE, *options])


def merge(capsys: pytest.CaptureFixture[str], *ledgers: str, output: str = "merged.jsonl") -> tuple[int, str]:
    capsys.readouterr()
    code = run(["merge", *ledgers, "--output", output])
    captured = capsys.readouterr()
    assert captured.out == ""
    return code, " ".join(captured.err.split())


def outputs(folder: Path) -> list[str]:
    (folder / "out").mkdir()
    found = []
    for output in OUTPUTS:
        form, colon, name = output.rpartition(":")
        found += ["--output", f"{form}{colon}out/{name}"]
    return found


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "out").iterdir() if not path.name.startswith(".")}


@pytest.mark.parametrize("shards", [1, 2, 3, 20])
def test_the_outputs_are_those_without_shards_byte_for_byte(
    shards: int, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("pyarrow")
    options = outputs(folder)
    assert null_job.main(["photos", *STYLE, *options, "--ledger", "whole"]) == 3
    expected = files(folder)
    assert len(expected) == 7
    for path in (folder / "out").iterdir():
        path.unlink()
    for number in range(1, shards + 1):
        shard(number, max(shards, 2))
    if shards == 1:
        shard(2, 2, ledger="1.ledger")  # both shards in one ledger
    ledgers = [f"{number}.ledger" for number in range(shards, 0, -1)]
    capsys.readouterr()
    assert run(["merge", *ledgers, *options]) == 3
    assert files(folder) == expected
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith("photos/0/00012.png: ")
    assert told[1] == f"49 of 50 pictures of {max(shards, 2)} shards are captioned."
    assert told[2] == "Written: out/rows.jsonl (jsonl)."


def test_it_may_be_done_in_another_folder(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [shard(1, 2), shard(2, 2)] == [0, 3]
    (folder / "elsewhere").mkdir()
    monkeypatch.chdir(folder / "elsewhere")
    code, _ = merge(capsys, "../1.ledger", "../2.ledger", output="set.tar")
    assert code == 3
    assert (folder / "elsewhere/set-000000.tar").stat().st_size > 10000


@pytest.mark.parametrize(
    ("there", "told"),
    [
        ((1, 3), "Shard 2/3 is missing: give all their ledgers."),
        ((2,), "Shards 1/3, 3/3 are missing: give all their ledgers."),
    ],
)
def test_shards_that_are_missing_are_named(
    there: tuple[int, ...], told: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in there:
        shard(number, 3)
    assert merge(capsys, *(f"{number}.ledger" for number in there)) == (1, f"captioner: {told}")
    assert not (folder / "merged.jsonl").exists()


def test_a_shard_that_is_there_twice(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, ledger in ((1, "a"), (1, "b"), (2, "c")):
        shard(number, 2, ledger=ledger)
    code, told = merge(capsys, "a", "b", "c")
    assert (code, told) == (1, f"captioner: Shard 1/2 is there twice, in {folder / 'a'} and in {folder / 'b'}.")
    assert merge(capsys, "a", "a", "c")[0] == 3


@pytest.mark.parametrize(
    ("options", "of", "told"),
    [
        (["--batch-size", "5"], 2, "they differ in --batch-size; run one of them again with the other's options."),
        (["--min-confidence", "0.5"], 2, "they differ in --min-confidence;"),
        (["--mark"], 2, "they differ in how texts are put;"),
        (["--beam-size", "1"], 2, "they differ in the model, --precision or a decoding option;"),
        ([], 3, "they differ in the number of shards;"),
    ],
)
def test_shards_of_different_settings(
    options: list[str], of: int, told: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shard(1, 2)
    shard(2, of, *options)
    code, message = merge(capsys, "1.ledger", "2.ledger")
    assert code == 1
    assert message.startswith(f"captioner: Shard 1/2 in {folder / '1.ledger'} and shard 2/{of} in")
    assert told in message
    # One that was run with other options before is no harm.
    shard(2, 2, ledger="2.ledger")
    assert merge(capsys, "1.ledger", "2.ledger")[0] == 3


def test_shards_in_different_precisions(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Ledger(folder / "1.ledger") as ledger:
        ledger.settle(1, "precision", "float16")
    shard(1, 2)
    shard(2, 2)
    code, told = merge(capsys, "1.ledger", "2.ledger")
    assert code == 1
    assert "shard 1/2 in float16, shard 2/2 in float32: run them again with one --precision." in told


def test_shards_of_different_pictures(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shard(1, 2)
    (folder / "photos/1/00011.png").unlink()
    shard(2, 2)
    code, told = merge(capsys, "1.ledger", "2.ledger")
    assert code == 1
    assert "(number 31 is 'photos/1/00011.png' in one and 'photos/1/00013.png' in the other)" in told


def test_a_shard_without_pictures_says_why(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert null_job.main(["photos", "--shard", "2/2", "--batch-size", "64", "--ledger", "2.ledger"]) == 0
    assert capsys.readouterr().err.splitlines()[:2] == [
        "0 of 0 pictures are captioned.",
        (
            "Shard 2/2 has nothing to do: the pictures fill fewer batches than there are shards. "
            "A --batch-size below 64 for all shards gives it some."
        ),
    ]


def test_pictures_that_wait_are_counted_for_each_shard(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (1, 2, 3):
        shard(number, 3)
    for number, names in ((1, (b"photos/0/00000.png", b"photos/0/00002.png")), (3, (b"photos/0/00020.png",))):
        with Ledger(folder / f"{number}.ledger") as ledger:
            for name in names:
                ledger._database.execute("UPDATE items SET state = 0 WHERE source = ?", (name,))
            assert ledger.counts(1, Share(batch_size=4, shard=(number - 1, 3))).pending == len(names)
    code, told = merge(capsys, "1.ledger", "2.ledger", "3.ledger")
    assert code == 1
    assert told == (
        "captioner: Not all is done: 2 pictures of shard 1/3, 1 pictures of shard 3/3 wait for a caption; "
        "run those commands again."
    )


def test_ledgers_that_hold_no_shard(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    null_job.main(["photos", "--ledger", "whole"])
    code, told = merge(capsys, "whole")
    assert (code, told) == (
        1,
        f"captioner: {folder / 'whole'} holds no shard: give the ledgers of commands with --shard.",
    )
    assert merge(capsys, "gone")[0] == 2
    assert not (folder / "gone").exists()
    assert merge(capsys, "whole", output="what.ever")[0] == 2


def test_a_file_that_is_no_ledger_is_told_with_advice_that_merge_can_take(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shard(1, 2)
    (folder / "mk.py").write_text("print('no database')\n" * 100)
    with contextlib.closing(sqlite3.connect(folder / "other.db")) as database:
        database.execute("CREATE TABLE things (name)")
    for name in ("mk.py", "other.db"):
        before = (folder / name).read_bytes()
        code, told = merge(capsys, "1.ledger", name)
        assert code == 1
        assert name in told
        assert told.endswith("give ledgers of captioner caption --shard that can be read and written")
        assert "--ledger" not in told
        assert (folder / name).read_bytes() == before


def test_when_nothing_was_captioned_the_old_file_stays(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (folder / "photos").rglob("*.png"):
        path.write_bytes(b"no picture")
    for number in (1, 2):
        with pytest.raises(Exception, match="No picture could be captioned"):
            shard(number, 2)
    (folder / "merged.jsonl").write_text("before")
    code, told = merge(capsys, "1.ledger", "2.ledger")
    assert code == 1
    assert "... and 30 more: a .jsonl file, as --output, has each with its reason." in told
    assert told.endswith("captioner: No picture could be captioned.")
    assert (folder / "merged.jsonl").read_text() == "before"
