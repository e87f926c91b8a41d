"""Validation: what is known of the development split after each look at it, its loss and its captions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from captioner.errors import ConfigurationError
from captioner.evaluation import ptb
from captioner.evaluation.metrics import CiderD, bleu
from captioner.model.decoder import Decoder
from captioner.prediction import Captioner
from captioner.training.batch import Batch
from captioner.training.devices import WeightedMean, gathered
from captioner.training.losses import CrossEntropyOptions
from captioner.training.teacher_forcing import TeacherForcing
from captioner.training.truncation import Truncation


class Validation:
    """One look after another at the development split, shared among all processes.

    Attributes:
        captions: those of the last look that saw all pictures, in order.
    """

    def __init__(self, references: Sequence[Sequence[Sequence[str]]]) -> None:
        """Take the words of the captions that people wrote of each picture of the split."""
        self._references = references
        self._cider = CiderD(references)
        # every word alike and its own probability alone, whatever is minimised: so that runs can be compared
        self._objective = TeacherForcing(options=CrossEntropyOptions(label_smoothing=0.0), truncation=Truncation())
        self._captioner: Captioner | None = None
        self.captions: list[str] = []

    def start(self, captioner: Captioner) -> None:
        """Begin a look, with the `captioner` of the weights of this moment: the same corridor as everybody's."""
        self._captioner = captioner
        self._seen: dict[int, str] = {}
        self._losses = {name: WeightedMean() for name in ("val_loss", "val_loss_shuffled")}

    def add(self, decoder: Decoder, batch: Batch, device: torch.device) -> None:
        """Teacher-forced loss, with the right pictures and with wrong ones, and captions by search."""
        captioner = self._captioner
        if captioner is None:
            return
        if batch.features is None and batch.pixels is not None:
            with torch.autocast(device.type, enabled=False):  # as precise as the service will be
                features = captioner.encode(batch.pixels.cpu().numpy()).to(device)
        elif batch.features is not None:
            features = batch.features.float()
        inputs, targets = batch.tokens[:, :, :-1], batch.tokens[:, :, 1:]
        words = int(self._objective.options.counted(targets))
        self._losses["val_loss"].add(self._objective.loss(decoder, features, inputs, targets), words)
        if len(features) > 1:  # every picture with the captions of its neighbour: what does seeing the right one help?
            others: Tensor = self._objective.loss(decoder, features.roll(1, dims=0), inputs, targets)
            self._losses["val_loss_shuffled"].add(others, words)
        with torch.autocast(device.type, enabled=False):  # as precise as the service will be
            captions = captioner.caption_features(features.float())
        for index, caption in zip(batch.indices.tolist(), captions, strict=True):
            self._seen[index] = caption.text

    def losses(self) -> dict[str, float]:
        """The mean losses of a word in all processes, by name, of what was seen; this ends the look."""
        self._captioner = None
        means = {name: WeightedMean.of(gathered(losses)) for name, losses in self._losses.items()}
        return {name: mean for name, mean in means.items() if mean is not None}

    def figures(self, *, may_be_partial: bool) -> dict[str, float]:
        """CIDEr-D, BLEU-4 and the share of distinct captions, the same in all processes.

        Args:
            may_be_partial: whether this was a look at a few batches only, which has no figures.

        Raises:
            ConfigurationError: pictures of the split were not seen, and it may not be so.
        """
        seen = {index: text for captions in gathered(self._seen) for index, text in captions.items()}
        if len(seen) < len(self._references):
            if may_be_partial:
                return {}
            raise ConfigurationError(
                f"validation saw {len(seen)} of {len(self._references)} pictures: it needs all of them, so "
                "leave trainer.limit_val_batches out"
            )
        self.captions = [seen[index] for index in range(len(self._references))]
        hypotheses = [ptb.tokenize(caption) for caption in self.captions]
        return {
            "cider": self._mean_cider(hypotheses),
            "bleu4": bleu(hypotheses, self._references)[3],
            "distinct": len(set(self.captions)) / len(self.captions),
        }

    def cider(self, captions: Sequence[str]) -> float:
        """CIDEr-D of the `captions` of all pictures of the split, in order."""
        return self._mean_cider([ptb.tokenize(caption) for caption in captions])

    def _mean_cider(self, hypotheses: Sequence[Sequence[str]]) -> float:
        return float(self._cider.score(hypotheses).mean())
