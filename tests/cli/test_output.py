"""What the commands that write files have in common."""

from __future__ import annotations

import json
from pathlib import Path

import click
import pytest

from captioner.cli.output import check_folder, write_json


def test_json_is_written_whole_and_read_by_people(tmp_path: Path) -> None:
    file = tmp_path / "scores.json"
    write_json(file, {"score": 1.5, "words": ["größer"]})
    assert json.loads(file.read_text(encoding="utf-8")) == {"score": 1.5, "words": ["größer"]}
    assert "größer" in file.read_text(encoding="utf-8")
    with pytest.raises(TypeError):
        write_json(file, {"score": object()})
    assert json.loads(file.read_text(encoding="utf-8"))["score"] == 1.5
    assert list(tmp_path.iterdir()) == [file]


def test_a_folder_that_is_absent_is_wrong_usage(tmp_path: Path) -> None:
    check_folder(None)
    check_folder(tmp_path / "scores.json")
    with pytest.raises(click.UsageError, match="create it first"):
        check_folder(tmp_path / "absent" / "scores.json")
