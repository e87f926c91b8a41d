"""How varied captions are: what a good score hides when a model says the same sentence to every picture.

Captions are sentences, as the model gave them; they are compared by the words that the scorers see
(:func:`captioner.evaluation.ptb.tokenize`), so case and punctuation make no difference. No captions at all are a
:class:`~captioner.errors.DatasetError`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from captioner.errors import DatasetError
from captioner.evaluation import ptb


@dataclass(frozen=True, kw_only=True)
class Distinct:
    """How many different captions there are, and their share of all, 0 to 1."""

    number: int
    share: float


def distinct(captions: Sequence[str]) -> Distinct:
    """The different captions among ``captions``."""
    number = len({tuple(words) for words in _words(captions)})
    return Distinct(number=number, share=number / len(captions))


def vocabulary_used(captions: Sequence[str]) -> int:
    """How many different words ``captions`` use."""
    return len({word for words in _words(captions) for word in words})


def mean_length(captions: Sequence[str]) -> float:
    """Words in a caption, on average."""
    return sum(len(words) for words in _words(captions)) / len(captions)


def _words(captions: Sequence[str]) -> list[list[str]]:
    if not captions:
        raise DatasetError("There are no captions to measure: give at least one.")
    return [ptb.tokenize(caption) for caption in captions]
