"""CaptionDataModule: the pictures (or their cached features) and the captions of each batch."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from pathlib import Path

import click
import pytorch_lightning as lightning
import torch

from captioner.datasets.checks import Findings, check_pictures, usable, write_left_out
from captioner.datasets.kinds import Kind, check_path, load_data_set
from captioner.datasets.records import DataSet, LeftOut, Record, told_of
from captioner.errors import ConfigurationError, DatasetError
from captioner.evaluation import ptb
from captioner.preprocessing import Augmentation, Preprocessing, TrainingTransform
from captioner.text.vocabulary import Vocabulary
from captioner.training.batch import Batch, Item, collate
from captioner.training.caption_cache import numbered_captions
from captioner.training.caption_dataset import CaptionDataset
from captioner.training.caption_index import CaptionIndex, NumberedCaptions
from captioner.training.feature_cache import FeatureCache
from captioner.training.sampler import EpochBatches, ResumableLoader

_SIDES = frozenset({"left", "right"})  # words that a mirrored picture makes wrong


class CaptionDataModule(lightning.LightningDataModule):
    """Pictures and captions of any kind of data set that captioner/datasets/kinds.py knows."""

    def __init__(
        self,
        path: str,
        preprocessing: Preprocessing = Preprocessing(),
        augmentation: Augmentation = Augmentation(),
        batch_size: int = 32,
        captions_per_image: int = 5,
        min_count: int = 5,
        max_words: int = 20,
        cache: str = "runs/features",
        num_workers: int = 2,
        kind: Kind = "auto",
        strict: bool = False,
        bucketing: bool = False,
    ) -> None:
        """Take the settings of a data set.

        Args:
            path: the data set: its folder, or the file with its captions.
            preprocessing: resize, crop and normalisation; a bundle given by `--init-from` brings its own.
            augmentation: how training varies pictures; then the features of a frozen encoder are not cached.
            batch_size: pictures a step.
            captions_per_image: at most so many captions of a picture a step, drawn anew each time if there are more
                (validation takes the first ones).
            min_count: a word must occur so often in the training captions to be in the vocabulary.
            max_words: so many words of a training caption are fed. Of a longer one, the next word is still predicted,
                but neither what follows nor its end.
            cache: the folder for the features of a frozen encoder, for which pictures have been found readable, and for
                the captions' words as numbers.
            num_workers: processes that read pictures; with 0, the main process does.
            kind: coco, karpathy, flickr, table or sidecars; auto finds it by looking.
            strict: end where a picture would be left out.
            bucketing: a training batch has pictures with captions of like length, so that less of it is padding.
        """
        super().__init__()
        self.settings = {
            "batch_size": batch_size, "captions_per_image": captions_per_image, "min_count": min_count,
            "max_words": max_words,
        }  # fmt: skip
        for name, number in self.settings.items():
            if number < 1:
                raise ConfigurationError(f"data.{name} is {number}; it must be 1 or more")
        if num_workers < 0:
            raise ConfigurationError(f"data.num_workers is {num_workers}; it must be 0 or more")
        self.path = Path(path)
        check_path(self.path)
        self.kind = kind
        self.strict = strict
        self.bucketing = self.settings["bucketing"] = bucketing
        self._seed = torch.initial_seed()  # that of `seed_everything`, the same in every process
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
        self._captions: dict[str, NumberedCaptions] = {}
        self._looked_at: tuple[DataSet, Findings] | None = None

    def prepare_data(self) -> None:
        """Read every picture once, on one process of each machine (Lightning's hook).

        Raises:
            DatasetError: a file of the data set is missing or malformed.
        """
        self._looked_at = self._look()

    def setup(self, stage: str | None = None) -> None:
        """Read the captions, leave out the pictures that cannot be used, and build the vocabulary.

        Raises:
            DatasetError: a file is missing or malformed, no picture of a split can be used, no word is frequent
                enough, or a picture is left out in spite of `strict`.
        """
        if self._records:
            return
        data_set, findings = self._looked_at or self._look()
        self._looked_at = None
        splits, unusable = usable(data_set.splits, findings)
        self._tell(data_set, [*data_set.left_out, *unusable])
        for split in ("train", "dev"):
            if data_set.split(split) and not splits[split]:
                raise DatasetError(f"no picture of the split '{split}' of {self.path} can be used; see {self._list}")
            self._records[split] = splits[split]
        self._words, self._captions = numbered_captions(self._records, self.cache)
        counts = self._words.counts(self._captions["train"].numbers)
        self.vocabulary = Vocabulary.of_counts(counts, min_count=self.min_count)
        if not self.vocabulary.ordinary:
            raise DatasetError(
                f"no word of {self.path} occurs {self.min_count} times in training; lower data.min_count"
            )

    def _look(self) -> tuple[DataSet, Findings]:
        data_set = load_data_set(self.path, self.kind)
        images = [record.image for records in data_set.splits.values() for record in records]
        return data_set, check_pictures(images, self.cache)

    @property
    def _list(self) -> Path:
        """The list of what is left out."""
        folder = self.cache if self.trainer is None else Path(self.trainer.default_root_dir)
        return folder / "left-out.csv"

    def _tell(self, data_set: DataSet, left_out: Sequence[LeftOut]) -> None:
        """What is known of the data set, and which pictures are left out, told by one process of them all."""
        if self.trainer is None or self.trainer.is_global_zero:
            write_left_out(left_out, self._list)
            for note in data_set.notes:
                click.echo(note, err=True)
            if left_out and not self.strict:
                click.echo(f"{told_of(left_out)} (all of them: {self._list})", err=True)
        if left_out and self.strict:
            raise DatasetError(f"{told_of(left_out)} (all of them: {self._list}), and data.strict is true")

    def records(self, split: str) -> list[Record]:
        """The pictures of `split` with their captions, in order."""
        return self._records[split]

    def images(self, split: str) -> list[Path]:
        """The pictures of `split`, in order."""
        return [record.image for record in self._records[split]]

    def captions(self, split: str) -> list[list[list[int]]]:
        """The captions of each picture of `split` as ids, whole, `<end>` included."""
        ids, numbered = self._words.ids(self.vocabulary), self._captions[split]
        words, ends = ids[numbered.numbers].tolist(), itertools.pairwise(numbered.ends.tolist())
        return [
            [[*words[start:end], Vocabulary.end] for start, end in itertools.islice(ends, len(record.captions))]
            for record in self._records[split]
        ]

    def references(self, split: str) -> list[list[list[str]]]:
        """The words of the captions of `split`, by the scorers' tokeniser."""
        return [[ptb.tokenize(caption) for caption in record.captions] for record in self._records[split]]

    @property
    def dataset_name(self) -> str:
        """The data set's name: that of its folder, or of the folder above one that is called `raw` or `annotations`.

        A table is called as its file, without the ending.
        """
        path = self.path.resolve() if ".." in self.path.parts else self.path.absolute()
        if path.is_file():
            if path.suffix.lower() not in (".json", ".txt", ".token"):
                return path.stem
            path = path.parent
        while path.name in ("raw", "annotations") and path.parent.name:
            path = path.parent
        return path.name

    def train_dataloader(self) -> ResumableLoader[Item | DatasetError]:
        """Shuffled batches of the training split."""
        return self._loader("train", shuffle=True)

    def val_dataloader(self) -> ResumableLoader[Item | DatasetError]:
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

    def _loader(self, split: str, *, shuffle: bool) -> ResumableLoader[Item | DatasetError]:
        features = self.features.get(split)
        captions = self._captions[split]
        tokens = captions.tokens(
            self._words.ids(self.vocabulary), max_words=self.max_words if split == "train" else None
        )
        index = CaptionIndex.of(self._records[split], tokens, captions.holding(self._words.among(_SIDES)))
        dataset = CaptionDataset(
            index,
            TrainingTransform(self.preprocessing, self.augmentation if split == "train" else Augmentation()),
            features,
            captions_per_image=self.captions_per_image,
            draw=split == "train",
        )
        batches = EpochBatches(
            len(dataset),
            batch_size=self.batch_size,
            shuffle=shuffle,
            seed=self._seed,
            lengths=index.longest() if shuffle and self.bucketing else None,
            rank=0 if self.trainer is None else self.trainer.global_rank,
            world_size=1 if self.trainer is None else self.trainer.world_size,
        )
        workers = 0 if features is not None else min(self.num_workers, os.cpu_count() or 1)
        return ResumableLoader(
            dataset,
            batches,
            num_workers=workers,
            persistent_workers=workers > 0,
            collate_fn=collate,
            pin_memory=torch.cuda.is_available(),
        )
