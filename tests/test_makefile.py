"""The Makefile's rules, with a Python that installs nothing and writes down what it was asked."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FAKE_PYTHON = """#!/bin/sh
echo "$*" >> log
case "$*" in
  "-m venv --clear "*) rm -rf .venv; mkdir -p .venv/bin; cp fake-python .venv/bin/python; touch .venv/pip;;
  "-m pip --version") test -e .venv/pip;;
esac
"""

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="no make on this machine")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the Makefile and the fake Python."""
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "fake-python").write_text(FAKE_PYTHON)
    (tmp_path / "fake-python").chmod(0o755)
    return tmp_path


def asked(project: Path, *variables: str) -> list[str]:
    """What the fake Python is asked while the service is set up."""
    log = project / "log"
    log.write_text("")
    command = ["make", "--silent", ".venv/.serve-installed", "PYTHON=./fake-python", *variables]
    environment = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME")}
    subprocess.run(command, cwd=project, check=True, env=environment)
    return log.read_text().splitlines()


def builds(lines: list[str]) -> list[str]:
    """The builds of torch that are installed."""
    return [line.split("/whl/")[1].split()[0] for line in lines if "/whl/" in line]


def test_all_is_set_up_once(project: Path) -> None:
    lines = asked(project)
    assert "-m venv --clear .venv" in lines
    assert builds(lines) == []
    assert lines[-1].endswith("--editable .")
    assert asked(project) == []


def test_another_build_of_torch_replaces_the_one_that_is_there(project: Path) -> None:
    assert builds(asked(project, "TORCH=cpu")) == ["cpu"]
    assert asked(project, "TORCH=cpu") == []
    assert asked(project) == []  # nothing was said of torch
    assert builds(asked(project, "TORCH=cu126")) == ["cu126"]
    assert builds(asked(project, "TORCH=cpu")) == ["cpu"]


def test_an_environment_whose_making_was_interrupted_is_made_anew(project: Path) -> None:
    binaries = project / ".venv" / "bin"
    binaries.mkdir(parents=True)
    shutil.copy(project / "fake-python", binaries / "python")  # and no pip
    assert "-m venv --clear .venv" in asked(project)


def test_an_environment_that_works_is_kept(project: Path) -> None:
    binaries = project / ".venv" / "bin"
    binaries.mkdir(parents=True)
    shutil.copy(project / "fake-python", binaries / "python")
    (project / ".venv" / "pip").touch()
    assert not [line for line in asked(project) if "venv --clear" in line]
