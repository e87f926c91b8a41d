"""Batch: pictures with their captions in a few tensors, and how it is made of single pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from captioner.errors import DatasetError
from captioner.text.vocabulary import Vocabulary


@dataclass(frozen=True)
class Item:
    """One picture of a batch.

    Attributes:
        index: its place in the split.
        picture: pixels (H, W, 3) uint8, or cached features (P, C).
        captions: each (length,) int32: `<start>`, words, `<end>`.
    """

    index: int
    picture: Tensor
    captions: list[Tensor]


@dataclass(frozen=True)
class Batch:
    """N pictures with K captions each.

    Attributes:
        indices: (N,) int64, the pictures' places in the split.
        pixels: (N, H, W, 3) uint8, or None where features are given.
        features: (N, P, C), the cached grid, or None.
        tokens: (N, K, T + 1) int64: `<start>`, words, `<end>`, then `<pad>`; a missing caption is all `<pad>`.
    """

    indices: Tensor
    pixels: Tensor | None
    features: Tensor | None
    tokens: Tensor

    @classmethod
    def of(cls, items: Sequence[Item]) -> Batch:
        """The batch of N items, at least one."""
        longest = max(len(caption) for item in items for caption in item.captions)
        most = max(len(item.captions) for item in items)
        tokens = torch.full((len(items), most, longest), Vocabulary.pad)  # (N, K, T + 1)
        for n, item in enumerate(items):
            for k, caption in enumerate(item.captions):
                tokens[n, k, : len(caption)] = caption
        pictures = torch.stack([item.picture for item in items])  # (N, H, W, 3) or (N, P, C)
        from_cache = pictures.dim() == 3
        return cls(
            indices=torch.tensor([item.index for item in items]),
            pixels=None if from_cache else pictures,
            features=pictures if from_cache else None,
            tokens=tokens,
        )

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`."""
        return replace(
            self,
            indices=self.indices.to(device),
            pixels=None if self.pixels is None else self.pixels.to(device, non_blocking=True),
            features=None if self.features is None else self.features.to(device, non_blocking=True),
            tokens=self.tokens.to(device, non_blocking=True),
        )

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory, from which a GPU copies quicker."""
        return replace(
            self,
            pixels=None if self.pixels is None else self.pixels.pin_memory(),
            features=None if self.features is None else self.features.pin_memory(),
            tokens=self.tokens.pin_memory(),
        )


def collate(items: Sequence[Item | DatasetError]) -> Batch | DatasetError:
    """Items to a batch, or to the first error among them."""
    errors = [item for item in items if isinstance(item, DatasetError)]
    return errors[0] if errors else Batch.of([item for item in items if isinstance(item, Item)])
