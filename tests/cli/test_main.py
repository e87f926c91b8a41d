"""The command itself: what it lists, its exit codes, and that help loads nothing heavy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from captioner import __version__
from captioner.cli.main import COMMANDS, commands, run


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    listed = capsys.readouterr().out
    assert all(f"\n  {name} " in listed for name in COMMANDS)


def test_every_file_of_the_package_that_defines_a_command_is_listed() -> None:
    folder = Path(__file__).parents[2] / "captioner" / "cli"
    files = {file.stem for file in folder.glob("*.py") if f"\ndef {file.stem}(" in file.read_text(encoding="utf-8")}
    shared = {"main", "decoding_options", "evaluation_run", "job_options", "model_options"}
    assert files - shared == set(COMMANDS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"captioner {__version__}\n"


@pytest.mark.parametrize("arguments", [["paint"], ["--loud"], ["caption"], ["caption", "--beam-size", "two", "x.png"]])
def test_wrong_usage_ends_with_2_and_says_how_to_get_help(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    assert "--help" in capsys.readouterr().err


def test_our_errors_are_one_line_and_end_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("captioner: ")
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize("place", [0, 2])
def test_debug_shows_the_traceback_wherever_it_stands(place: int, tmp_path: Path) -> None:
    arguments = ["inspect", str(tmp_path)]
    arguments.insert(place, "--debug")
    done = subprocess.run([sys.executable, "-m", "captioner", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "Traceback" in done.stderr


def test_the_commands_are_documented() -> None:
    context = commands.make_context("captioner", ["inspect"], resilient_parsing=True)
    for name in COMMANDS:
        command = commands.get_command(context, name)
        assert command is not None
        assert command.help
        assert all(getattr(option, "help", "") for option in command.params if option.param_type_name == "option")


def test_no_help_but_that_of_train_imports_torch() -> None:
    program = """
import sys
from captioner.cli.main import COMMANDS, run
run(["--help"])
for name in COMMANDS:
    if name != "train":
        assert run([name, "--help"]) == 0, name
heavy = {"torch", "torchvision", "nltk", "flask", "pytorch_lightning"} & set(sys.modules)
sys.exit(f"imported: {sorted(heavy)}" if heavy else 0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
