"""The curves of a run: what is drawn, seen by the pixels of each curve's colour."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captioner.pictures.curves import draw_curves

BLUE, ORANGE, GREEN = (31, 119, 180), (255, 127, 14), (44, 160, 44)  # matplotlib's first three colours


def drawn(file: Path, colour: tuple[int, int, int], half: int) -> bool:
    """Whether a line of `colour` is in the left (0) or right (1) half of the picture."""
    pixels = np.asarray(Image.open(file).convert("RGB")).astype(int)
    middle = pixels.shape[1] // 2
    part = pixels[:, middle:] if half else pixels[:, :middle]
    return bool((np.abs(part - np.array(colour)).sum(axis=2) < 12).sum() > 100)


@pytest.mark.parametrize("rewarded", [False, True])
def test_a_loss_that_is_no_cross_entropy_is_not_drawn_as_one(tmp_path: Path, rewarded: bool) -> None:
    log = tmp_path / "metrics.csv"
    name, value = ("reward_epoch", "0.7") if rewarded else ("clipped_share", "0.1")
    log.write_text(
        f"epoch,train_loss_epoch,val_loss,val_loss_shuffled,cider,bleu4,{name}\n"
        f"0,,3.0,4.0,50.0,20.0,\n0,2.5,,,,,{value}\n1,,2.8,4.1,52.0,21.0,\n1,2.2,,,,,{value}\n"
    )
    draw_curves([log], tmp_path / "curves.png")
    # training, development and wrong pictures: without the first, the third colour is not needed
    assert [drawn(tmp_path / "curves.png", colour, 0) for colour in (BLUE, ORANGE, GREEN)] == [True, True, not rewarded]
    assert [drawn(tmp_path / "curves.png", colour, 1) for colour in (BLUE, ORANGE, GREEN)] == [True, True, rewarded]
