"""Tables for spreadsheets."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest

from captioner.batch.style import TextStyle
from captioner.batch.writers.csv_table import write_csv
from captioner.datasets.coco import read_captions
from tests.batch.writers.samples import MODEL, failure, pairs, row


def written(tmp_path: Path, *rows: dict[str, Any], style: TextStyle | None = None) -> list[dict[str, str]]:
    write_csv(pairs(*rows), tmp_path / "out.csv", style or TextStyle())
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines, strict=True))


def test_columns_and_values(tmp_path: Path) -> None:
    assert written(tmp_path, row("a.jpg"), failure("b.jpg")) == [
        {
            "image": "a.jpg",
            "caption": "a dog runs",
            "confidence": "0.5",
            "score": "-1.25",
            "model": MODEL,
            "error": "",
        },
        {
            "image": "b.jpg",
            "caption": "",
            "confidence": "",
            "score": "",
            "model": "",
            "error": "UnreadableImage: It is damaged: use an intact copy.",
        },
    ]


@pytest.mark.parametrize("name", ['a "b".jpg', "a,b.jpg", "a\nb.jpg", "a\rb.jpg", "a;b\tc.jpg", " a.jpg", "é.jpg"])
def test_any_name_comes_back(name: str, tmp_path: Path) -> None:
    assert written(tmp_path, row(name, name))[0]["image"] == name
    assert written(tmp_path, row(name, name))[0]["caption"] == name


@pytest.mark.parametrize("beginning", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d"])
def test_no_name_and_no_text_is_taken_for_a_formula(beginning: str, tmp_path: Path) -> None:
    name = f"{beginning}cmd|'!A1.jpg"
    row_of_failure = {"image": name, "error": {"type": name, "detail": name}}
    captioned, failed = written(tmp_path, row(name), row_of_failure, style=TextStyle(template="{name}", prefix="="))
    assert captioned["image"] == failed["image"] == f"./{name}"
    assert captioned["caption"].startswith("'=")
    assert failed["error"].startswith(f"'{beginning}")
    assert float(captioned["score"]) == -1.25


def test_our_own_reader_takes_it(tmp_path: Path) -> None:
    written(tmp_path, row("a.jpg"), row("b, c.jpg", 'a "dog"'))
    assert read_captions(tmp_path / "out.csv") == {"a.jpg": ("a dog runs",), "b, c.jpg": ('a "dog"',)}
