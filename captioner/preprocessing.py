"""Preprocessing: from an upright RGB picture to the numbers that a network was trained on.

It travels in the bundle. `Geometry` followed by `Preprocessing.numbers` equals torchvision's own evaluation transform
(`torchvision.transforms._presets.ImageClassification` for `shortest_side`) to the bit.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms import functional as F

from captioner.errors import ConfigurationError
from captioner.geometry import Geometry

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Resize and crop (`geometry`), then scale to 0..1 and normalise each channel by `mean` and `std`.

    Raises:
        ConfigurationError: the geometry is one for showing pictures.
    """

    geometry: Geometry = field(default_factory=Geometry)
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def __post_init__(self) -> None:
        if self.geometry.resize == "fit":
            raise ConfigurationError(
                'resize is "fit", which is for showing pictures: a model sees squares, so take "squash" or '
                '"shortest_side".'
            )

    def numbers(self, pixels: Tensor) -> Tensor:
        """The floats (N, 3, H, W) of `pixels`, uint8 (N, H, W, 3)."""
        images = F.convert_image_dtype(pixels.permute(0, 3, 1, 2), torch.float32)  # (N, 3, H, W)
        normalised: Tensor = F.normalize(images, list(self.mean), list(self.std))
        return normalised

    def __call__(self, image: Image.Image) -> Tensor:
        """The floats (3, H, W) of an upright RGB picture."""
        return self.numbers(pixels_of(self.geometry.apply(image)).unsqueeze(0))[0]

    def to_dict(self) -> dict[str, Any]:
        """For `model.json`."""
        return {"geometry": self.geometry.to_dict(), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Preprocessing:
        """What `to_dict` gave."""
        red, green, blue = (float(value) for value in values["mean"])
        std_red, std_green, std_blue = (float(value) for value in values["std"])
        return cls(
            geometry=Geometry.from_dict(values["geometry"]),
            mean=(red, green, blue),
            std=(std_red, std_green, std_blue),
        )


def pixels_of(image: Image.Image) -> Tensor:
    """The pixels, uint8 (H, W, 3), of an RGB picture."""
    return torch.from_numpy(np.array(image, dtype=np.uint8))


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How training varies a picture.

    Args:
        min_scale: a random crop keeps at least this share of the area; 1 means no crop.
        flip: mirror half of the pictures, but none whose captions say left or right.
        colour: the strength of random brightness, contrast and saturation, 0 to 1.
    """

    min_scale: float = 1.0
    flip: bool = False
    colour: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 < self.min_scale <= 1.0:
            raise ConfigurationError(f"augmentation min_scale is {self.min_scale}; it must be above 0 and at most 1")
        if not 0.0 <= self.colour <= 1.0:
            raise ConfigurationError(f"augmentation colour is {self.colour}; it must be between 0 and 1")

    @property
    def active(self) -> bool:
        """Whether it changes pictures at all."""
        return self != Augmentation()

    def to_dict(self) -> dict[str, Any]:
        """For the record of a training."""
        return asdict(self)


class TrainingTransform:
    """A random crop, a flip and a change of colour instead of the evaluation's resize; RGB picture to uint8 (H, W, 3).

    The random numbers are torch's, so that a data loader's workers draw different ones.
    """

    def __init__(self, preprocessing: Preprocessing, augmentation: Augmentation) -> None:
        geometry = preprocessing.geometry
        self.geometry = geometry
        self.augmentation = augmentation
        mode = InterpolationMode.BICUBIC if geometry.interpolation == "bicubic" else InterpolationMode.BILINEAR
        self.crop = v2.RandomResizedCrop(
            geometry.size, scale=(augmentation.min_scale, 1.0), ratio=(0.85, 1 / 0.85), interpolation=mode
        )
        strength = augmentation.colour
        self.colour = v2.ColorJitter(brightness=strength, contrast=strength, saturation=strength)

    def __call__(self, image: Image.Image, *, may_flip: bool) -> Tensor:
        """Vary `image`; `may_flip` is false where a caption says left or right."""
        if self.augmentation.min_scale < 1.0:
            image = self.crop(image)
        else:
            image = self.geometry.apply(image)
        if self.augmentation.flip and may_flip and torch.rand(()) < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if self.augmentation.colour > 0.0:
            image = self.colour(image)
        return pixels_of(image)
