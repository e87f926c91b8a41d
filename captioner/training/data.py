"""CaptionDataModule: the pictures (or their cached features) and the captions of each batch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytorch_lightning as lightning
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from captioner.datasets.flickr import check_root, load_split
from captioner.datasets.records import Record
from captioner.errors import ConfigurationError, DatasetError, ImageError
from captioner.evaluation import ptb
from captioner.images import read_image
from captioner.preprocessing import Augmentation, Preprocessing, TrainingTransform
from captioner.text.tokenizer import tokenize
from captioner.text.vocabulary import Vocabulary
from captioner.training.feature_cache import FeatureCache

_SIDES = frozenset({"left", "right"})  # words that a mirrored picture makes wrong


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


@dataclass(frozen=True)
class _Item:
    index: int
    picture: Tensor  # pixels (H, W, 3) or features (P, C)
    captions: list[list[int]]


class CaptionDataset(Dataset[_Item | DatasetError]):
    """The records of one split, each with all its captions as ids.

    A picture that cannot be used is an error that is returned: torch would bury one that a worker process raises in
    that process's traceback.
    """

    def __init__(
        self,
        records: Sequence[Record],
        captions: Sequence[list[list[int]]],
        may_flip: Sequence[bool],
        transform: TrainingTransform,
        features: FeatureCache | None,
    ) -> None:
        self._records = records
        self._captions = captions
        self._may_flip = may_flip
        self._transform = transform
        self._features = features

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> _Item | DatasetError:
        if self._features is not None:
            return _Item(index, self._features[index], self._captions[index])
        record = self._records[index]
        try:
            image = read_image(record.image)
        except ImageError as error:
            return DatasetError(f"picture {record.image} of the data set cannot be used: {error}")
        return _Item(index, self._transform(image, may_flip=self._may_flip[index]), self._captions[index])


class CaptionDataModule(lightning.LightningDataModule):
    """Flickr8k, Flickr30k or the toy set, in the official layout."""

    def __init__(
        self,
        root: str,
        preprocessing: Preprocessing = Preprocessing(),
        augmentation: Augmentation = Augmentation(),
        batch_size: int = 32,
        captions_per_image: int = 5,
        min_count: int = 5,
        max_words: int = 20,
        cache: str = "runs/features",
        num_workers: int = 2,
    ) -> None:
        """Take the settings of a data set.

        Args:
            root: the data set's folder.
            preprocessing: resize, crop and normalisation; a bundle given by `--init-from` brings its own.
            augmentation: how training varies pictures; none on cached features.
            batch_size: pictures a step.
            captions_per_image: at most so many captions of a picture a step, drawn anew each time if there are more
                (validation takes the first ones).
            min_count: a word must occur so often in the training captions to be in the vocabulary.
            max_words: so many words of a training caption are fed. Of a longer one, the next word is still predicted,
                but neither what follows nor its end.
            cache: the folder for the features of a frozen encoder.
            num_workers: processes that read pictures.
        """
        super().__init__()
        self.settings = {
            "batch_size": batch_size, "captions_per_image": captions_per_image, "min_count": min_count,
            "max_words": max_words,
        }  # fmt: skip
        for name, number in self.settings.items():
            if number < 1:
                raise ConfigurationError(f"data.{name} is {number}; it must be 1 or more")
        self.root = Path(root)
        check_root(self.root)
        self.preprocessing = preprocessing
        self.augmentation = augmentation
        self.batch_size = batch_size
        self.captions_per_image = captions_per_image
        self.min_count = min_count
        self.max_words = max_words
        self.cache = Path(cache)
        self.num_workers = num_workers
        self.features: dict[str, FeatureCache] = {}
        self._records: dict[str, list[Record]] = {}
        self._words: dict[str, list[list[list[str]]]] = {}

    def setup(self, stage: str | None = None) -> None:
        """Read the captions and build the vocabulary.

        Raises:
            DatasetError: a file is missing or malformed, or no word is frequent enough.
        """
        if self._records:
            return
        for split in ("train", "dev"):
            self._records[split] = load_split(self.root, split)
            self._words[split] = [[tokenize(caption) for caption in record.captions] for record in self._records[split]]
        captions = (caption for record in self._words["train"] for caption in record)
        self.vocabulary = Vocabulary.build(captions, min_count=self.min_count)
        if not self.vocabulary.ordinary:
            raise DatasetError(
                f"no word of {self.root} occurs {self.min_count} times in training; lower data.min_count"
            )

    def records(self, split: str) -> list[Record]:
        """The pictures of `split` with their captions, in order."""
        return self._records[split]

    def images(self, split: str) -> list[Path]:
        """The pictures of `split`, in order."""
        return [record.image for record in self._records[split]]

    def references(self, split: str) -> list[list[list[str]]]:
        """The words of the captions of `split`, by the scorers' tokeniser."""
        return [[ptb.tokenize(caption) for caption in record.captions] for record in self._records[split]]

    @property
    def dataset_name(self) -> str:
        """The data set's name: that of its folder, or of the folder above one that is called `raw`."""
        root = self.root.resolve() if ".." in self.root.parts else self.root.absolute()
        return root.parent.name if root.name == "raw" else root.name

    def train_dataloader(self) -> DataLoader[_Item | DatasetError]:
        """Shuffled batches of the training split."""
        return self._loader("train", shuffle=True)

    def val_dataloader(self) -> DataLoader[_Item | DatasetError]:
        """The development split in order."""
        return self._loader("dev", shuffle=False)

    def transfer_batch_to_device(self, batch: Batch | DatasetError, device: torch.device, dataloader_idx: int) -> Batch:
        """Lightning's hook, the first of ours that a batch meets in this process.

        Raises:
            DatasetError: a picture of the batch cannot be used.
        """
        if isinstance(batch, DatasetError):
            raise batch
        return batch.to(device)

    def _loader(self, split: str, *, shuffle: bool) -> DataLoader[_Item | DatasetError]:
        features = self.features.get(split)
        words = self._words[split]
        dataset = CaptionDataset(
            self._records[split],
            [[self._ids(caption, cut=split == "train") for caption in record] for record in words],
            [not any(_SIDES.intersection(caption) for caption in record) for record in words],
            TrainingTransform(self.preprocessing, self.augmentation if split == "train" else Augmentation()),
            features,
        )
        workers = 0 if features is not None else min(self.num_workers, os.cpu_count() or 1)
        return DataLoader(
            dataset,
            batch_size=self.batch_size,
            shuffle=shuffle,
            drop_last=shuffle and len(dataset) >= self.batch_size,
            num_workers=workers,
            persistent_workers=workers > 0,
            collate_fn=_Collate(self.captions_per_image, draw=split == "train"),
            pin_memory=torch.cuda.is_available(),
        )

    def _ids(self, words: Sequence[str], *, cut: bool) -> list[int]:
        ids = [Vocabulary.start, *self.vocabulary.encode(words), Vocabulary.end]
        # one id more than is fed: the last one, a word or `<end>`, is only predicted
        return ids[: self.max_words + 2] if cut else ids


