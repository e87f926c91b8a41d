"""Which files are meant."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.batch.selection import Selection
from captioner.errors import ConfigurationError


@pytest.mark.parametrize(
    ("pattern", "taken", "left"),
    [
        ("*.png", ["a.png", "a/b.png"], ["a.jpg", "a.pngs", "a.PNG"]),
        ("a/*.png", ["a/b.png"], ["b/a/b.png", "a/b/c.png", "c.png"]),
        ("/*.png", ["a.png"], ["a/b.png"]),
        ("./*.png", ["a.png"], ["a/b.png"]),
        ("**/b.png", ["b.png", "a/b.png", "a/a/b.png"], ["ab.png"]),
        ("a/**/b.png", ["a/b.png", "a/c/b.png", "a/c/d/b.png"], ["ab.png", "c/a/b.png"]),
        ("a/**", ["a/b", "a/c/d.txt"], ["a.jpg", "b/a.jpg"]),
        ("?.dat", ["a.dat", "b/c.dat"], ["ab.dat", ".dat"]),
        ("[ab][!c].x", ["ad.x"], ["ac.x", "cd.x"]),
        ("[a-c]-.x", ["b-.x"], ["d-.x"]),
        ("[z-a].x", [], ["z.x", "a.x", "-.x"]),
        ("[]x].x", ["].x", "x.x"], ["[.x"]),
        ("[a.x", ["[a.x"], ["a.x"]),
        (r"\*.x", ["*.x"], ["a.x"]),
        ("a+(b).x", ["a+(b).x"], ["aab.x"]),
        ("**", ["a", "b/c"], []),
        ("raw", ["raw/a.jpg", "b/raw/c/d.jpg", "raw"], ["raw/a.txt", "raws/a.jpg"]),
        ("raw/", ["raw/a.jpg", "b/raw/c/d.jpg"], ["raw", "raw/a.txt"]),
        ("a/raw/", ["a/raw/a.jpg"], ["b/a/raw/a.jpg"]),
    ],
)
def test_include_patterns(pattern: str, taken: list[str], left: list[str]) -> None:
    selection = Selection(include=(pattern,), hidden=True)
    assert [path for path in taken + left if selection.skips(path) is None] == taken


def test_without_patterns_the_extension_decides() -> None:
    paths = ["a.jpg", "b/c.JPEG", "d.tif", "a.txt", "jpg", "a.jpg.part", "a.tar"]
    assert [path for path in paths if Selection().skips(path) is None] == paths[:3]


def test_exclude_wins_over_include_and_takes_whole_folders() -> None:
    selection = Selection(include=("*.jpg",), exclude=("thumbs", "2024/*.jpg"))
    paths = ["a.jpg", "thumbs/a.jpg", "b/thumbs/c/a.jpg", "2024/a.jpg", "2024/b/a.jpg"]
    assert [selection.skips(path) for path in paths] == [None, "excluded", "excluded", "excluded", None]


def test_hidden_names_at_every_depth() -> None:
    paths = [".a.jpg", ".a/b.jpg", "a/.b/c.jpg", "a/.b.jpg"]
    assert [Selection().skips(path) for path in paths] == ["hidden"] * 4
    assert [Selection(include=(".*",)).skips(path) for path in paths] == ["hidden"] * 4
    assert [Selection(hidden=True).skips(path) for path in paths] == [None] * 4


@pytest.mark.parametrize("pattern", ["", "/", "!*.jpg"])
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ConfigurationError):
        Selection(exclude=(pattern,))


_NAMES = st.text("ab.", min_size=1, max_size=3).filter(lambda name: name.strip(".") != "" and name != ".git")
_PATHS = st.lists(_NAMES, min_size=1, max_size=3).map("/".join)
_SEGMENTS = st.one_of(
    st.just("**"), st.text("ab.*?", min_size=1, max_size=3), st.sampled_from(["[ab]", "[!a]*", r"\a"])
)
_PATTERNS = (
    st.tuples(
        st.sampled_from(["", "/"]),
        st.lists(_SEGMENTS, min_size=1, max_size=3).map("/".join),
        st.sampled_from(["", "/"]),
    )
    .map("".join)
    .filter(lambda pattern: not pattern.startswith("./"))
)


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
@settings(max_examples=25)
@given(patterns=st.lists(_PATTERNS, min_size=1, max_size=3), paths=st.lists(_PATHS, min_size=20, max_size=40))
def test_patterns_match_what_git_ignores(
    tmp_path_factory: pytest.TempPathFactory, patterns: list[str], paths: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("repository")
    subprocess.run(["git", "init", "--quiet", folder], check=True)
    (folder / ".git/info").mkdir(exist_ok=True)
    (folder / ".git/info/exclude").write_text("\n".join(patterns) + "\n")
    asked = subprocess.run(
        ["git", "-c", "core.ignoreCase=false", "check-ignore", "--no-index", "--stdin", "-z"],
        cwd=folder,
        input="\0".join(paths),
        capture_output=True,
        text=True,
    )
    ignored = set(asked.stdout.split("\0")) - {""}
    selection = Selection(exclude=tuple(patterns), hidden=True)
    assert {path for path in paths if selection.skips(path) == "excluded"} == ignored
