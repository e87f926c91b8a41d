"""Pictures are read once: what was found is kept, what has changed is read again, what two splits share is found."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from captioner.datasets.checks import check_pictures, usable
from captioner.datasets.records import Record
from captioner.errors import ConfigurationError
from tests.conftest import Draw


@pytest.fixture
def pictures(tmp_path: Path, draw: Draw) -> list[Path]:
    """Five pictures, of which the second and the fourth are the same."""
    paths = [tmp_path / f"{number}.png" for number in range(5)]
    for path, seed in zip(paths, (0, 1, 2, 1, 3), strict=True):
        draw(30, 20, seed=seed).save(path)
    return paths


def test_reasons_and_digests(pictures: list[Path], tmp_path: Path) -> None:
    pictures[0].write_bytes(b"no picture")
    found = check_pictures([*pictures, tmp_path / "gone.png"], tmp_path / "cache")
    assert (found[pictures[0]].reason or "").startswith("The file holds no picture")
    assert found[tmp_path / "gone.png"].reason == "The file cannot be read: No such file or directory."
    good = [found[picture] for picture in pictures[1:]]
    assert [finding.reason for finding in good] == [None] * 4
    assert good[0].digest == good[2].digest
    assert len({finding.digest for finding in good}) == 3


def test_a_picture_is_read_once_unless_it_changes(pictures: list[Path], tmp_path: Path) -> None:
    """A cache that says something else of a picture is believed, so nobody can have read it again."""
    first = check_pictures(pictures, tmp_path / "cache")
    (log,) = (tmp_path / "cache").iterdir()
    lines = log.read_text().splitlines()
    assert len(lines) == 5
    log.write_text(log.read_text().replace(first[pictures[0]].digest, "believed") + '["cut o')
    assert check_pictures(pictures, tmp_path / "cache")[pictures[0]].digest == "believed"
    os.utime(pictures[0], ns=(0, 1))
    again = check_pictures(pictures, tmp_path / "cache")
    assert again == first


def test_a_broken_picture_is_read_again(pictures: list[Path], tmp_path: Path) -> None:
    """What kept a picture from being read may be over, and neither its size nor its time tells it."""
    whole, status = pictures[0].read_bytes(), pictures[0].stat()
    for content, readable in ((bytes(len(whole)), False), (bytes(len(whole)), False), (whole, True)):
        pictures[0].write_bytes(content)
        os.utime(pictures[0], ns=(status.st_atime_ns, status.st_mtime_ns))
        found = check_pictures(pictures, tmp_path / "cache")
        assert [found[picture].reason is None for picture in pictures] == [readable, True, True, True, True]


def test_a_cache_that_cannot_be_written_is_one_sentence(pictures: list[Path], tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(ConfigurationError, match=r"cannot be written: .*; choose another folder for the cache"):
        check_pictures(pictures, tmp_path / "cache")


def test_a_picture_of_two_splits_stays_where_it_is_measured(pictures: list[Path], tmp_path: Path) -> None:
    findings = check_pictures(pictures, tmp_path / "cache")
    records = [Record(picture, ("a dog",)) for picture in pictures]
    for where in ("dev", "test"):
        kept, left_out = usable({"train": records[:3], where: records[3:]}, findings)
        assert kept == {"train": [records[0], records[2]], where: records[3:]}
        ((image, split, reason),) = [(each.image, each.split, each.reason) for each in left_out]
        assert (image, split) == (pictures[1], "train")
        assert reason == f"The same picture is in another split, as {pictures[3]}."
    kept, left_out = usable({"train": records}, findings)  # twice in one split does no harm
    assert kept == {"train": records}
    assert left_out == []