@dataclass(frozen=True)
class _Collate:
    """Items to a Batch, or to the first error among them; a worker process can receive it, unlike the data module.

    `captions_per_image` of a picture's captions at most: drawn anew each time, or the first ones for a steady loss.
    """

    captions_per_image: int
    draw: bool

    def __call__(self, items: Sequence[_Item | DatasetError]) -> Batch | DatasetError:
        errors = [item for item in items if isinstance(item, DatasetError)]
        return errors[0] if errors else self._batch([item for item in items if isinstance(item, _Item)])

    def _batch(self, items: Sequence[_Item]) -> Batch:
        chosen = [self._choose(item.captions) for item in items]
        longest = max(len(caption) for captions in chosen for caption in captions)
        tokens = torch.full((len(items), max(map(len, chosen)), longest), Vocabulary.pad)  # (N, K, T + 1)
        for n, captions in enumerate(chosen):
            for k, caption in enumerate(captions):
                tokens[n, k, : len(caption)] = torch.tensor(caption)
        pictures = torch.stack([item.picture for item in items])
        from_cache = pictures.dim() == 3
        return Batch(
            indices=torch.tensor([item.index for item in items]),
            pixels=None if from_cache else pictures,
            features=pictures if from_cache else None,
            tokens=tokens,
        )

    def _choose(self, captions: list[list[int]]) -> list[list[int]]:
        if not self.draw or len(captions) <= self.captions_per_image:
            return captions[: self.captions_per_image]
        return [captions[i] for i in torch.randperm(len(captions))[: self.captions_per_image].tolist()]
