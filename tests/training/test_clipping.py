"""Clipping and skipped steps, seen through `captioner train` and compared with gradients that are computed again."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

from captioner.bundle import load_bundle
from captioner.training.clipping import MOST_SKIPPED_IN_A_ROW
from tests.training.gradient_callbacks import Recorder, given
from tests.training.running import column, recipe, train

LONG_EPOCH = "--data.batch_size=1"  # 24 steps: more than a run may skip
EXACT = ["--trainer.precision=32-true", "--model.decoder.dropout=0"]
SHUFFLE = ["--model.encoder.name=shufflenet_v2_x0_5", "--model.encoder.cut=stage2"]  # it has batch normalisations


def run(shapes: Path, tmp_path: Path, *arguments: object, **trainer: Any) -> int:
    config = recipe(tmp_path, shapes, **{"callbacks": [given("Recorder")], **trainer})
    return train("--config", config, "--output", tmp_path / "run", *EXACT, *arguments)


def limit_between(shapes: Path, tmp_path: Path) -> float:
    """A limit that clips some steps of two epochs and leaves others."""
    assert run(shapes, tmp_path / "unclipped", "--trainer.gradient_clip_val=0", max_epochs=2) == 0
    norms = sorted(float(gradient.norm()) for gradient in Recorder.gradients)
    return (norms[2] + norms[3]) / 2


def test_the_norms_in_the_log_are_those_of_the_gradients(shapes: Path, tmp_path: Path) -> None:
    (tmp_path / "unclipped").mkdir()
    limit = limit_between(shapes, tmp_path)
    assert column(tmp_path / "unclipped" / "run", "clipped_share") == [0.0, 0.0]
    assert run(shapes, tmp_path, f"--trainer.gradient_clip_val={limit}", max_epochs=2) == 0
    output = tmp_path / "run"
    before = [float(gradient.norm()) for gradient in Recorder.gradients]
    assert len(before) == 6
    assert column(output, "gradient_norm") == pytest.approx(before, rel=1e-4)
    after = [min(norm, limit) for norm in before]
    assert column(output, "gradient_norm_clipped") == pytest.approx(after, rel=1e-4)
    for gradient, taken, norm in zip(Recorder.gradients, Recorder.taken, before, strict=True):
        torch.testing.assert_close(taken, gradient * min(1.0, limit / norm), atol=1e-5, rtol=1e-3)
    shares = [sum(norm > limit for norm in epoch) / 3 for epoch in (before[:3], before[3:])]
    assert 0 < sum(shares) < 2
    assert column(output, "clipped_share") == pytest.approx(shares)
    assert column(output, "skipped_steps") == [0.0, 0.0]


def test_by_value_each_number_is_clipped(shapes: Path, tmp_path: Path) -> None:
    limit = 0.01
    settings = [f"--trainer.gradient_clip_val={limit}", "--trainer.gradient_clip_algorithm=value"]
    assert run(shapes, tmp_path, *settings) == 0
    before = [float(gradient.norm()) for gradient in Recorder.gradients]
    after = [float(gradient.clamp(-limit, limit).norm()) for gradient in Recorder.gradients]
    assert all(small < large for small, large in zip(after, before, strict=True))
    assert column(tmp_path / "run", "gradient_norm") == pytest.approx(before, rel=1e-4)
    assert column(tmp_path / "run", "gradient_norm_clipped") == pytest.approx(after, rel=1e-3)
    assert column(tmp_path / "run", "clipped_share") == [1.0]


def test_in_float16_the_norms_are_those_without_the_scale_of_the_loss(shapes: Path, tmp_path: Path) -> None:
    # Lightning's own name for it, 16-mixed, is refused without a GPU; what stands behind it is not.
    half = {
        "class_path": "pytorch_lightning.plugins.MixedPrecision",
        "init_args": {"precision": "16-mixed", "device": "cpu"},
    }
    config = recipe(tmp_path, shapes, callbacks=[given("Recorder")], plugins=[half], gradient_clip_val=0.5)
    assert train("--config", config, "--output", tmp_path / "run", "--model.decoder.dropout=0") == 0
    before = [float(gradient.norm()) for gradient in Recorder.gradients]
    logged = column(tmp_path / "run", "gradient_norm")
    assert logged == pytest.approx(before, rel=0.03)
    assert column(tmp_path / "run", "gradient_norm_clipped") == pytest.approx([min(n, 0.5) for n in logged], rel=1e-4)
    state = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["MixedPrecision"]["scale"] == 2.0**16


@pytest.mark.parametrize("where", ["gradients", "features"])
def test_a_step_that_is_not_finite_changes_nothing_and_the_run_goes_on(
    where: str, shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    average = {"class_path": "pytorch_lightning.callbacks.EMAWeightAveraging", "init_args": {"decay": 0.9}}
    callbacks = [given("Harm", first=1, where=where), average, given("Recorder")]
    assert run(shapes, tmp_path, *SHUFFLE, callbacks=callbacks, max_epochs=2) == 0
    weights, moments, rates = Recorder.weights, Recorder.moments, Recorder.rates
    for kept in (weights, moments):
        changed = [not torch.equal(earlier, later) for earlier, later in itertools.pairwise(kept)]
        assert changed[-5:] == [False, True, True, True, True]  # after the first step
    assert len(rates) == len(set(rates)) == 6  # the learning rate went on along its curve
    assert all(bool(kept.isfinite().all()) for kept in weights)
    state = load_bundle(tmp_path / "run" / "bundle").model.state_dict()  # the average of the weights
    assert all(bool(value.isfinite().all()) for value in state.values())
    assert column(tmp_path / "run", "skipped_steps") == [1.0, 0.0]
    assert column(tmp_path / "run", "gradient_norm_clipped")[1] == 0.0
    message = capsys.readouterr().err
    assert "step 2 is skipped: its gradients are not finite" in message
    assert "epoch 1: 1 steps were skipped" in message
    assert "epoch 2:" not in message


def test_a_run_that_only_skips_ends_with_a_sentence(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    callbacks = [given("Harm", first=1, steps=MOST_SKIPPED_IN_A_ROW), given("Recorder")]
    assert run(shapes, tmp_path, LONG_EPOCH, callbacks=callbacks) == 1
    assert len(Recorder.weights) == 1 + MOST_SKIPPED_IN_A_ROW
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith(f"captioner: the gradients of {MOST_SKIPPED_IN_A_ROW} steps in a row were not finite")
    assert "model.learning_rate" in line


def test_one_less_is_survived(shapes: Path, tmp_path: Path) -> None:
    callbacks = [given("Harm", first=1, steps=MOST_SKIPPED_IN_A_ROW - 1), given("Recorder")]
    assert run(shapes, tmp_path, LONG_EPOCH, callbacks=callbacks) == 0
    assert sum(column(tmp_path / "run", "skipped_steps")) == MOST_SKIPPED_IN_A_ROW - 1


def test_accumulated_gradients_are_measured_once_a_step(shapes: Path, tmp_path: Path) -> None:
    settings = ["--trainer.accumulate_grad_batches=3", "--trainer.gradient_clip_val=0"]
    assert run(shapes, tmp_path, *settings) == 0
    assert len(Recorder.gradients) == 3
    together = torch.stack(Recorder.gradients).mean(dim=0)  # no step was taken between the three
    assert column(tmp_path / "run", "gradient_norm") == pytest.approx([float(together.norm())], rel=1e-4)
