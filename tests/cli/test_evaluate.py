"""`captioner evaluate`: scores of a split, with their signature."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from captioner.cli.main import run
from captioner.evaluation.scores import Scores
from captioner.manifest import digest_of
from tests.cli.conftest import NAMES


def test_scores_are_printed_with_their_signature(
    data: Path, tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["evaluate", "--data", str(data), "--bundle", str(tiny_bundle), "--beam-size", "2"]) == 0
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading.split() == ["score", "95", "%", "interval"]
    assert [line.split()[0] for line in lines[:6]] == ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr-D"]
    assert any(line.startswith("distinct captions ") for line in lines)
    assert any(line.startswith("copied from training ") for line in lines)
    assert any(line.startswith("calibration error ") for line in lines)
    for part in ("images 3", "references 6", "split dev", f"@{digest_of(tiny_bundle)}", "beam_size 2", "tokeniser PTB"):
        assert part in lines[-1]


def test_scores_and_captions_are_written(data: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    output, captions = tmp_path / "scores.json", tmp_path / "captions.json"
    command = ["evaluate", "--data", str(data), "--bundle", str(tiny_bundle), "--beam-size", "2", "--num-captions", "2"]
    assert run([*command, "--output", str(output), "--captions", str(captions)]) == 0
    written = json.loads(output.read_text())
    assert written["signature"]["images"] == 3
    results = json.loads(captions.read_text())
    assert [result["image_id"] for result in results] == NAMES
    references = [["A dog number 0 runs .", "A dog number 1 runs ."]] * 3
    expected = Scores([result["caption"] for result in results], references).values
    assert {name: written["scores"][name] for name in expected} == expected
    for name, value in expected.items():
        low, high = written["intervals"][name]
        assert low <= value + 1e-9 or low == pytest.approx(value)
        assert high >= value - 1e-9 or high == pytest.approx(value)
    assert written["portrait"]["n_best"]["length"] == 2


def test_a_table_is_evaluated_as_the_folder_is(
    data: Path, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"data/Images/{name},A dog number {number} runs .,val\n" for name in NAMES for number in range(2)]
    rows += ["data/Images/four.png,A cat sleeps .,train\n", "data/Images/five.png,...,val\n"]
    (tmp_path / "my.csv").write_text("image,caption,split\n" + "".join(rows))
    printed = {}
    for path in (data, tmp_path / "my.csv"):
        assert run(["evaluate", "--data", str(path), "--bundle", str(tiny_bundle)]) == 0
        printed[path] = capsys.readouterr()
    assert printed[data].out == printed[tmp_path / "my.csv"].out
    assert printed[data].err == ""
    told = f"1 picture is left out, such as {tmp_path / 'data/Images/five.png'}: None of its captions has a word\n"
    assert printed[tmp_path / "my.csv"].err == told


def test_captions_compared_with_themselves_do_not_differ(
    data: Path, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    captions = tmp_path / "captions.json"
    command = ["evaluate", "--data", str(data), "--bundle", str(tiny_bundle)]
    assert run([*command, "--captions", str(captions)]) == 0
    capsys.readouterr()
    assert run([*command, "--compare", str(captions)]) == 0
    last = capsys.readouterr().out.splitlines()[-6:]
    assert [line.split()[3] for line in last] == ["+0.00"] * 6
    assert [line.split()[1] for line in last] == [line.split()[2] for line in last]
    assert [float(line.split()[-1]) for line in last] == [1.0] * 6
    captions.write_text(json.dumps([{"image_id": "one.png", "caption": "a dog"}]))
    assert run([*command, "--compare", str(captions)]) == 1
    assert "not of the same images" in capsys.readouterr().err


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
