"""Files, folders, archives and lists as one sorted sequence."""

from __future__ import annotations

import io
import os
import random
import sys
import zipfile
from collections.abc import Iterator
from contextlib import chdir, suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.batch.folders import items_below
from captioner.batch.selection import Selection
from captioner.batch.sources import SourceError, find_items, read_list
from captioner.batch.survey import Survey
from captioner.errors import UnreadableImage
from captioner.images import read_image


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Path]:
    """An empty folder that is the current one."""
    with chdir(tmp_path):
        yield tmp_path


def make(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")


def pack(path: Path, *names: str) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"xy")


def sources(*paths: str | Path, selection: Selection | None = None, survey: Survey | None = None) -> list[str]:
    return [item.source for item in find_items(paths, selection, survey)]


def test_a_folder_is_searched_to_the_bottom(here: Path) -> None:
    make(here, "p/b.jpg", "p/a/z.PNG", "p/a/b/c.webp", "p/c.jpeg", "p/notes.txt", "p/jpg")
    items = list(find_items(["p"]))
    assert [item.source for item in items] == ["p/a/b/c.webp", "p/a/z.PNG", "p/b.jpg", "p/c.jpeg"]
    status = (here / "p/b.jpg").stat()
    assert items[2] == ("p/b.jpg", "p/b.jpg", None, "p", status.st_size, status.st_mtime_ns)


@pytest.mark.parametrize(("named", "prefix"), [(".", ""), ("./p/", "p/"), ("p/../p", "p/../p/"), ("{}/p", "{}/p/")])
def test_sources_begin_as_the_path_was_named(here: Path, named: str, prefix: str) -> None:
    make(here, "p/a.jpg", "a.jpg")
    found = list(find_items([named.format(here)]))
    assert found[0].source == prefix.format(here) + "a.jpg"
    assert found[0].relative == "a.jpg"


_NAMES = st.text("aB.(/0é", min_size=1, max_size=9).map(lambda name: name + "x.jpg")
_ROOTS = st.sets(st.sampled_from([".", "a", "./a/a/", "B", "a.", "0(", "(x.jpg", "ax.jpg"]), min_size=1)


@settings(max_examples=100)
@given(names=st.lists(_NAMES, max_size=12), roots=_ROOTS)
def test_the_whole_sequence_is_sorted_and_each_source_comes_once(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], roots: set[str]
) -> None:
    with chdir(tmp_path_factory.mktemp("tree")):
        for root in roots:
            if root.endswith("jpg"):
                make(Path(), root)
            else:
                Path(root).mkdir(parents=True, exist_ok=True)
        for name in names:
            with suppress(FileExistsError, IsADirectoryError, NotADirectoryError):
                make(Path(), name.replace("..", ".").lstrip("/"))
        expected = {str(path) for root in roots for path in [Path(root), *Path(root).rglob("*.jpg")] if path.is_file()}
        assert sources(*roots, selection=Selection(hidden=True)) == sorted(expected)


def test_a_folder_sorts_as_its_name_with_a_slash(here: Path) -> None:
    names = ["a-b.jpg", "a.jpg", "a/x.jpg", "a/y/z.jpg", "a0.jpg", "aa.jpg", "é.jpg"]
    make(here, *random.Random(1).sample(names, len(names)))
    assert sources(".") == names


def test_what_is_left_out_is_counted(here: Path) -> None:
    make(here, "p/a.jpg", "p/.b.jpg", "p/.c/d.jpg", "p/e.txt", "p/x/f.jpg", "p/g.zip")
    (here / "p/link").symlink_to(here / "p/x")
    os.mkfifo(here / "p/pipe.jpg")
    survey = Survey()
    assert sources("p", "p/a.jpg", selection=Selection(exclude=("x/",)), survey=survey) == ["p/a.jpg"]
    assert survey == Survey(hidden=2, excluded=1, other_files=2, archives=1, links=1, repeated=1)


def test_hidden_files_and_folders_if_asked(here: Path) -> None:
    make(here, "p/.b.jpg", "p/.c/d.jpg")
    assert sources("p", selection=Selection(hidden=True)) == ["p/.b.jpg", "p/.c/d.jpg"]


