"""What the documents say is so: commands, options, files, targets and versions that they name exist."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest

import captioner
from captioner.batch.outputs import FORMATS
from captioner.batch.policies import Existing
from captioner.cli.main import COMMANDS, commands
from captioner.evaluation.diversity import portrait

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "data").glob("*/README.md")])
README = (ROOT / "README.md").read_text(encoding="utf-8")
FOLDERS = (ROOT / "docs" / "folders.md").read_text(encoding="utf-8")
EVALUATION = (ROOT / "docs" / "evaluation.md").read_text(encoding="utf-8")
FOR_USERS = "\n".join([README, FOLDERS, EVALUATION])
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def fenced(text: str) -> str:
    """What stands in the code blocks of a document."""
    return "\n".join(re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL))


def command_lines(text: str) -> list[str]:
    """The lines of code blocks, and the code within sentences, that call `captioner`."""
    return [
        line.strip().removeprefix(".venv/bin/")
        for line in [*fenced(text).replace("\\\n", " ").splitlines(), *re.findall(r"`([^`\n]+)`", text)]
        if re.match(r"\s*(\.venv/bin/)?captioner [a-z]", line)
    ]


def calls(text: str) -> list[list[str]]:
    """The arguments of each call of `captioner` in the code blocks, also of those behind a pipe."""
    found: list[list[str]] = []
    for line in fenced(text).replace("\\\n", " ").splitlines():
        for part in re.split(r"\s(?:\||&&)\s", line):
            if re.match(r"\s*(\.venv/bin/)?captioner [a-z]", part):
                arguments = shlex.split(part, comments=True)[1:]
                redirected = next((place for place, word in enumerate(arguments) if word in (">", "<")), None)
                found.append(arguments[:redirected])
    return found


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 120


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_commands_and_options_that_are_named_exist(document: Path) -> None:
    context = click.Context(commands)
    for line in command_lines(document.read_text(encoding="utf-8")):
        name, *arguments = shlex.split(line, comments=True)[1:]
        command = commands.get_command(context, name)
        assert command is not None, line
        if name != "train":  # its options are Lightning's
            known = {option for parameter in command.params for option in parameter.opts} | {"--help"}
            given = {argument.split("=")[0].rstrip(",") for argument in arguments if argument.startswith("--")}
            assert given <= known, line


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_commands_in_code_blocks_are_right_usage(document: Path) -> None:
    context = click.Context(commands)
    for name, *arguments in calls(document.read_text(encoding="utf-8")):
        command = commands.get_command(context, name)
        assert command is not None, name
        with command.make_context(name, list(arguments), parent=context):  # raises UsageError
            pass


@pytest.mark.parametrize("name", sorted({"caption", "evaluate", "score", "report", "undo", "merge"} & set(COMMANDS)))
def test_every_option_is_told_of(name: str) -> None:
    command = commands.get_command(click.Context(commands), name)
    assert command is not None
    options = {option for parameter in command.params for option in parameter.opts if option.startswith("--")}
    text = FOR_USERS + (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert [option for option in sorted(options) if not re.search(rf"(?<![\w-]){option}(?![\w-])", text)] == []


def test_every_format_and_every_policy_is_told_of() -> None:
    assert [name for name in (*FORMATS, *map(str, Existing)) if f"| `{name}` |" not in FOLDERS] == []


def test_everything_that_scores_hide_is_told_of() -> None:
    facts = portrait(
        ["a dog", ""], training=["a cat"], n_best=[["a dog"], ["", "a"]], vocabulary_size=9, cider=[0.0, 9.0]
    ).facts()
    assert len(facts) > 10
    assert [fact.name for fact in facts if f"| {fact.name} |" not in EVALUATION] == []


def test_the_figures_of_the_shipped_model_are_those_in_its_bundle() -> None:
    manifest = json.loads((ROOT / "captioner" / "bundles" / "default" / "model.json").read_text(encoding="utf-8"))
    for name, (low, high) in manifest["scores"]["intervals"].items():
        value = manifest["scores"]["scores"][name]
        assert f"{name:<10} {value:>7.2f}   {low:.2f} to {high:.2f}\n" in EVALUATION
    found = manifest["calibration"]
    own = f"| {found['calibration_error_before']:.3f} | {found['brier_before']:.3f} |"
    calibrated = f"(slope {found['slope']:.3f}, intercept {found['intercept']:.3f}) "
    assert own in EVALUATION
    assert f"{calibrated}| {found['calibration_error']:.3f} | {found['brier']:.3f} |" in EVALUATION


def test_the_readme_names_every_command() -> None:
    assert {line.split()[1] for line in command_lines(README)} == set(COMMANDS)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_links_lead_to_files(document: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8"))
    local = [link for link in links if not link.startswith(("http://", "https://"))]
    assert [link for link in local if not (document.parent / link).exists()] == []


def test_the_files_that_the_readme_names_exist() -> None:
    words = re.findall(r"`([\w./-]+)`", README) + re.findall(r"(?<![\w/.-])[\w./-]+/[\w./-]*", fenced(README))
    tops = {path.name for path in ROOT.iterdir()} - {".venv", "runs"}
    named = {word for word in words if word.split("/")[0] in tops or word.endswith((".md", ".toml"))}
    kept = {word for word in named if "/raw" not in word}  # what a recipe writes is there only after it
    assert kept
    assert [word for word in sorted(kept) if not (ROOT / word).exists()] == []


def test_the_make_targets_that_are_named_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for document in DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        named = set(re.findall(r"(?:^|`)(?:TORCH=\w+ )?make ([a-z-]+)", text, re.MULTILINE))
        assert named <= targets, document


def test_the_version_is_the_same_everywhere() -> None:
    assert PROJECT["project"]["version"] == captioner.__version__
    assert f"## {captioner.__version__}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"image: captioner:{captioner.__version__}" in (ROOT / "docker-compose.yml").read_text(encoding="utf-8")


def test_every_package_is_installed() -> None:
    found = {
        ".".join(file.parent.relative_to(ROOT).parts)
        for package in ("captioner", "service")
        for file in (ROOT / package).rglob("__init__.py")
    }
    assert set(PROJECT["tool"]["setuptools"]["packages"]) == found


def test_the_image_asks_for_what_the_project_asks_for() -> None:
    asked = re.findall(r'"(torch[^"]*)"', (ROOT / "Dockerfile").read_text(encoding="utf-8"))
    assert asked
    assert set(asked) <= set(PROJECT["project"]["dependencies"])


def test_the_public_names_exist_and_importing_them_is_lazy() -> None:
    program = """
import sys
import captioner
sys.exit("torch is imported" if "torch" in sys.modules or "PIL" in sys.modules else 0)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    names = [name for name in dir(captioner) if not name.startswith("_")]
    assert {"Captioner", "Caption", "DecodingOptions", "ImageLimits", "read_image", "CaptionerError"} <= set(names)
    assert all(getattr(captioner, name) is not None for name in names)


def test_every_exception_is_public() -> None:
    from captioner import errors

    defined = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert defined <= set(dir(captioner))


def test_a_name_that_is_not_public_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Painter'"):
        _ = captioner.Painter
