"""Which pictures a command line means."""

from __future__ import annotations

import os
from pathlib import Path

import click
import pytest

from captioner.cli.sources import find_pictures


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_a_folder_is_searched_to_the_bottom_and_sorted(tmp_path: Path) -> None:
    names = ["b.jpg", "a/z.PNG", "a/b/c.webp", "c.jpeg", "d.gif", "e.bmp", "f.tif", "g.tiff"]
    touch(tmp_path, *names, "notes.txt", "captions.jsonl", "jpg")
    assert find_pictures([tmp_path]) == sorted(tmp_path / name for name in names)


def test_hidden_files_and_folders_are_skipped(tmp_path: Path) -> None:
    touch(tmp_path, ".hidden.jpg", ".cache/a.jpg", "seen.jpg")
    assert find_pictures([tmp_path]) == [tmp_path / "seen.jpg"]


def test_a_named_file_is_taken_whatever_it_is_called(tmp_path: Path) -> None:
    touch(tmp_path, ".hidden", "picture.data")
    named = [tmp_path / "picture.data", tmp_path / ".hidden"]
    assert find_pictures(named) == named


def test_the_order_of_the_command_line_holds_and_nothing_comes_twice(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg")
    assert find_pictures([tmp_path / "b.jpg", tmp_path]) == [tmp_path / "b.jpg", tmp_path / "a.jpg"]


def test_links_to_folders_are_not_followed(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg")
    (tmp_path / "again").symlink_to(tmp_path)
    assert find_pictures([tmp_path]) == [tmp_path / "a.jpg"]


def test_a_missing_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(click.UsageError, match=r"no file or folder .*gone\.jpg"):
        find_pictures([tmp_path / "gone.jpg"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o000)
    with pytest.raises(click.UsageError, match=r"closed cannot be listed"):
        find_pictures([tmp_path])
