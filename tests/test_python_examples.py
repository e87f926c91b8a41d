"""The programs in docs/python.md run as they stand there, on pictures that are drawn here."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

PAGE = (Path(__file__).parents[1] / "docs" / "python.md").read_text(encoding="utf-8")
EXAMPLES: list[str] = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
WORDS = r"[a-z0-9' -]+"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs an example in a folder with the pictures that it names; gives what it printed, line by line."""
    (tmp_path / "photos").mkdir()
    for number, name in enumerate(("holiday.jpg", "photos/a.png", "photos/b.jpg")):
        picture = Image.new("RGB", (160, 120), (40 * number, 120, 200))
        ImageDraw.Draw(picture).ellipse((20, 20, 80 + 20 * number, 80), fill=(220, 60 * number, 40))
        picture.save(tmp_path / name)
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"no picture")
    monkeypatch.chdir(tmp_path)
    return Run(tmp_path, capsys)


class Run:
    """See the fixture `run`."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self._capsys = capsys

    def __call__(self, source: str) -> list[str]:
        program = self.folder / "example.py"
        program.write_text(source, encoding="utf-8")
        runpy.run_path(str(program), run_name="__main__")
        return self._capsys.readouterr().out.splitlines()


def example(call: str) -> str:
    """The one example that calls a method."""
    found = [source for source in EXAMPLES if f"captioner.{call}(" in source]
    assert len(found) == 1, call
    return found[0]


def test_each_method_has_its_example() -> None:
    assert len(EXAMPLES) == 3


def test_a_few_pictures(run: Run) -> None:
    *lines, last = run(example("caption"))
    captions = [line for line in lines if not line.startswith(" ")]
    assert len(captions) == 2
    assert all(re.fullmatch(rf"{WORDS} \([01]\.\d\d\)", line) for line in captions)
    first = lines[1 : lines.index(captions[1])]
    words = [line.split(":")[0].strip() for line in first if not line.startswith("    or: ")]
    assert " ".join(words) == captions[0].rpartition(" (")[0]
    assert sum(line.startswith("    or: ") for line in lines) == 2 * 2
    assert last.startswith("photos/broken.jpg: The file holds no picture")


def test_many_pictures(run: Run) -> None:
    (failure,) = run(example("stream"))
    assert failure.startswith("photos/broken.jpg: The file holds no picture")
    rows = [json.loads(line) for line in Path("captions.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["image"] for row in rows] == ["photos/a.png", "photos/b.jpg"]
    assert all(re.fullmatch(WORDS, row["caption"]) and "@" in row["model"] for row in rows)


def test_sentences_that_one_has(run: Run) -> None:
    lines = run(example("score"))
    told = [re.fullmatch(r"-\d+\.\d\d [+-]\d+\.\d\d (\S+): ([a-z ]+) \[\]", line) for line in lines]
    assert [(found[1], found[2]) for found in told if found] == [
        ("holiday.jpg", "a dog runs on the beach"),
        ("holiday.jpg", "a man is playing with a ball"),
        ("photos/a.png", "two women sit on a bench"),
    ]
