"""model.compiled: other code, the same loss."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.training.running import column, recipe, run_process, train


@pytest.fixture
def even(shapes: Path, tmp_path: Path) -> Path:
    """The toy set with captions of four words: what has one length is compiled once. Its splits are of two sizes."""
    root = tmp_path / "even"
    shutil.copytree(shapes, root)
    (file,) = root.glob("*.token.txt")
    lines = [line.split("\t") for line in file.read_text(encoding="utf-8").splitlines()]
    file.write_text("".join(f"{key}\t{' '.join(caption.split()[:4])}\n" for key, caption in lines), encoding="utf-8")
    return root


@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="needs a C++ compiler")
def test_a_compiled_network_has_the_same_losses(finished: Path, even: Path, tmp_path: Path) -> None:
    plain, compiled = tmp_path / "plain", tmp_path / "compiled"
    config = recipe(tmp_path, even)
    exact = ["--trainer.precision=32-true", "--model.decoder.dropout=0.0", "--init-from", finished / "bundle"]
    given = ["--config", config, *exact, "--model.train_encoder_from=null"]
    assert train(*given, "--output", plain) == 0
    ended = run_process(*given, "--output", compiled, "--model.compiled=true")
    assert ended.returncode == 0, ended.stderr
    for name in ("train_loss_step", "val_loss", "val_loss_shuffled"):
        assert column(compiled, name) == pytest.approx(column(plain, name), abs=1e-4), name
    weights = [json.loads((output / "bundle" / "model.json").read_text())["model"] for output in (plain, compiled)]
    assert weights[0] == weights[1]
