"""What a run writes for TensorBoard: numbers, and pictures with their captions."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captioner.training.samples import SHOWN, with_caption
from tests.training.running import column


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of tensorboard's own reader
def test_tensorboard_shows_numbers_and_pictures(finished: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = EventAccumulator(str(finished / "tensorboard"))
    log.Reload()
    for name in ("val_loss", "val_loss_shuffled", "cider", "distinct"):
        (event,) = log.Scalars(name)
        assert event.value == pytest.approx(column(finished, name)[0], rel=1e-5), name
    assert log.Tags()["images"] == [f"samples/{number}" for number in range(1, min(SHOWN, 7) + 1)]
    (event,) = log.Images("samples/1")
    assert Image.open(io.BytesIO(event.encoded_image_string)).size[0] == 256


def test_a_sample_is_the_picture_between_two_texts(tmp_path: Path) -> None:
    file = tmp_path / "red.png"
    Image.new("RGB", (100, 60), "red").save(file)
    sheet = with_caption(file, "a red wall " * 10, "A wall.")
    bare = with_caption(file, "", "")
    red = np.array([255, 0, 0])
    assert (bare[:, :100] == red).all()
    assert int((sheet == red).all(axis=2).sum()) == 100 * 60  # the texts cover nothing of it
    assert (sheet[: (sheet.shape[0] - 60) // 2] != 255).any()  # something is written above
