"""A tiny generated data set for the tests of training."""

from __future__ import annotations

from pathlib import Path

import pytest

from captioner.datasets.shapes import ShapesOptions, write
from tests.training.running import recipe, train


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 training and 7 development pictures of coloured shapes, 64 x 64, one caption each."""
    root = tmp_path_factory.mktemp("data") / "shapes"
    write(root, ShapesOptions(train=24, dev=6, test=4))
    return root


@pytest.fixture(scope="session")
def finished(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of a run of one epoch."""
    folder = tmp_path_factory.mktemp("finished")
    assert train("--config", recipe(folder, shapes), "--output", folder / "run") == 0
    return folder / "run"
