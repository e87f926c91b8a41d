"""Which pictures are on the contact sheet of a job, and in which order."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from captioner.batch.items import Item
from captioner.batch.style import TextStyle
from captioner.batch.writers.contact_sheet import ContactSheetWriter
from captioner.errors import ConfigurationError
from tests.batch.writers.samples import MODEL, failure, pairs, row

CONFIDENCES = (0.5, 0.1, 0.9, 0.1)
ROWS = [row(f"{number}.jpg", f"dog {number}", confidence) for number, confidence in enumerate(CONFIDENCES)]


def names(path: Path) -> list[str]:
    return re.findall(r'data-name="([^"]*)"', path.read_text(encoding="utf-8"))


def no_picture(_: Item) -> bytes | None:
    return None


def test_failures_first_then_by_confidence_and_equals_in_their_order(tmp_path: Path) -> None:
    asked: list[str] = []

    def thumbnail(item: Item) -> bytes:
        asked.append(item.source)
        return b"\xff\xd8"

    path = tmp_path / "sheet.html"
    ContactSheetWriter(thumbnail=thumbnail)(pairs(*ROWS, failure("bad.jpg")), path, TextStyle(alt=True))
    assert names(path) == asked == ["bad.jpg", "1.jpg", "3.jpg", "0.jpg", "2.jpg"]
    html = path.read_text(encoding="utf-8")
    assert "Dog 1." in html
    assert "It is damaged: use an intact copy." in html
    assert MODEL in html


def test_of_too_many_those_that_need_a_look_are_shown(tmp_path: Path) -> None:
    path = tmp_path / "sheet.html"
    ContactSheetWriter(thumbnail=no_picture, max_pictures=2)(iter(pairs(*ROWS)), path, TextStyle())
    assert names(path) == ["1.jpg", "3.jpg"]
    assert "The 2 least confident of 4 pictures" in path.read_text(encoding="utf-8")


def test_names_are_what_the_table_needs(tmp_path: Path) -> None:
    path = tmp_path / "sheet.html"
    rows = pairs(row("=1.jpg"), row(os.fsdecode(b"\xff.jpg")))
    ContactSheetWriter(thumbnail=no_picture)(rows, path, TextStyle())
    assert names(path) == ["./=1.jpg", "\\udcff.jpg"]


def test_the_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        ContactSheetWriter(thumbnail=no_picture)(pairs(*ROWS), tmp_path / name, TextStyle())
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_sheet_shows_something() -> None:
    with pytest.raises(ConfigurationError, match="max_pictures must be at least 1, not 0"):
        ContactSheetWriter(thumbnail=no_picture, max_pictures=0)
