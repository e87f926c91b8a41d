"""The gradient flow in the log of `captioner train`, and that training does not notice that it is measured."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pytest
import torch

from captioner.training.gradient_flow import gradient_flow, recurrent_matrices
from tests.training.gradient_callbacks import Recorder, given
from tests.training.running import column, recipe, train

DEEP = ["--model.decoder.num_layers=2", "--trainer.precision=32-true"]
SHUFFLE = ["--model.encoder.name=shufflenet_v2_x0_5", "--model.encoder.cut=stage2"]  # it has batch normalisations


def logging(every: int) -> dict[str, Any]:
    return {"class_path": "captioner.training.gradient_log.LogGradientFlow", "init_args": {"every": every}}


def run(folder: Path, shapes: Path, *arguments: object, **trainer: Any) -> Path:
    folder.mkdir()
    assert train("--config", recipe(folder, shapes, **trainer), "--output", folder / "run", *DEEP, *arguments) == 0
    return folder / "run"


def test_the_log_has_what_the_weights_of_that_step_give(shapes: Path, tmp_path: Path) -> None:
    output = run(tmp_path / "a", shapes, max_epochs=2, callbacks=[logging(2), given("Recorder")])
    with (output / "metrics.csv").open(newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["gradient_flow/hidden2_back0"]]
    assert [int(row["step"]) for row in rows] == [0, 2, 4]
    for row in rows:
        decoder, features, tokens = Recorder.seen[int(row["step"])]
        for point in gradient_flow(decoder, features, tokens[:, :1]):
            name = f"gradient_flow/{point.state}{point.layer}_back{point.step}"
            if point.loss == "last word" and point.step in (0, 1, 2, 4):
                assert float(row[name]) == pytest.approx(point.norm, rel=1e-5)
        for matrix in recurrent_matrices(decoder):
            name = f"{matrix.layer}_{matrix.gate}"
            assert float(row[f"spectral_radius/{name}"]) == pytest.approx(matrix.spectral_radius)
            assert float(row[f"largest_singular_value/{name}"]) == pytest.approx(matrix.largest_singular_value)
    first, last = rows[0], rows[-1]
    assert first["gradient_flow/hidden1_back0"] != last["gradient_flow/hidden1_back0"]


def test_training_does_not_notice(shapes: Path, tmp_path: Path) -> None:
    """With dropout and with batch normalisations that learn: both would tell."""
    plain = run(tmp_path / "a", shapes, *SHUFFLE)
    watched = run(tmp_path / "b", shapes, *SHUFFLE, callbacks=[logging(1)])
    states = [
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for folder in (plain, watched)
    ]
    for name, value in states[0].items():
        assert torch.equal(states[1][name], value), name


def test_with_accumulated_gradients_it_is_measured_once_a_step(shapes: Path, tmp_path: Path) -> None:
    output = run(tmp_path / "a", shapes, accumulate_grad_batches=3, max_epochs=2, callbacks=[logging(1)])
    assert len(column(output, "gradient_flow/memory1_back0")) == 2


def test_an_interval_must_be_positive(shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = recipe(tmp_path, shapes, callbacks=[logging(0)])
    assert train("--config", config, "--output", tmp_path / "run") == 1
    assert capsys.readouterr().err == "captioner: LogGradientFlow.every is 0; it must be 1 or more\n"
