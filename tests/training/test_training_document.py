"""The commands of docs/training.md on runs, resuming, one's own pictures and devices are right usage."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from captioner.training.command import main

PROJECT = Path(__file__).parents[2]
TITLES = ("The run", "Resume", "Your own pictures", "Devices")


def commands() -> list[list[str]]:
    """The arguments of each `captioner train` in the code blocks of these sections."""
    text = (PROJECT / "docs" / "training.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    blocks = "\n".join(
        block for title in TITLES for block in re.findall(r"^```\n(.*?)^```", sections[title], re.MULTILINE | re.DOTALL)
    )
    lines = blocks.replace("\\\n", " ").splitlines()
    return [shlex.split(line.partition("captioner train ")[2]) for line in lines if "captioner train " in line]


def test_there_are_commands_for_one_and_several_machines() -> None:
    assert len(commands()) >= 4


@pytest.mark.parametrize("arguments", commands(), ids=lambda arguments: " ".join(arguments)[-60:])
def test_a_command_is_parsed(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(PROJECT)  # the document's paths are relative to it
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--print_config"])
    assert ended.value.code == 0, capsys.readouterr().err
