"""Alternative texts for static sites."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest

from captioner.batch.style import TextStyle
from captioner.batch.writers.alt_map import write_alt_map
from captioner.errors import OutputError
from tests.batch.writers.samples import failure, item, pairs, row


def test_paths_below_the_folder_in_order_with_alternative_texts(tmp_path: Path) -> None:
    rows = [row("photos/b.jpg", "a picture of a cat"), failure("photos/c.jpg"), row("photos/a/é.jpg")]
    write_alt_map(pairs(*rows), tmp_path / "alt.json", TextStyle())
    assert (tmp_path / "alt.json").read_text(encoding="utf-8") == '{\n"a/é.jpg": "A dog runs.",\n"b.jpg": "A cat."\n}\n'


def test_the_order_of_many_is_that_of_their_paths(tmp_path: Path) -> None:
    names = [f"photos/{i}/{i * 7919 % 1000}.jpg" for i in range(2000)] + [os.fsdecode(b"photos/\xff.jpg")]
    random.Random(1).shuffle(names)
    write_alt_map(pairs(*map(row, names)), tmp_path / "alt.json", TextStyle(mark=True))
    content = json.loads((tmp_path / "alt.json").read_text(encoding="utf-8"))
    assert list(content) == sorted((name.removeprefix("photos/") for name in names), key=os.fsencode)
    assert set(content.values()) == {"A dog runs. (machine-made)"}


def test_nothing_is_an_empty_object(tmp_path: Path) -> None:
    write_alt_map([], tmp_path / "alt.json", TextStyle())
    assert (tmp_path / "alt.json").read_text() == "{}\n"


def test_two_pictures_of_one_path_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    rows = [(item("a/x.jpg", root="a"), row("a/x.jpg")), (item("b/x.jpg", root="b"), row("b/x.jpg"))]
    with pytest.raises(OutputError, match=r"^Two pictures of this job are x\.jpg below their folders"):
        write_alt_map(rows, tmp_path / "alt.json", TextStyle())
    assert list(tmp_path.iterdir()) == []
