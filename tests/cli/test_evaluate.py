"""`captioner evaluate`: scores of a split, with their signature."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from PIL import Image

from captioner.cli.evaluate import score, table
from captioner.cli.main import run
from captioner.manifest import digest_of

NAMES = ["one.png", "two.png", "three.png"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data set of three pictures, two captions each, all of them in the split `dev`."""
    root = tmp_path / "data"
    (root / "Images").mkdir(parents=True)
    for number, name in enumerate(NAMES):
        Image.frombytes("RGB", (40, 30), random.Random(number).randbytes(40 * 30 * 3)).save(root / "Images" / name)
    lines = [f"{name}#{number}\tA dog number {number} runs .\n" for name in NAMES for number in range(2)]
    (root / "toy.token.txt").write_text("".join(lines))
    (root / "toy.devImages.txt").write_text("".join(f"{name}\n" for name in NAMES))
    return root


def test_scores_are_printed_with_their_signature(
    data: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["evaluate", "--data", str(data), "--bundle", str(tiny_bundle), "--beam-size", "2"]) == 0
    *lines, signature = capsys.readouterr().out.splitlines()
    names = [line[:18].strip() for line in lines]
    assert names[:6] == ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "CIDEr-D", "ROUGE-L"]
    assert {"distinct captions", "vocabulary used"} <= set(names)
    for part in ("images 3", "references 6", "split dev", f"@{digest_of(tiny_bundle)}", "beam_size 2"):
        assert part in signature


def test_scores_and_captions_are_written(data: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    output, captions = tmp_path / "scores.json", tmp_path / "captions.json"
    command = ["evaluate", "--data", str(data), "--bundle", str(tiny_bundle)]
    assert run([*command, "--output", str(output), "--captions", str(captions)]) == 0
    written = json.loads(output.read_text())
    assert written["signature"]["images"] == 3
    results = json.loads(captions.read_text())
    assert [result["image_id"] for result in results] == NAMES
    references = [["A dog number 0 runs .", "A dog number 1 runs ."]] * 3
    assert written["scores"] == score([result["caption"] for result in results], references)


def test_a_picture_that_cannot_be_read_ends_the_evaluation(
    data: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (data / "Images" / "two.png").write_bytes(b"no picture")
    assert run(["evaluate", "--data", str(data), "--bundle", str(tiny_bundle)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "two.png" in captured.err


def test_a_split_that_is_absent_is_one_line(data: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", "--data", str(data), "--bundle", str(tiny_bundle), "--split", "test"]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_captions_that_equal_a_reference_score_full_marks() -> None:
    captions = ["a dog runs on the green grass", "two men sit on a long bench"]
    scores = score(captions, [[caption, "something else"] for caption in captions])
    assert all(scores[f"BLEU-{order}"] == pytest.approx(100) for order in range(1, 5))
    assert scores["ROUGE-L"] == pytest.approx(100)
    assert scores["distinct captions"] == 2


def test_a_table_shows_counts_as_counts() -> None:
    assert table({"BLEU-1": 61.234, "distinct captions": 7}, {"split": "dev", "beam_size": 3}) == [
        "BLEU-1                61.23",
        "distinct captions         7",
        "signature: split dev | beam_size 3",
    ]
