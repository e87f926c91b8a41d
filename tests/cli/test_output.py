"""An output file is whole or absent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from captioner.cli.output import OutputError, WholeFile


def test_the_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    with WholeFile(path) as file:
        file.write("one\n")
        assert not path.exists()
        file.write("two\n")
    assert path.read_text() == "one\ntwo\n"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_what_was_there_stays_when_the_block_raises(error: type[BaseException], tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("before")

    def write_half() -> None:
        with WholeFile(path) as file:
            file.write("half")
            raise error

    with pytest.raises(error):
        write_half()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_stays_and_the_file_behind_it_is_replaced_with_its_permissions(tmp_path: Path) -> None:
    path, target = tmp_path / "link", tmp_path / "target"
    target.write_text("before")
    target.chmod(0o640)
    path.symlink_to(target)
    with WholeFile(path) as file:
        file.write("after")
    assert path.is_symlink()
    assert target.read_text() == "after"
    assert target.stat().st_mode & 0o777 == 0o640


def test_a_full_disk_is_one_sentence() -> None:
    message = r"^/dev/full could not be written: No space left on device\.$"
    with pytest.raises(OutputError, match=message), WholeFile(Path("/dev/full")) as file:
        file.write("one\n")


def test_a_device_is_written_and_not_replaced() -> None:
    with WholeFile(Path("/dev/null")) as file:
        file.write("one\n")
    assert Path("/dev/null").is_char_device()


def test_a_folder_that_is_absent_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No such file or directory"):
        WholeFile(tmp_path / "absent" / "rows.jsonl")


def test_an_undecodable_file_name_becomes_valid_json(tmp_path: Path) -> None:
    name = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")
    path = tmp_path / "rows.jsonl"
    with WholeFile(path) as file:
        file.write(json.dumps({"image": name, "caption": "Ümlaut"}, ensure_ascii=False))
    assert json.loads(path.read_text(encoding="utf-8")) == {"image": name, "caption": "Ümlaut"}
