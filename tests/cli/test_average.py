"""`captioner average`: several bundles become one, or one sentence says why not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from captioner.bundle import load_bundle, save_bundle
from captioner.card import model_card
from captioner.cli.main import run

START = {"data": "toy", "date": "2026-01-01", "epochs": 1, "steps": 9, "minutes": 0.1, "dev_cider": 10.0}


def write(tiny_bundle: Path, path: Path, *, licence: str, start: str = "2026-01-01") -> str:
    """A bundle with two phases of training at `path`; the second is its own."""
    phases = [{**START, "date": start}, {**START, "date": "2026-02-02", "epochs": 4, "seed": path.name}]
    bundle = replace(load_bundle(tiny_bundle), training={"phases": phases})
    save_bundle(bundle, path, card="", licence_text=f"{licence}\n")
    return str(path)


def test_it_writes_a_bundle_with_its_card_and_its_licences(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = (write(tiny_bundle, tmp_path / name, licence=name) for name in ("MIT", "CC0"))
    output = tmp_path / "soup"
    assert run(["average", a, b, "--output", str(output)]) == 0
    average = load_bundle(output)
    told = f"tiny@{average.digest}, the average of 2 bundles, written to {output}\n"
    assert capsys.readouterr().err == told
    card = (output / "README.md").read_text()
    assert card == model_card(average)
    assert "2. The average of the weights of 2 models" in card
    assert card.count("   - toy, 2026-02-02: 4 epochs") == 2
    assert (output / "LICENSE").read_text() == "MIT\n\nCC0\n"


@pytest.mark.parametrize(("count", "told"), [(1, "needs two bundles or more"), (2, "not trained from the same start")])
def test_what_has_no_average_is_one_line(
    tiny_bundle: Path, tmp_path: Path, count: int, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    dates = ("2026-01-01", "2026-01-03")[:count]
    bundles = [write(tiny_bundle, tmp_path / date, licence="MIT", start=date) for date in dates]
    assert run(["average", *bundles, "--output", str(tmp_path / "soup")]) == 1
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
    assert not (tmp_path / "soup").exists()


def test_a_bundle_that_is_not_there_is_named(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = write(tiny_bundle, tmp_path / "a", licence="MIT")
    assert run(["average", a, str(tmp_path / "b"), "--output", str(tmp_path / "soup")]) == 1
    assert f"there is no folder {tmp_path / 'b'}" in capsys.readouterr().err
