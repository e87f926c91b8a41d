"""Preprocessing equals torchvision's own evaluation transforms to the bit; training's transform keeps its promises."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms._presets import ImageClassification

from captioner.errors import ConfigurationError
from captioner.geometry import Geometry
from captioner.preprocessing import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Augmentation,
    Preprocessing,
    TrainingTransform,
    pixels_of,
)
from tests.conftest import Draw

SIZES = [(160, 120), (120, 160), (97, 203), (64, 64), (31, 500), (300, 301)]
MODES = {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_shortest_side_is_torchvisions_preset(width: int, height: int, interpolation: str, draw: Draw) -> None:
    image = draw(width, height, seed=width)
    geometry = Geometry(resize="shortest_side", size=56, resize_size=64, interpolation=interpolation)
    theirs = ImageClassification(crop_size=56, resize_size=64, interpolation=MODES[interpolation])
    ours = Preprocessing(geometry=geometry)(image)
    assert ours.shape == (3, 56, 56)
    assert torch.equal(ours, theirs(image))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("width", "height"), SIZES)
def test_squash_is_torchvisions_resize(width: int, height: int, interpolation: str, draw: Draw) -> None:
    image = draw(width, height, seed=height)
    pixels = v2.PILToTensor()(v2.Resize((48, 48), interpolation=MODES[interpolation], antialias=True)(image))
    theirs = transforms.Normalize(IMAGENET_MEAN, IMAGENET_STD)(transforms.ConvertImageDtype(torch.float32)(pixels))
    ours = Preprocessing(geometry=Geometry(size=48, interpolation=interpolation))(image)
    assert torch.equal(ours, theirs)
    # transforms.v2 multiplies by 1 / 255 where the presets divide by 255: the last bit may differ
    numbers = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(IMAGENET_MEAN, IMAGENET_STD)])
    torch.testing.assert_close(ours, numbers(pixels), atol=1e-6, rtol=0)


def test_a_batch_is_its_pictures_one_by_one(draw: Draw) -> None:
    preprocessing = Preprocessing(geometry=Geometry(size=32), mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    pictures = [preprocessing.geometry.apply(draw(seed=seed)) for seed in range(3)]
    batch = preprocessing.numbers(torch.stack([pixels_of(picture) for picture in pictures]))
    assert batch.dtype == torch.float32
    assert torch.equal(batch, torch.stack([preprocessing(picture) for picture in pictures]))
    red = float(np.asarray(pictures[2])[5, 7, 0])
    assert float(batch[2, 0, 5, 7]) == pytest.approx((red / 255 - 0.1) / 0.5, abs=1e-6)


def test_numbers_do_not_change_the_pixels(draw: Draw) -> None:
    pixels = pixels_of(draw(32, 32)).unsqueeze(0)
    before = pixels.clone()
    Preprocessing().numbers(pixels)
    assert torch.equal(pixels, before)


def test_it_travels_as_json() -> None:
    preprocessing = Preprocessing(geometry=Geometry(size=64, interpolation="bicubic"), mean=(0.1, 0.2, 0.3))
    assert Preprocessing.from_dict(json.loads(json.dumps(preprocessing.to_dict()))) == preprocessing


# --- training


def trained(image: Image.Image, *, may_flip: bool = True, **options: Any) -> Tensor:
    preprocessing = Preprocessing(geometry=Geometry(size=40))
    return TrainingTransform(preprocessing, Augmentation(**options))(image, may_flip=may_flip)


def test_without_augmentation_training_sees_what_evaluation_sees(draw: Draw) -> None:
    image = draw()
    assert torch.equal(trained(image), pixels_of(Geometry(size=40).apply(image)))
    assert not Augmentation().active
    assert Augmentation(flip=True).active


@pytest.mark.parametrize(
    "options", [{"min_scale": 0.3}, {"flip": True}, {"colour": 0.4}, {"min_scale": 0.8, "flip": True, "colour": 0.2}]
)
@pytest.mark.parametrize(("width", "height"), [(160, 120), (40, 300), (20, 20)])
def test_pixels_come_out_in_the_models_size(options: dict[str, Any], width: int, height: int, draw: Draw) -> None:
    pixels = trained(draw(width, height), **options)
    assert pixels.shape == (40, 40, 3)
    assert pixels.dtype == torch.uint8


def test_flips_happen_half_of_the_time_and_never_where_they_may_not(draw: Draw) -> None:
    image = draw()
    plain = trained(image)
    mirrored = plain.flip(1)
    assert not torch.equal(plain, mirrored)
    torch.manual_seed(0)
    results = [trained(image, flip=True) for _ in range(60)]
    assert all(torch.equal(result, plain) or torch.equal(result, mirrored) for result in results)
    assert 15 <= sum(torch.equal(result, mirrored) for result in results) <= 45
    assert all(torch.equal(trained(image, flip=True, may_flip=False), plain) for _ in range(60))


def test_the_random_numbers_are_torchs(draw: Draw) -> None:
    image = draw()
    options: dict[str, Any] = {"min_scale": 0.5, "flip": True, "colour": 0.3}
    results = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        results.append(trained(image, **options))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


@pytest.mark.parametrize(
    ("option", "value"), [("min_scale", 0.0), ("min_scale", 1.5), ("colour", -0.1), ("colour", 2.0)]
)
def test_an_augmentation_that_cannot_be_is_named(option: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=option):
        Augmentation(**{option: value})


def test_an_augmentation_is_recorded() -> None:
    assert Augmentation(flip=True).to_dict() == {"min_scale": 1.0, "flip": True, "colour": 0.0}


def test_a_geometry_for_showing_is_refused() -> None:
    with pytest.raises(ConfigurationError, match='resize is "fit", which is for showing pictures'):
        Preprocessing(geometry=Geometry(resize="fit"))
