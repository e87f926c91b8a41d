"""train_loss_epoch is the mean over the steps that were taken."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tests.training.gradient_callbacks import given
from tests.training.running import column, recipe, train


@pytest.mark.parametrize("where", ["gradients", "features"])
def test_a_step_that_is_skipped_is_not_in_the_mean(where: str, shapes: Path, tmp_path: Path) -> None:
    config = recipe(tmp_path, shapes, callbacks=[given("Harm", first=1, where=where)])
    assert train("--config", config, "--output", tmp_path / "run") == 0
    first, skipped, last = column(tmp_path / "run", "train_loss_step")  # of 8 pictures each
    assert math.isfinite(skipped) == (where == "gradients")
    assert column(tmp_path / "run", "train_loss_epoch") == pytest.approx([(first + last) / 2])


def test_nor_are_the_batches_that_were_accumulated_for_it(shapes: Path, tmp_path: Path) -> None:
    config = recipe(tmp_path, shapes, callbacks=[given("Harm", first=0, where="gradients")], accumulate_grad_batches=2)
    assert train("--config", config, "--output", tmp_path / "run") == 0
    *_, last = column(tmp_path / "run", "train_loss_step")
    assert column(tmp_path / "run", "skipped_steps") == [1.0]
    assert column(tmp_path / "run", "train_loss_epoch") == pytest.approx([last])
