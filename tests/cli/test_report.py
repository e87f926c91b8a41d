"""`captioner report`: an evaluation as one HTML file."""

from __future__ import annotations

from pathlib import Path

import pytest

from captioner.cli.main import run
from tests.cli.conftest import NAMES


def test_a_report_holds_every_picture(data: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    training = tmp_path / "run"
    training.mkdir()
    (training / "metrics.csv").write_text("epoch,train_loss_epoch,val_loss,cider\n0,3.5,,\n0,,3.2,40.0\n")
    output = tmp_path / "report.html"
    command = ["report", "--data", str(data), "--bundle", str(tiny_bundle), "--output", str(output)]
    assert run([*command, "--run", str(training)]) == 0
    page = output.read_text(encoding="utf-8")
    assert all(name in page for name in NAMES)
    assert "CIDEr-D" in page
    assert "Development split" in page
    assert "A dog number 1 runs ." in page


def test_a_run_without_a_log_leaves_no_report(
    data: Path, tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "report.html"
    command = ["report", "--data", str(data), "--bundle", str(tiny_bundle), "--output", str(output)]
    assert run([*command, "--run", str(tmp_path)]) == 1
    assert "has no metrics.csv: name the folder that a training wrote" in capsys.readouterr().err
    assert not output.exists()
