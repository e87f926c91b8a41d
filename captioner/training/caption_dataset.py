"""CaptionDataset: what is read and drawn for one picture of a split."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.data import Dataset

from captioner.errors import DatasetError, ImageError
from captioner.images import read_image
from captioner.preprocessing import TrainingTransform
from captioner.training.batch import Item
from captioner.training.caption_index import CaptionIndex
from captioner.training.feature_cache import FeatureCache
from captioner.training.sampler import Place


class CaptionDataset(Dataset[Item | DatasetError]):
    """The pictures of one split with their captions as ids, `captions_per_image` of them at most.

    What is drawn (a crop, which captions) depends on the seed that comes with a picture's place alone: not on what was
    drawn before, nor on which process draws.

    A picture that cannot be used is an error that is returned: torch would bury one that a worker process raises in
    that process's traceback.
    """

    def __init__(
        self,
        index: CaptionIndex,
        transform: TrainingTransform,
        features: FeatureCache | None,
        *,
        captions_per_image: int,
        draw: bool,
    ) -> None:
        self._index = index
        self._transform = transform
        self._features = features
        self._captions_per_image = captions_per_image
        self._draw = draw

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, place: Place) -> Item | DatasetError:
        # the processor's generator only: torch.manual_seed would sow those of every GPU anew
        before = torch.get_rng_state()
        torch.default_generator.manual_seed(place.seed)
        try:
            return self._item(place.picture)
        finally:
            torch.set_rng_state(before)

    def _item(self, index: int) -> Item | DatasetError:
        captions = self._choose(self._index.captions(index))
        if self._features is not None:
            return Item(index, self._features[index], captions)
        path = self._index.path(index)
        try:
            image = read_image(path)
        except ImageError as error:
            return DatasetError(f"picture {path} of the data set cannot be used: {error}")
        return Item(index, self._transform(image, may_flip=bool(self._index.may_flip[index])), captions)

    def _choose(self, captions: list[Tensor]) -> list[Tensor]:
        """Captions drawn anew each time, or the first ones for a steady loss."""
        if not self._draw or len(captions) <= self._captions_per_image:
            return captions[: self._captions_per_image]
        return [captions[i] for i in torch.randperm(len(captions))[: self._captions_per_image].tolist()]
