"""Rows as JSON lines."""

from __future__ import annotations

import json
import os
from pathlib import Path

from captioner.batch.style import TextStyle
from captioner.batch.writers.jsonl import write_jsonl
from tests.batch.writers.samples import failure, pairs, row


def test_a_row_a_line_failures_too(tmp_path: Path) -> None:
    rows = [row("photos/a.jpg"), failure("photos/é.jpg"), row(os.fsdecode(b"\xff.jpg"))]
    write_jsonl(pairs(*rows), tmp_path / "out", TextStyle())
    lines = (tmp_path / "out").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == rows
    assert "é" in lines[1]


def test_the_style_is_that_of_the_caption(tmp_path: Path) -> None:
    write_jsonl(pairs(row("a.jpg")), tmp_path / "out", TextStyle(alt=True, mark=True))
    assert json.loads((tmp_path / "out").read_text()) == row("a.jpg") | {"caption": "A dog runs."}
