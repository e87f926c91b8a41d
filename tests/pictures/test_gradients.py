"""Pictures of the gradient flow: a curve falls where norms vanish, rises where they explode, and is nowhere else."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from captioner.pictures.gradients import draw_gradients

FIRST, SECOND = (31, 119, 180), (255, 127, 14)  # matplotlib's first two colours
POINTS = "model,cell,layers,radius,loss,state,layer,step,norm,captions"
MATRICES = "model,cell,layers,radius,layer,gate,spectral_radius,largest_singular_value"
STEPS = 12

Pixels = npt.NDArray[np.uint8]


def curve(model: str, factor: float, *, radius: str = "", layer: int = 1, loss: str = "last word") -> list[str]:
    return [f"{model},rnn,{layer},{radius},{loss},hidden,{layer},{step},{factor**step!r},9" for step in range(STEPS)]


def drawn(folder: Path, points: list[str], matrices: list[str] | None = None) -> dict[str, Pixels]:
    (folder / "gradients.csv").write_text("\n".join([POINTS, *points]) + "\n")
    (folder / "matrices.csv").write_text("\n".join([MATRICES, *(matrices or ["fresh,rnn,1,,1,hidden,0.6,1.2"])]) + "\n")
    return {file.name: np.asarray(Image.open(file).convert("RGB")) for file in draw_gradients(folder)}


def rows_of(picture: Pixels, colour: tuple[int, int, int]) -> list[float]:
    """How far down the mark of `colour` is, for each column of pixels that has one, from left to right."""
    alike = (np.abs(picture.astype(int) - colour).sum(axis=2) < 30)[: int(0.8 * len(picture))]  # the legend is below
    return [float(np.flatnonzero(column).mean()) for column in alike.T if column.any()]


@pytest.mark.parametrize(("factor", "direction"), [(0.5, 1), (1.5, -1)])
def test_the_curve_goes_where_the_norms_go(factor: float, direction: int, tmp_path: Path) -> None:
    rows = rows_of(drawn(tmp_path, curve("fresh", factor))["last_word.png"], FIRST)
    assert len(rows) > 100
    assert direction * (rows[-1] - rows[0]) > 50  # pixels, downwards
    middle = (rows[0] + rows[-1]) / 2
    assert rows[len(rows) // 2] == pytest.approx(middle, abs=3)  # a straight line: the axis has powers of ten


def test_each_picture_has_its_own_curves(tmp_path: Path) -> None:
    only_last = drawn(tmp_path, curve("fresh", 0.5))
    assert not rows_of(only_last["sentence.png"], FIRST)
    assert set(only_last) == {"last_word.png", "sentence.png", "matrices.png"}
    both = drawn(tmp_path, [*curve("fresh", 0.5), *curve("fresh", 0.9, loss="sentence")])
    assert rows_of(both["sentence.png"], FIRST)
    assert np.array_equal(only_last["last_word.png"], both["last_word.png"])
    scaled = drawn(
        tmp_path, [*curve("fresh", 0.5), *curve("fresh", 0.5, radius="0.5"), *curve("fresh", 1.4, radius="1.5")]
    )
    assert set(scaled) == {*only_last, "radius.png"}
    assert np.array_equal(only_last["last_word.png"], scaled["last_word.png"])
    falling, rising = rows_of(scaled["radius.png"], FIRST), rows_of(scaled["radius.png"], SECOND)
    assert falling[-1] > falling[0]
    assert rising[-1] < rising[0]


def test_every_model_has_a_panel(tmp_path: Path) -> None:
    for count in (1, 2, 3):
        points = [line for number in range(count) for line in curve(f"model{number}@1", 0.5)]
        picture = drawn(tmp_path, points)["last_word.png"][:-60].astype(int)  # without the legend
        columns = np.flatnonzero((np.abs(picture - FIRST).sum(axis=2) < 30).any(axis=0))
        assert 1 + int((np.diff(columns) > 20).sum()) == count


def test_cells_stand_beside_and_depths_below_each_other(tmp_path: Path) -> None:
    points = [
        line.replace(",rnn,", f",{cell},") for cell in ("rnn", "lstm") for layer in (1, 2) for line in
        curve("fresh", 0.5, layer=layer)
    ]  # fmt: skip
    table = drawn(tmp_path, points)["last_word.png"]
    tower = drawn(tmp_path, [line for line in points if ",rnn," in line])["last_word.png"]
    assert table.shape[0] > 1.5 * tower.shape[0]  # two lines; a single cell has its depths side by side


@pytest.mark.parametrize("bad", [0.0, math.inf, math.nan])
def test_a_norm_that_no_axis_can_show_is_left_out(bad: float, tmp_path: Path) -> None:
    points = curve("fresh", 0.5)
    points[-1] = f"fresh,rnn,1,,last word,hidden,1,{STEPS - 1},{bad},9"
    rows = rows_of(drawn(tmp_path, points)["last_word.png"], FIRST)
    assert rows[-1] > rows[0]


def test_the_marks_of_a_matrix_stand_where_its_figures_are(tmp_path: Path) -> None:
    def heights(radius: float, largest: float) -> tuple[float, float]:
        picture = drawn(tmp_path, curve("fresh", 0.5), [f"fresh,rnn,1,,1,hidden,{radius},{largest}"])["matrices.png"]
        alike = (np.abs(picture.astype(int) - FIRST).sum(axis=2) < 30)[: int(0.8 * len(picture))]
        rows = np.flatnonzero(alike.any(axis=1))
        return float(rows[0]), float(rows[-1])

    top, bottom = heights(0.5, 2.0)
    assert bottom - top > 50
    same = heights(1.0, 1.0)
    assert same[1] - same[0] < 20  # one on top of the other
