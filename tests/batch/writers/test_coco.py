"""Results for scorers of captions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from captioner.batch.style import TextStyle
from captioner.batch.writers.coco import write_coco
from captioner.datasets.coco import read_results
from tests.batch.writers.samples import MODEL, failure, pairs, row


def test_captions_by_name_without_failures(tmp_path: Path) -> None:
    write_coco(pairs(row("photos/a.jpg"), failure("b.jpg"), row("c.jpg", "a cat")), tmp_path / "out", TextStyle())
    assert read_results(tmp_path / "out") == {"photos/a.jpg": "a dog runs", "c.jpg": "a cat"}


def test_a_mark_names_the_model(tmp_path: Path) -> None:
    write_coco(pairs(row("a.jpg")), tmp_path / "out", TextStyle(mark=True))
    assert json.loads((tmp_path / "out").read_text()) == [
        {"image_id": "a.jpg", "caption": "a dog runs", "model": MODEL}
    ]


@pytest.mark.parametrize("rows", [[], [failure("a.jpg")]])
def test_nothing_is_an_empty_list(rows: list[dict[str, object]], tmp_path: Path) -> None:
    write_coco(pairs(*rows), tmp_path / "out", TextStyle())
    assert json.loads((tmp_path / "out").read_text()) == []