def test_patterns_see_the_path_below_the_folder(here: Path) -> None:
    make(here, "p/p/a.jpg", "p/p/b.dat", "p/q/a.jpg", "p/q/r/notes.txt", "p/q/r/a.png")
    assert sources("p", selection=Selection(include=("p/*",))) == ["p/p/a.jpg", "p/p/b.dat"]
    assert sources("p", selection=Selection(include=("q",))) == ["p/q/a.jpg", "p/q/r/a.png"]
    assert sources("p", selection=Selection(exclude=("r", "*.dat"))) == ["p/p/a.jpg", "p/q/a.jpg"]


def test_a_named_file_is_taken_whatever_it_is_called_unless_a_pattern_says_otherwise(here: Path) -> None:
    make(here, "b.data", ".hidden", "a.jpg")
    assert sources("b.data", "a.jpg", ".hidden") == [".hidden", "a.jpg", "b.data"]
    survey = Survey()
    selection = Selection(include=("*.jpg", "*.data"), exclude=("a.*",))
    assert sources("b.data", "a.jpg", ".hidden", selection=selection, survey=survey) == ["b.data"]
    assert survey == Survey(excluded=1, other_files=1)


def test_the_highest_folder_that_was_named_is_the_root(here: Path) -> None:
    make(here, "p/q/a.jpg")
    for paths in (["p", "p/q", "p/q/a.jpg"], ["p/q/a.jpg", "p/q", "p"]):
        assert [item.root for item in find_items(paths)] == ["p"]


@pytest.mark.parametrize("path", ["gone.jpg", "", "a\0b", "a.jpg/b.jpg", "broken.jpg"])
def test_a_path_that_does_not_exist_is_refused_before_anything_else(here: Path, path: str) -> None:
    make(here, "a.jpg")
    (here / "broken.jpg").symlink_to("nowhere")
    with pytest.raises(SourceError):
        find_items(["a.jpg", path])


def test_names_that_are_no_utf_8_survive(here: Path) -> None:
    try:
        (here / os.fsdecode(b"\xff\xe9.jpg")).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system has only UTF-8 names")
    (item,) = find_items(["."])
    assert os.fsencode(item.source) == b"\xff\xe9.jpg"
    assert item.size == 1


# Links


def test_links_to_files_are_files_and_a_link_to_nothing_fails_with_a_reason(here: Path) -> None:
    make(here, "kept/a.jpg", "p/x.jpg")
    (here / "p/link.jpg").symlink_to(here / "kept/a.jpg")
    (here / "p/broken.jpg").symlink_to(here / "nowhere")
    (here / "p/circle.jpg").symlink_to("circle.jpg")
    items = {item.source: item for item in find_items(["p"])}
    assert list(items) == ["p/broken.jpg", "p/circle.jpg", "p/link.jpg", "p/x.jpg"]
    assert items["p/link.jpg"].size == 1
    for name in ("p/broken.jpg", "p/circle.jpg"):
        assert (items[name].size, items[name].mtime_ns) == (0, 0)
        with pytest.raises(UnreadableImage):
            read_image(items[name].load())


def test_links_to_folders_are_followed_only_if_asked(here: Path) -> None:
    make(here, "kept/a.jpg", "p/x.jpg")
    (here / "p/link").symlink_to(here / "kept")
    survey = Survey()
    assert sources("p", survey=survey) == ["p/x.jpg"]
    assert survey.links == 1
    assert sources("p", selection=Selection(follow_links=True)) == ["p/link/a.jpg", "p/x.jpg"]
    assert sources("p/link") == ["p/link/a.jpg"]


def test_links_in_a_circle_end(here: Path) -> None:
    make(here, "p/q/a.jpg", "out/b.jpg")
    (here / "p/q/up").symlink_to(here / "p")
    (here / "p/q/self").symlink_to(".")
    (here / "p/q/higher").symlink_to(here)
    (here / "p/away").symlink_to(here / "out")
    (here / "out/back").symlink_to(here / "p")
    (here / "out/around").symlink_to(here / "out")
    survey = Survey()
    assert sources("p", selection=Selection(follow_links=True), survey=survey) == ["p/away/b.jpg", "p/q/a.jpg"]
    assert survey.links >= 4
    assert not survey.failures


