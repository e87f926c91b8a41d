"""Reward: how good a drawn caption is, judged by the captions that people wrote of the same picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from captioner.evaluation.metrics import CiderD, bleu_of, bleu_statistics
from captioner.evaluation.ngrams import MAX_ORDER, CountedReferences


class Reward:
    """CIDEr-D, mixed with BLEU-4, of captions given as ids that end with `<end>`.

    `<end>` is a word like any other here: without it a caption would earn nothing by ending well, and would learn to
    end with "of a". The document frequencies are those of the training split, whose captions the references are.
    """

    def __init__(self, references: Sequence[Sequence[Sequence[int]]], *, bleu_weight: float = 0.0) -> None:
        """Count `references` once: for each picture of the split its captions as ids, `<end>` included."""
        self._references = references
        self._cider = CiderD(references)
        self._bleu_weight = bleu_weight

    def __call__(self, captions: Sequence[Sequence[int]], pictures: Sequence[int]) -> Tensor:
        """The rewards (M,) of M `captions`, each of the picture with that number in the split; 1 is 100 points."""
        rewards = (1.0 - self._bleu_weight) * self._cider.score(captions, pictures)
        if self._bleu_weight:
            counted = CountedReferences([self._references[picture] for picture in pictures])
            statistics = bleu_statistics(captions, counted)
            rewards += self._bleu_weight * bleu_of(statistics)[:, MAX_ORDER - 1]
        return torch.from_numpy(np.asarray(rewards / 100.0, dtype=np.float32))
