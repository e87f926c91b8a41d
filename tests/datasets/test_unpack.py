"""Archives: what is wanted is unpacked, gone on with after an interruption, and nothing lands outside of the folder."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from captioner.datasets.unpack import unpack
from captioner.errors import DatasetError


def archive(folder: Path, **members: bytes) -> Path:
    file = folder / "a.zip"
    with zipfile.ZipFile(file, "w") as made:
        for name, content in members.items():
            made.writestr(name, content)
    return file


def test_only_what_is_wanted(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    file = archive(tmp_path, **{"a/": b"", "a/one.txt": b"1", "a/two.txt": b"2", "b/three.txt": b"3"})
    assert unpack(file, tmp_path / "raw", lambda name: name.startswith("a/")) == 2
    unpacked = {path.relative_to(tmp_path / "raw").as_posix() for path in (tmp_path / "raw").rglob("*.*")}
    assert unpacked == {"a/one.txt", "a/two.txt"}


def test_an_interrupted_unpacking_is_gone_on_with(tmp_path: Path) -> None:
    file = archive(tmp_path, **{"one.txt": b"first", "two.txt": b"second", "three.txt": b"third"})
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "one.txt").write_bytes(b"FIRST")  # of the right size: passed over
    (tmp_path / "raw" / "two.txt").write_bytes(b"sec")
    (tmp_path / "raw" / "three.txt.part").write_bytes(b"th")
    assert unpack(file, tmp_path / "raw") == 3
    contents = {path.name: path.read_bytes() for path in (tmp_path / "raw").iterdir()}
    assert contents == {"one.txt": b"FIRST", "two.txt": b"second", "three.txt": b"third"}


@pytest.mark.parametrize("name", ["../out.txt", "/tmp/out.txt", "a/../../out.txt"])
def test_a_member_that_leads_out_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "raw").mkdir()
    with pytest.raises(DatasetError, match="leads out of its folder"):
        unpack(archive(tmp_path, **{name: b"x"}), tmp_path / "raw")
    assert not (tmp_path / "out.txt").exists()


def test_what_is_no_archive_is_told(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "a.zip").write_bytes(b"<html>404</html>")
    with pytest.raises(
        DatasetError, match=r"a\.zip is damaged \(File is not a zip file\); delete it to fetch it again"
    ):
        unpack(tmp_path / "a.zip", tmp_path / "raw")
