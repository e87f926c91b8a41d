"""Rows: the captions of a batch that still go on, where others have ended and left the step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Rows:
    """B of the K captions of each of N pictures: row b is caption `beams[b]` of picture `images[b]`.

    Attributes:
        images: (B,) int64.
        beams: (B,) int64; no two rows are the same caption.
        num_beams: K.
    """

    images: Tensor
    beams: Tensor
    num_beams: int

    @classmethod
    def all_of(cls, num_images: int, num_beams: int, device: torch.device) -> Self:
        """All captions, those of a picture one after the other."""
        images = torch.arange(num_images, device=device).repeat_interleave(num_beams)
        return cls(images, torch.arange(num_beams, device=device).repeat(num_images), num_beams)

    def only(self, places: Tensor) -> Rows:
        """The rows at `places` (B',) int64."""
        return Rows(self.images[places], self.beams[places], self.num_beams)

    def of(self, values: Tensor) -> Tensor:
        """What `values` (N, K, ...) have for these rows, (B, 1, ...)."""
        return values[self.images, self.beams].unsqueeze(1)
