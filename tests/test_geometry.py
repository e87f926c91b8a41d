"""Geometry against torchvision, and what it shows."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from captioner.errors import ConfigurationError, ImageTooLarge
from captioner.geometry import Geometry

Draw = Callable[..., Image.Image]

INTERPOLATIONS = {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_squash_equals_torchvision_to_the_bit(interpolation: str, draw: Draw) -> None:
    dice = random.Random(interpolation)
    for trial in range(40):
        size = dice.randint(1, 260)
        image = draw(dice.randint(1, 500), dice.randint(1, 500), seed=trial)
        expected = v2.Resize((size, size), interpolation=INTERPOLATIONS[interpolation])(image)
        actual = Geometry(size=size, interpolation=interpolation).apply(image)
        assert (actual.size, actual.tobytes()) == (expected.size, expected.tobytes())


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_shortest_side_equals_torchvision_to_the_bit(interpolation: str, draw: Draw) -> None:
    dice = random.Random(interpolation)
    for trial in range(40):
        size = dice.randint(1, 200)
        resize_size = size + dice.choice([0, 0, 1, 2, 32, 33])
        image = draw(dice.randint(1, 400), dice.randint(1, 400), seed=trial)
        transform = v2.Compose(
            [v2.Resize(resize_size, interpolation=INTERPOLATIONS[interpolation]), v2.CenterCrop(size)]
        )
        expected = transform(image)
        geometry = Geometry(resize="shortest_side", size=size, resize_size=resize_size, interpolation=interpolation)
        actual = geometry.apply(image)
        assert (actual.size, actual.tobytes()) == (expected.size, expected.tobytes())


def test_a_picture_too_long_and_thin_is_refused() -> None:
    long = Image.new("RGB", (40_000, 2))
    assert Geometry().apply(long).size == (224, 224)
    for image in (long, long.transpose(Image.Transpose.TRANSPOSE)):
        with pytest.raises(ImageTooLarge, match="long and thin"):
            Geometry(resize="shortest_side").apply(image)


def test_fit_keeps_the_shape_and_never_enlarges(draw: Draw) -> None:
    dice = random.Random(1)
    for trial in range(60):
        width, height, size = dice.randint(1, 400), dice.randint(1, 400), dice.randint(1, 300)
        geometry = Geometry(resize="fit", size=size)
        shown = geometry.apply(draw(width, height, seed=trial))
        assert geometry.may_give(*shown.size)
        if max(width, height) <= size:
            assert shown.size == (width, height)
        else:
            assert max(shown.size) == size
            assert shown.width == pytest.approx(width * size / max(width, height), abs=1)
            assert shown.height == pytest.approx(height * size / max(width, height), abs=1)
    assert Geometry(resize="fit", size=100).apply(Image.new("RGB", (40_000, 2))).size == (100, 1)


def test_which_sizes_a_geometry_may_give() -> None:
    fit, squash = Geometry(resize="fit", size=8), Geometry(size=8)
    assert fit.may_give(8, 1)
    assert not any(fit.may_give(width, height) for width, height in [(9, 8), (8, 9), (0, 8), (8, 0)])
    assert squash.may_give(8, 8)
    assert not squash.may_give(8, 7)


@pytest.mark.parametrize("size", [(300, 200), (200, 300), (250, 250), (101, 333)])
def test_what_is_seen_is_what_is_kept(size: tuple[int, int]) -> None:
    assert Geometry(size=48).seen(*size) == (0.0, 0.0, 1.0, 1.0)
    assert Geometry(resize="fit", size=48).seen(*size) == (0.0, 0.0, 1.0, 1.0)
    # a picture whose red says how far to the right a pixel is, and whose green how far down
    across, down = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1]))
    ramp = Image.fromarray(np.stack([across, down, 0 * across], axis=2).astype(np.uint8))
    geometry = Geometry(resize="shortest_side", size=48, resize_size=64)
    kept = np.asarray(geometry.apply(ramp), dtype=float) / 255
    left, top, right, bottom = geometry.seen(*size)
    red, green = kept[..., 0], kept[..., 1]
    found = (red.min(), green.min(), red.max(), green.max())
    assert found == pytest.approx((left, top, right, bottom), abs=0.025)  # a pixel of 64, and a colour of 255


def test_geometry_travels_as_a_dictionary() -> None:
    geometry = Geometry(resize="shortest_side", size=288, resize_size=320, interpolation="bicubic")
    assert Geometry.from_dict(geometry.to_dict()) == geometry
    for values in ({}, {**geometry.to_dict(), "more": 1}):
        with pytest.raises(ConfigurationError, match="exactly"):
            Geometry.from_dict(values)


@pytest.mark.parametrize(
    "wrong",
    [
        {"resize": "stretch"},
        {"interpolation": "nearest"},
        {"size": 0},
        {"resize": "shortest_side", "size": 225},
    ],
)
def test_a_geometry_that_makes_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Geometry(**wrong)
