"""A data set of three pictures, and what the tests of data look at."""

from __future__ import annotations

from pathlib import Path

import torch

from captioner.geometry import Geometry
from captioner.preprocessing import Augmentation, Preprocessing
from captioner.text.vocabulary import Vocabulary
from captioner.training.batch import Batch
from captioner.training.data import CaptionDataModule
from tests.conftest import Draw

CAPTIONS = {
    "a.png": ["A dog runs .", "The dog sits on the left !"],
    "b.png": ["A cat .", "A cat sits .", "Two cats and a dog"],
    "c.png": ["A zebra runs ."],
}


def toy_set(root: Path, draw: Draw) -> Path:
    """Three pictures with their captions in `root`: a.png and b.png of train, c.png of dev."""
    (root / "Images").mkdir(parents=True)
    lines = []
    for seed, (name, captions) in enumerate(CAPTIONS.items()):
        draw(60, 40, seed=seed).save(root / "Images" / name)
        lines += [f"{name}#{number}\t{caption}\n" for number, caption in enumerate(captions)]
    (root / "toy.token.txt").write_text("".join(lines))
    (root / "toy.trainImages.txt").write_text("a.png\nb.png\n")
    (root / "toy.devImages.txt").write_text("c.png\n")
    return root


def make(
    root: Path, *, captions_per_image: int = 5, max_words: int = 20, num_workers: int = 0, min_count: int = 1,
    augmentation: Augmentation = Augmentation(), strict: bool = False,
) -> CaptionDataModule:  # fmt: skip
    data = CaptionDataModule(
        str(root),
        Preprocessing(geometry=Geometry(size=24)),
        augmentation,
        batch_size=2,
        captions_per_image=captions_per_image,
        min_count=min_count,
        max_words=max_words,
        num_workers=num_workers,
        cache=str(root.parent / "cache"),
        strict=strict,
    )
    data.setup()
    return data


def first(loader: object) -> Batch:
    assert isinstance(loader, torch.utils.data.DataLoader)
    batch = next(iter(loader))
    assert isinstance(batch, Batch)
    return batch


def by_picture(batch: Batch) -> dict[int, list[list[int]]]:
    """The rows of each picture without padding; a row of padding only is no caption."""
    rows = {int(index): tokens.tolist() for index, tokens in zip(batch.indices, batch.tokens, strict=True)}
    return {
        index: [[token for token in row if token != Vocabulary.pad] for row in found if any(row)]
        for index, found in rows.items()
    }
