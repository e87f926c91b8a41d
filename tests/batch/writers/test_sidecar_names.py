"""No two pictures fight over a sidecar."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.batch.writers.sidecar_names import SidecarNames
from captioner.errors import OutputError
from tests.batch.writers.samples import item


def named(*paths: str, suffix: str = ".txt") -> dict[str, str]:
    """The name of each picture's sidecar; a test's paths lie in one folder."""
    items = [item(f"/p/{path}", root="/p") for path in paths]
    names = SidecarNames.of(items, suffix=suffix)
    return {one.source[3:]: os.fspath(names.of_item(one))[3:] for one in items}


def test_a_picture_alone_gives_its_name_without_the_ending() -> None:
    assert named("a.jpg", "a.b.jpg", "d/a.png") == {"a.jpg": "a.txt", "a.b.jpg": "a.b.txt", "d/a.png": "d/a.txt"}
    assert named("a.jpg", suffix=".caption") == {"a.jpg": "a.caption"}


def test_two_of_one_name_keep_their_endings_wherever_they_stand() -> None:
    expected = {"a.jpg": "a.jpg.txt", "a.b.jpg": "a.b.txt", "a.png": "a.png.txt"}
    assert named("a.b.jpg", "a.jpg", "a.png") == expected
    assert named("a.png", "a.b.jpg", "a.jpg") == expected


def test_a_name_that_looks_like_a_long_one_is_one() -> None:
    assert named("a.jpg", "a.jpg.png") == {"a.jpg": "a.txt", "a.jpg.png": "a.jpg.png.txt"}
    assert len(set(named("a.jpg", "a.png", "a.jpg.png", "a").values())) == 4


def test_names_that_some_file_systems_take_for_one_are_one() -> None:
    assert named("A.jpg", "a.png") == {"A.jpg": "A.jpg.txt", "a.png": "a.png.txt"}
    assert named("é.jpg", "e\u0301.png") == {"é.jpg": "é.jpg.txt", "e\u0301.png": "e\u0301.png.txt"}


def test_names_without_endings_and_hidden_ones() -> None:
    assert named("photo", ".jpg", "d.x/photo") == {
        "photo": "photo.txt",
        ".jpg": ".jpg.txt",
        "d.x/photo": "d.x/photo.txt",
    }


parts = st.text(alphabet="aAb.", min_size=1, max_size=5).filter(lambda name: name not in (".", ".."))
anywhere = st.builds(lambda folder, name: folder + name, st.sampled_from(["", "a/", "a.b/"]), parts)


@given(
    paths=st.lists(
        st.builds(lambda folder, name: folder + name, st.sampled_from(["", "a/", "a.b/"]), parts), unique=True
    )
)
def test_every_picture_has_its_own_in_its_folder_in_any_order(paths: list[str]) -> None:
    names = named(*paths)
    assert len(set(names.values())) == len(paths)
    for path, sidecar in names.items():
        assert os.path.dirname(path) == os.path.dirname(sidecar)  # noqa: PTH120 - no path objects needed
        assert sidecar in (f"{path}.txt", f"{path.rpartition('.')[0]}.txt")
    shuffled = random.Random(1).sample(paths, len(paths))
    assert named(*shuffled) == names


def test_relative_paths_are_below_the_current_folder() -> None:
    one = item("photos/a.jpg", root="photos")
    assert SidecarNames.of([one]).of_item(one) == Path.cwd() / "photos" / "a.txt"


def test_a_mirrored_tree_has_what_is_below_the_root(tmp_path: Path) -> None:
    items = [
        item("photos/x/a.jpg", root="photos"),
        item("photos/x/a.png", root="photos"),
        item("photos/s.tar/a/b.jpg", root="photos", path="photos/s.tar", member="a/b.jpg"),
    ]
    names = SidecarNames.of(items, mirror=tmp_path)
    found = [names.of_item(one).relative_to(tmp_path).as_posix() for one in items]
    assert found == ["x/a.jpg.txt", "x/a.png.txt", "s.tar/a/b.txt"]


def test_members_of_archives_need_a_mirrored_tree() -> None:
    one = item("s.tar/b.jpg", root="s.tar", path="s.tar", member="b.jpg")
    with pytest.raises(OutputError, match=r"^s\.tar/b\.jpg lies in an archive.*write sidecars to a mirrored tree\.$"):
        SidecarNames.of([one]).of_item(one)


def test_nothing_is_written_outside_of_the_tree(tmp_path: Path) -> None:
    one = item("../a.jpg", root=".")
    with pytest.raises(OutputError, match="would lie outside of"):
        SidecarNames.of([one], mirror=tmp_path).of_item(one)


def test_two_folders_mirrored_into_one_place_are_refused_picture_by_picture(tmp_path: Path) -> None:
    items = [item(f"{root}/{name}", root=root) for root in ("p", "q") for name in ("a.jpg", f"only-{root}.jpg")]
    names = SidecarNames.of(items, mirror=tmp_path)
    assert names.of_item(items[1]) == tmp_path / "only-p.txt"
    with pytest.raises(OutputError, match="Another picture of this job has the same place"):
        names.of_item(items[0])
