"""Geometry: how a picture is resized and cropped, for a model or for showing; Pillow only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from PIL import Image

from captioner.errors import ConfigurationError, ImageTooLarge

Box = tuple[float, float, float, float]  # a part of a picture: left, top, right, bottom as fractions of its sides

# A resized picture that is larger than this is cropped to almost nothing: one that long and thin is refused.
_MAX_RESIZED_PIXELS = 50_000_000
_INTERPOLATIONS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """How a picture becomes the square that the model sees (torchvision's transforms.v2 to the bit), or is shown.

    Args:
        resize: "squash": to exactly size x size, whatever the shape (`Resize((size, size))`);
            "shortest_side": the shorter side to resize_size, then the centre (`Resize(resize_size), CenterCrop(size)`);
            "fit": for showing, not for a model: the longer side to at most size, the shape kept, never enlarged.
        size: the side of the square that comes out, or the longest side of a picture that is shown, in pixels.
        resize_size: the shorter side before the crop, in pixels, at least size; only "shortest_side" uses it.
        interpolation: "bilinear" or "bicubic", with antialiasing.

    Raises:
        ConfigurationError: an unknown name, or sizes that contradict each other.
    """

    resize: str = "squash"
    size: int = 224
    resize_size: int = 224
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        if self.resize not in ("squash", "shortest_side", "fit"):
            raise ConfigurationError(f'resize must be "squash", "shortest_side" or "fit", not {self.resize!r}.')
        if self.interpolation not in _INTERPOLATIONS:
            raise ConfigurationError(f'interpolation must be "bilinear" or "bicubic", not {self.interpolation!r}.')
        if self.size < 1:
            raise ConfigurationError(f"size must be at least 1, not {self.size}.")
        if self.resize == "shortest_side" and self.resize_size < self.size:
            raise ConfigurationError(f"resize_size must be at least size, {self.size}, not {self.resize_size}.")

    def apply(self, image: Image.Image) -> Image.Image:
        """An RGB picture of any shape to RGB (size, size), or with "fit" to its own shape within that.

        Raises:
            ImageTooLarge: the picture is so long and thin that resizing its shorter side makes it enormous.
        """
        resample = _INTERPOLATIONS[self.interpolation]
        if self.resize == "squash":
            return image.resize((self.size, self.size), resample=resample)
        if self.resize == "fit":
            return image.resize(self._fitted(image.width, image.height), resample=resample)
        width, height = self._resized(image.width, image.height)
        resized = image.resize((width, height), resample=resample)
        left, top = self._corner(width, height)
        return resized.crop((left, top, left + self.size, top + self.size))

    def may_give(self, width: int, height: int) -> bool:
        """Whether `apply` can return a picture of this size, given the right one."""
        if self.resize == "fit":
            return 1 <= width <= self.size and 1 <= height <= self.size
        return width == height == self.size

    def seen(self, width: int, height: int) -> Box:
        """The part of an upright picture of this size that `apply` keeps; only its shape matters, save for rounding."""
        if self.resize != "shortest_side":
            return (0.0, 0.0, 1.0, 1.0)
        new_width, new_height = self._resized(width, height)
        left, top = self._corner(new_width, new_height)
        return (
            left / new_width,
            top / new_height,
            (left + self.size) / new_width,
            (top + self.size) / new_height,
        )

    def _corner(self, width: int, height: int) -> tuple[int, int]:
        """Left and top of the centre of a resized picture; torchvision's own rounding, halves to even."""
        return round((width - self.size) / 2.0), round((height - self.size) / 2.0)

    def _fitted(self, width: int, height: int) -> tuple[int, int]:
        """Width and height once the longer side is at most size, to the nearest pixel and at least one."""
        scale = min(1.0, self.size / max(width, height))
        return max(1, round(width * scale)), max(1, round(height * scale))

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        """Width and height once the shorter side is resize_size; the longer one is cut to whole pixels."""
        short, long = min(width, height), max(width, height)
        new_long = int(self.resize_size * long / short)
        if self.resize_size * new_long > _MAX_RESIZED_PIXELS:
            raise ImageTooLarge(f"A picture of {width} x {height} pixels is too long and thin: crop it.")
        return (self.resize_size, new_long) if width <= height else (new_long, self.resize_size)

    def to_dict(self) -> dict[str, Any]:
        """The values by name, as JSON holds them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Geometry:
        """The reverse of `to_dict`.

        Raises:
            ConfigurationError: a name is missing or unknown, or a value is not allowed.
        """
        names = {field.name for field in fields(cls)}
        if set(values) != names:
            raise ConfigurationError(f"A geometry has exactly {sorted(names)}, not {sorted(values)}.")
        return cls(**values)
