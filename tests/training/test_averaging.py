"""The average of the best checkpoints becomes the bundle only if it is better."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from captioner.bundle import load_bundle
from captioner.training.averaging import average_of
from tests.training.running import column, recipe, train


def test_an_average_is_the_mean_of_each_number(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.ckpt" for number in range(3)]
    for number, file in enumerate(files):
        state = {
            "weight": torch.full((2, 2), 10.0**number),
            "half": torch.full((2,), number).half(),
            "steps": torch.tensor(number),
        }
        torch.save({"state_dict": state}, file)
    average = average_of(files)
    assert torch.equal(average["weight"], torch.full((2, 2), 37.0))
    assert torch.equal(average["half"], torch.ones(2).half())
    assert int(average["steps"]) == 0  # no number to average: that of the first


def test_the_bundle_is_the_average_or_the_best(
    shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "run"
    settings = ["--checkpoints.keep=3", "--trainer.max_epochs=4", "--model.learning_rate=2e-2"]
    assert train("--config", recipe(tmp_path, shapes), "--output", output, *settings) == 0
    found = re.search(
        r"the average of the 3 best checkpoints has CIDEr-D ([0-9.]+) on dev, the best of them ([0-9.]+): "
        r"the bundle is (the average|the best of them)",
        capsys.readouterr().err,
    )
    assert found is not None
    average, best = float(found[1]), float(found[2])
    assert best == pytest.approx(max(column(output, "cider")), abs=0.01)
    kept = sorted((output / "checkpoints").glob("kept-*.ckpt"))
    assert len(kept) == 3
    better = found[3] == "the average"
    assert better == (average > best) or average == best
    if better:
        state = average_of(kept)
    else:
        state = torch.load(output / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    bundle = load_bundle(output / "bundle")
    for name, value in bundle.model.state_dict().items():
        torch.testing.assert_close(value, state[f"model.{name}"], atol=1e-3, rtol=1e-3)
    (phase,) = bundle.training["phases"]
    assert phase["dev_cider"] == pytest.approx(max(average, best), abs=0.01)
    assert phase.get("averaged_checkpoints", 0) == (3 if better else 0)