def test_many_ways_to_one_folder_are_gone_once(here: Path) -> None:
    """Two links in each of 40 folders to the next one: 2 ** 40 paths."""
    for number in range(40):
        make(here, f"kept/{number}/a.jpg")
        for name in ("left", "right"):
            (here / f"kept/{number}/{name}").symlink_to(here / f"kept/{number + 1}")
    (here / "p").mkdir()
    (here / "p/in").symlink_to(here / "kept/0")
    assert len(sources("p", selection=Selection(follow_links=True))) == 40


def test_a_link_into_the_same_tree_is_not_needed_unless_the_folder_is_hidden(here: Path) -> None:
    make(here, "p/real/a.jpg", "p/.store/b.jpg")
    (here / "p/a_link").symlink_to("real")
    (here / "p/b_link").symlink_to(".store")
    assert sources("p", selection=Selection(follow_links=True)) == ["p/b_link/b.jpg", "p/real/a.jpg"]


# What goes wrong on the way


@pytest.mark.skipif(os.geteuid() == 0, reason="root may list every folder")
def test_a_closed_folder_is_a_failure_and_the_others_go_on(here: Path) -> None:
    make(here, "p/a.jpg", "p/closed/b.jpg", "p/z.jpg")
    (here / "p/closed").chmod(0)
    survey = Survey()
    assert sources("p", survey=survey) == ["p/a.jpg", "p/z.jpg"]
    assert [failure.source for failure in survey.failures] == ["p/closed"]


def test_a_folder_that_vanishes_is_a_failure_and_a_file_that_does_fails(here: Path) -> None:
    make(here, "p/a.jpg", "p/b.jpg", "p/c/d.jpg", "p/e.jpg")
    survey = Survey()
    items = find_items(["p"], None, survey)
    first = next(items)
    (here / "p/b.jpg").unlink()
    (here / "p/c/d.jpg").unlink()
    (here / "p/c").rmdir()
    assert [item.source for item in (first, *items)] == ["p/a.jpg", "p/b.jpg", "p/e.jpg"]
    (failure,) = survey.failures
    assert failure.source == "p/c"
    assert "No such file" in failure.reason


def test_paths_that_are_too_long_are_a_failure(here: Path) -> None:
    name = "n" * 250
    for _ in range(17):
        (here / name).mkdir()
        os.chdir(name)
        here = Path()
    Path("a.jpg").touch()
    for _ in range(17):
        os.chdir("..")
    survey = Survey()
    assert list(items_below(".", Selection(), survey)) == []
    assert len(survey.failures) == 1


# Archives


def test_an_archive_that_is_named_is_read_in_place(here: Path) -> None:
    pack(here / "b.zip", "z.jpg", "a/y.jpg", "a/notes.txt", ".hidden.jpg", "../../up.jpg", "/etc/x.jpg", "a/./y.png")
    make(here, "a.jpg", "b.zip.jpg")
    survey = Survey()
    items = list(find_items([".", "b.zip"], None, survey))
    assert [item.source for item in items] == [
        "a.jpg",
        "b.zip.jpg",
        "b.zip/__/__/up.jpg",
        "b.zip/a/y.jpg",
        "b.zip/a/y.png",
        "b.zip/etc/x.jpg",
        "b.zip/z.jpg",
    ]
    up = items[2]
    assert (up.path, up.member, up.root, up.size) == ("b.zip", "../../up.jpg", "b.zip", 2)
    assert up.mtime_ns == (here / "b.zip").stat().st_mtime_ns
    assert up.load() == b"xy"
    assert survey == Survey(hidden=1, other_files=1, archives=1)


def test_patterns_see_the_names_of_members(here: Path) -> None:
    pack(here / "b.zip", "a/x.jpg", "a/y.dat", "c/x.jpg")
    assert sources("b.zip", selection=Selection(include=("a/*",), exclude=("x.*",))) == ["b.zip/a/y.dat"]


