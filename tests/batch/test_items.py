"""One picture of a job."""

from __future__ import annotations

import pytest

from captioner.batch.items import Item


@pytest.mark.parametrize(
    ("source", "root", "relative"),
    [
        ("photos/a/b.jpg", "photos", "a/b.jpg"),
        ("a/b.jpg", ".", "a/b.jpg"),
        ("../a/b.jpg", "../a", "b.jpg"),
        ("/a/b.jpg", "/", "a/b.jpg"),
        ("/a/b.jpg", "/a", "b.jpg"),
        ("s.tar/a/b.jpg", "s.tar", "a/b.jpg"),
        ("s/1.tar/b.jpg", "s", "1.tar/b.jpg"),
    ],
)
def test_the_source_below_its_root(source: str, root: str, relative: str) -> None:
    assert Item(source, source, None, root, 1, 1).relative == relative


def test_a_file_is_read_by_its_path() -> None:
    assert Item("a.jpg", "a.jpg", None, ".", 1, 1).load() == "a.jpg"
