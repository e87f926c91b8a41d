"""The page of COCO: its commands run on a replica, its recipes learn from real photos, its figures are the code's."""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
from pathlib import Path

import pytest

from captioner.datasets.coco_preparation import COUNTS, KARPATHY_COUNTS
from tests.integration.coco_page import (
    PAGE,
    SMALL,
    SMALL_NETWORK,
    adapted,
    commands,
    copy_project,
    installs,
    replica_server,
    run,
)
from tests.training.running import train

PROJECT = Path(__file__).parents[2]
SAMPLE = PROJECT.parent / "shared" / "data" / "coco-sample"


def environment(folder: Path) -> dict[str, str]:
    """The present environment, in which `captioner` is that of the copy in `folder`."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}


def test_every_command_of_the_page_runs_on_the_replica(tmp_path: Path) -> None:
    folder = tmp_path / "clone"
    folder.mkdir()
    copy_project(folder)
    assert [command for command in commands() if installs(command)] == [
        "python3 -m venv .venv",
        ". .venv/bin/activate",
        "pip install -e '.[train]'",
    ]
    with replica_server(tmp_path / "published") as mirror:
        lines = [adapted(command, mirror) for command in commands() if not installs(command)]
        done = run(lines, folder, environment(folder))
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(lines) == 5
    history = json.loads((folder / "runs" / "coco-2" / "bundle" / "model.json").read_text())["training"]["phases"]
    assert [phase["data"] for phase in history] == ["coco", "coco"]
    assert [phase["steps"] for phase in history] == [3, 3]
    assert history[1]["settings"]["self_critical"]["baseline"] == "others"
    scores = json.loads((folder / "runs" / "coco.json").read_text())
    assert "CIDEr-D" in json.dumps(scores)
    rows = [json.loads(line) for line in (folder / "runs" / "val2014.jsonl").read_text().splitlines()]
    assert len(rows) == 9
    assert all("caption" in row for row in rows)


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="needs ../shared/data, which only the project's machines have")
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_both_recipes_learn_from_real_photos(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """80 photos of train2017, whose splits the digests of their names make."""
    monkeypatch.chdir(PROJECT)
    first, second = (command for command in commands() if command.startswith("captioner train"))
    more = f"--data.path {SAMPLE / 'annotations' / 'captions_train2017.json'} --data.cache {tmp_path / 'cache'}"
    first = first.replace("runs/coco-1", str(tmp_path / "1"))
    second = second.replace("runs/coco-1", str(tmp_path / "1")).replace("runs/coco-2", str(tmp_path / "2"))
    for line in (f"{first} {SMALL} {SMALL_NETWORK} {more}", f"{second} {SMALL} {more}"):
        assert train(*shlex.split(line)[2:]) == 0  # in this process, which has done with its imports
    assert "names no splits" in capsys.readouterr().err
    manifest = json.loads((tmp_path / "2" / "bundle" / "model.json").read_text())
    assert [phase["steps"] for phase in manifest["training"]["phases"]] == [3, 3]


def test_the_counts_of_the_page_are_those_that_are_verified() -> None:
    text = PAGE.read_text(encoding="utf-8")
    rows = {name.strip(): numbers for name, numbers in re.findall(r"^\| (.*?) \| ([\d,| ]+) \|$", text, re.MULTILINE)}
    for year, counts in COUNTS.items():
        assert rows[f"pictures of {year}"] == " | ".join(f"{count:,}" for count in counts.values())
    karpathy = rows["Karpathy's splits of 2014 (`restval` belongs to train)"]
    assert karpathy == " | ".join(f"{count:,}" for count in KARPATHY_COUNTS.values())


def test_the_steps_of_the_page_are_those_of_the_recipes() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for phase, epochs in (("1", 15), ("2", 10)):
        (steps,) = re.findall(rf"^\| {phase} \| .* \| {epochs} \| ([\d,]+) \|$", text, re.MULTILINE)
        assert int(steps.replace(",", "")) == epochs * (KARPATHY_COUNTS["train"] // 64)
