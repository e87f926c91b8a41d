"""`captioner score`: anybody's captions, and the captions of a data set that a model believes least."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from captioner.cli.main import run
from captioner.evaluation.scores import Scores
from tests.cli.conftest import NAMES

REFERENCES = {
    "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
    "annotations": [
        {"image_id": 1, "caption": "A dog runs on the green grass."},
        {"image_id": 1, "caption": "A brown dog is running."},
        {"image_id": 2, "caption": "Two men sit on a long bench."},
        {"image_id": 2, "caption": "Men on a bench."},
    ],
}
RESULTS = [{"image_id": 2, "caption": "two men on a bench"}, {"image_id": 1, "caption": "a dog is running on grass"}]


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    """References and results."""
    references, results = tmp_path / "references.json", tmp_path / "results.json"
    references.write_text(json.dumps(REFERENCES))
    results.write_text(json.dumps(RESULTS))
    return str(references), str(results)


def test_anybodys_captions_are_scored(
    files: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    references, results = files
    output = tmp_path / "scores.json"
    assert run(["score", "--references", references, "--hypotheses", results, "--output", str(output)]) == 0
    written = json.loads(output.read_text())
    expected = Scores(
        ["a dog is running on grass", "two men on a bench"],
        [
            ["A dog runs on the green grass.", "A brown dog is running."],
            ["Two men sit on a long bench.", "Men on a bench."],
        ],
    ).values
    assert {name: written["scores"][name] for name in expected} == expected
    assert "split" not in written["signature"]
    assert f"BLEU-1     {expected['BLEU-1']:7.2f}" in capsys.readouterr().out


def test_two_systems_are_compared(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    references, results = files
    assert run(["score", "--references", references, "--hypotheses", results, "--compare", results]) == 0
    name, these, others, more, *_ = capsys.readouterr().out.splitlines()[-1].split()
    assert (name, more) == ("CIDEr-D", "+0.00")
    assert these == others


def test_one_reference_only_is_told(files: tuple[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    references, results = files
    single = {**REFERENCES, "annotations": REFERENCES["annotations"][::2]}
    Path(references).write_text(json.dumps(single))
    assert run(["score", "--references", references, "--hypotheses", results]) == 0
    assert "One reference only for every image" in capsys.readouterr().out


def test_an_empty_caption_is_scored(files: tuple[str, str]) -> None:
    references, results = files
    Path(results).write_text(json.dumps([{**RESULTS[0], "caption": ""}, RESULTS[1]]))
    assert run(["score", "--references", references, "--hypotheses", results]) == 0


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("no json", "results.json"),
        ("{}", "results"),
        (json.dumps(RESULTS[:1]), "not of the same images"),
        (json.dumps([*RESULTS, RESULTS[0]]), "has a caption already"),
    ],
)
def test_a_wrong_file_is_one_sentence(
    files: tuple[str, str], content: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    references, results = files
    Path(results).write_text(content)
    assert run(["score", "--references", references, "--hypotheses", results]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert told in error


@pytest.mark.parametrize(
    "arguments",
    [[], ["--references", "r.json"], ["--images", "."]],
)
def test_half_a_question_is_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["score", *arguments]) == 2
    assert "--references and --hypotheses" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [["--references", "r", "--hypotheses", "h"], ["--compare", "c"]])
def test_the_two_questions_do_not_mix(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["score", "--images", ".", "--captions", "c.csv", *arguments]) == 2
    assert "give one or the other" in capsys.readouterr().err


def test_suspects_are_ranked(data: Path, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    captions, output = tmp_path / "captions.csv", tmp_path / "suspects.jsonl"
    lines = [f"{name},a dog runs on the {word}" for name, word in zip(NAMES, ("grass", "beach", "zebra"), strict=True)]
    captions.write_text("\n".join(["image,caption", *lines, "one.png,a cat"]) + "\n")
    command = ["score", "--images", str(data / "Images"), "--captions", str(captions), "--bundle", str(tiny_bundle)]
    assert run([*command, "--output", str(output), "--top", "2"]) == 0
    rows = [json.loads(line) for line in output.read_text().splitlines()]
    assert len(rows) == 4
    assert [row["margin"] for row in rows] == sorted(row["margin"] for row in rows)
    assert {Path(row["image"]).name: row["unknown"] for row in rows}["three.png"] == ["zebra"]
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].endswith("the 2 least believed of 4 captions")
    assert len(printed) == 3
    assert rows[0]["caption"] in printed[1]


def test_pictures_that_cannot_be_read_are_told(
    data: Path, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    captions = tmp_path / "captions.csv"
    captions.write_text("image,caption\none.png,a dog\ngone.png,a dog\n")
    command = ["score", "--images", str(data / "Images"), "--captions", str(captions), "--bundle", str(tiny_bundle)]
    assert run(command) == 3
    assert "gone.png: " in capsys.readouterr().err
    captions.write_text("image,caption\ngone.png,a dog\n")
    assert run(command) == 1
