"""Machines that share no disk can have other data: all of them say so, and none begins."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.training.running import recipe, run_machines


@pytest.mark.parametrize(("changed", "pictures"), [("a picture", 23), ("a word", 24)])
def test_a_machine_with_other_data_is_refused(changed: str, pictures: int, shapes: Path, tmp_path: Path) -> None:
    shutil.copytree(shapes, tmp_path / "other")
    captions = tmp_path / "other" / "shapes.token.txt"
    if changed == "a picture":
        (tmp_path / "other" / "Images" / captions.read_text().partition("#")[0]).unlink()
    else:
        captions.write_text(captions.read_text().replace("circle", "disc"))
    command = ["--config", recipe(tmp_path, shapes), "--data.batch_size=4"]
    ended = run_machines(
        [*command, "--output", tmp_path / "first"],
        [*command, "--output", tmp_path / "second", "--data.path", tmp_path / "other"],
    )
    assert [each.returncode for each in ended] == [1, 1], ended
    for each in ended:
        refusal = re.search(
            r"process 0 has 24 \+ 7 pictures with the vocabulary (\w{8}), but process 1 has "
            rf"{pictures} \+ 7 pictures with the vocabulary (\w{{8}}): give all machines the same data\n",
            each.stderr,
        )
        assert refusal is not None, each.stderr
        assert refusal[1] != refusal[2] or changed == "a picture"
        assert "Traceback" not in each.stderr
    assert not list(tmp_path.glob("*/checkpoints"))