def test_an_archive_in_a_folder_is_read_where_a_pattern_includes_it(here: Path) -> None:
    (here / "s").mkdir()
    pack(here / "s/1.zip", "b.jpg", "a.jpg", "a.json")
    pack(here / "s/0.zip", "b.jpg")
    make(here, "s/1.zip.jpg", "s/1.jpg")
    items = list(find_items(["s"], Selection(include=("*.zip",))))
    assert [item.source for item in items] == ["s/0.zip/b.jpg", "s/1.zip/a.jpg", "s/1.zip/b.jpg"]
    assert [item.relative for item in items] == ["0.zip/b.jpg", "1.zip/a.jpg", "1.zip/b.jpg"]
    both = Selection(include=("*.zip", "*.jpg"))
    assert sources("s", selection=both) == sorted(sources("s", selection=both))


def test_a_damaged_archive_is_one_failure(here: Path) -> None:
    make(here, "a.zip", "b.tar", "c.tgz", "d.jpg")
    survey = Survey()
    assert sources("a.zip", "b.tar", "c.tgz", "d.jpg", survey=survey) == ["d.jpg"]
    assert [failure.source for failure in survey.failures] == ["a.zip", "b.tar", "c.tgz"]


def test_archives_are_opened_when_their_turn_comes(here: Path) -> None:
    pack(here / "a.zip", "a.jpg")
    pack(here / "b.zip", "b.jpg")
    items = find_items(["a.zip", "b.zip"])
    next(items)
    pack(here / "b.zip", "c.jpg")
    assert [item.source for item in items] == ["b.zip/c.jpg"]


# Lists


@pytest.mark.parametrize(
    ("content", "paths"),
    [
        (b"b.jpg\na b.jpg\n", ["b.jpg", "a b.jpg"]),
        (b"a.jpg", ["a.jpg"]),
        (b"\n  \na.jpg\n\n", ["a.jpg"]),
        (b"a.jpg\r\nb.jpg\r\n", ["a.jpg", "b.jpg"]),
        (b"\xef\xbb\xbfa.jpg\n", ["a.jpg"]),
        (b"a\nb.jpg\0c.jpg\0", ["a\nb.jpg", "c.jpg"]),
        (b"# a.jpg\n'b.jpg'\n", ["# a.jpg", "'b.jpg'"]),
        (b"\xff.jpg\n", ["\udcff.jpg"]),
        (b"", []),
    ],
)
def test_a_list(tmp_path: Path, content: bytes, paths: list[str]) -> None:
    (tmp_path / "list").write_bytes(content)
    assert read_list(tmp_path / "list") == paths


def test_a_list_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a.jpg\nb.jpg\n")))
    assert read_list("-") == ["a.jpg", "b.jpg"]


def test_a_list_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="No such file"):
        read_list(tmp_path / "gone")
    (tmp_path / "list").write_text("a.jpg\n", encoding="utf-16")
    with pytest.raises(SourceError, match="UTF-16"):
        read_list(tmp_path / "list")


def test_listed_paths_are_sorted_counted_once_and_may_be_gone(here: Path) -> None:
    make(here, "q/c.jpg", "p/b.jpg", "a.data")
    pack(here / "z.zip", "m.jpg")
    listed = ["./q", "p/b.jpg", "gone/x.jpg", "a.data", "p//b.jpg", "z.zip", str(here / "a.data")]
    survey = Survey()
    items = list(find_items([], None, survey, listed=listed))
    assert [item.source for item in items] == [
        str(here / "a.data"),
        "a.data",
        "gone/x.jpg",
        "p/b.jpg",
        "q/c.jpg",
        "z.zip/m.jpg",
    ]
    assert [item.relative for item in items[1:4]] == ["a.data", "gone/x.jpg", "p/b.jpg"]
    assert items[0].relative == str(here / "a.data").lstrip("/")
    assert survey == Survey(repeated=1)
    with pytest.raises(UnreadableImage, match="There is no file"):
        read_image(items[2].load())
