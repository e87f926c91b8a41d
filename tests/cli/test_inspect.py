"""`captioner inspect` verifies a bundle and prints it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from captioner.cli.inspect import outline
from captioner.cli.main import run
from captioner.manifest import digest_of, read_manifest


def test_a_bundle_is_printed_readably(tiny_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(tiny_bundle)]) == 0
    printed = capsys.readouterr().out
    manifest = read_manifest(tiny_bundle)
    assert f"{manifest['name']}@{digest_of(tiny_bundle)}" in printed.splitlines()[0]
    assert all(f"\n{key}:" in printed for key in manifest)


def test_a_folder_that_is_no_bundle_says_which_one_to_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(tmp_path)]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"captioner: {tmp_path} is no model bundle: ")
    assert told.endswith("; name the folder that captioner train wrote, OUTPUT/bundle\n")


def test_an_altered_file_is_named(tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = shutil.copytree(tiny_bundle, tmp_path / "copy")
    with (copy / "vocabulary.json").open("a") as file:
        file.write(" ")
    assert run(["inspect", str(copy)]) == 1
    assert "vocabulary.json" in capsys.readouterr().err


def test_an_outline_indents_what_lies_deeper() -> None:
    values = {"name": "m", "sizes": [1, 2], "deep": {"none": None, "empty": []}}
    assert list(outline(values)) == ["name: m", "sizes: 1, 2", "deep:", "  none: (none)", "  empty: (none)"]


def test_an_outline_numbers_what_is_a_list_of_more_and_rounds() -> None:
    values = {"phases": [{"rate": 1 / 3}, {"rate": 1e-9}]}
    assert list(outline(values)) == ["phases, 1 of 2:", "  rate: 0.3333", "phases, 2 of 2:", "  rate: 1e-09"]
