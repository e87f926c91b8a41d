"""CaptionIndex: the captions of a split as ids, and its pictures' paths, in a few flat arrays.

The processes of a data loader receive it. Arrays of numbers stay where they are when a process is forked, and are
shared when it is spawned. Lists of lists would be copied into every process bit by bit, because Python writes its
reference counts into whatever it looks at: gigabytes, for the 617,000 captions of COCO.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from captioner.datasets.records import Record
from captioner.text.tokenizer import tokenize
from captioner.text.vocabulary import Vocabulary

_Numbers = npt.NDArray[np.int32]
_Places = npt.NDArray[np.int64]


class Words:
    """Numbers for words, in the order in which they come, before there is a vocabulary."""

    def __init__(self, words: Iterable[str] = ()) -> None:
        """Number the `words`, each of which comes once, in their order."""
        self._numbers = {word: number for number, word in enumerate(words)}

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def numbers(self, words: Iterable[str]) -> list[int]:
        """The number of each word; a new word gets the next one."""
        numbers = self._numbers
        return [numbers.setdefault(word, len(numbers)) for word in words]

    def counts(self, numbers: _Numbers) -> dict[str, int]:
        """How often each word is among the `numbers`, any shape."""
        found = np.bincount(numbers, minlength=len(self._numbers)).tolist()
        return {word: count for word, count in zip(self._numbers, found, strict=True) if count}

    def ids(self, vocabulary: Vocabulary) -> npt.NDArray[np.int32]:
        """The id in `vocabulary` of each number."""
        return np.array(vocabulary.encode(self._numbers), dtype=np.int32)

    def among(self, words: Iterable[str]) -> list[int]:
        """The numbers of those of the `words` that have one."""
        return [self._numbers[word] for word in words if word in self._numbers]


@dataclass(frozen=True)
class NumberedCaptions:
    """M captions as numbers of words.

    Attributes:
        numbers: int32, of all words, one caption after the other.
        ends: (M + 1,) int64, caption m is `numbers[ends[m]:ends[m + 1]]`.
    """

    numbers: _Numbers
    ends: _Places

    @classmethod
    def of(cls, records: Sequence[Record], words: Words) -> Self:
        """All captions of the records, one after the other."""
        numbers, ends = array("i"), array("q", [0])
        for record in records:
            for caption in record.captions:
                numbers.extend(words.numbers(tokenize(caption)))
                ends.append(len(numbers))
        return cls(np.array(numbers), np.array(ends))

    def holding(self, numbers: Sequence[int]) -> npt.NDArray[np.bool_]:
        """(M,) whether a caption has one of the `numbers`."""
        places = np.flatnonzero(np.isin(self.numbers, numbers))
        holding = np.zeros(len(self.ends) - 1, dtype=np.bool_)
        holding[np.searchsorted(self.ends, places, side="right") - 1] = True
        return holding

    def tokens(self, ids: npt.NDArray[np.int32], *, max_words: int | None) -> tuple[Tensor, Tensor]:
        """The captions as ids between `<start>` and `<end>`, and where each ends.

        Args:
            ids: the id of each number.
            max_words: of a caption with more, this many are fed, and the next one is only predicted; None: all are.

        Returns:
            int32, all captions one after the other, and int64 (M + 1,).
        """
        lengths = np.diff(self.ends)
        words = lengths if max_words is None else np.minimum(lengths, max_words + 1)
        ended = words == lengths if max_words is None else lengths <= max_words
        starts = np.concatenate([[0], np.cumsum(1 + words + ended)])  # each has `<start>`, words, mostly `<end>`
        tokens = np.empty(starts[-1], dtype=np.int32)
        is_word = np.ones(starts[-1], dtype=np.bool_)
        for token, places in ((Vocabulary.start, starts[:-1]), (Vocabulary.end, starts[1:][ended] - 1)):
            tokens[places], is_word[places] = token, False
        # the first words of each caption, and not the rest of it
        taken = np.repeat(np.tile([True, False], len(words)), np.stack([words, lengths - words], axis=1).ravel())
        tokens[is_word] = ids[self.numbers[taken]]
        return torch.from_numpy(tokens), torch.from_numpy(starts)


@dataclass(frozen=True)
class CaptionIndex:
    """N pictures with M captions.

    Attributes:
        tokens: int32, all captions one after the other: `<start>`, words, `<end>`.
        token_ends: (M + 1,) int64, caption m is `tokens[token_ends[m]:token_ends[m + 1]]`.
        caption_ends: (N + 1,) int64, picture n has the captions from `caption_ends[n]` to `caption_ends[n + 1]`.
        may_flip: (N,) bool.
        paths: uint8, the paths one after the other as the file system spells them.
        path_ends: (N + 1,) int64.
    """

    tokens: Tensor
    token_ends: Tensor
    caption_ends: Tensor
    may_flip: Tensor
    paths: Tensor
    path_ends: Tensor

    @classmethod
    def of(cls, records: Sequence[Record], tokens: tuple[Tensor, Tensor], fixed: npt.NDArray[np.bool_]) -> Self:
        """The index of N records.

        Args:
            tokens: of all their captions, see `NumberedCaptions.tokens`.
            fixed: (M,) captions whose picture must not be mirrored.
        """
        paths = [os.fsencode(record.image) for record in records]
        ends = np.concatenate([[0], np.cumsum([len(record.captions) for record in records])]).astype(np.int64)
        before = np.concatenate([[0], np.cumsum(fixed)])
        return cls(
            tokens=tokens[0],
            token_ends=tokens[1],
            caption_ends=torch.from_numpy(ends),
            may_flip=torch.from_numpy(before[ends[1:]] == before[ends[:-1]]),
            paths=torch.from_numpy(np.frombuffer(bytearray(b"".join(paths)), dtype=np.uint8)),
            path_ends=torch.from_numpy(np.concatenate([[0], np.cumsum([len(path) for path in paths])])),
        )

    def __len__(self) -> int:
        return len(self.caption_ends) - 1

    def path(self, index: int) -> Path:
        """Where a picture lies."""
        start, end = self.path_ends[index : index + 2].tolist()
        return Path(os.fsdecode(self.paths[start:end].numpy().tobytes()))

    def captions(self, index: int) -> list[Tensor]:
        """The captions of a picture, each (length,) int32."""
        first, last = self.caption_ends[index : index + 2].tolist()
        ends = self.token_ends[first : last + 1].tolist()
        return [self.tokens[start:end] for start, end in pairwise(ends)]

    def longest(self) -> Tensor:
        """(N,) how many tokens the longest caption of each picture has; 0 without one."""
        lengths = self.token_ends.diff()  # (M,)
        of = torch.arange(len(self)).repeat_interleave(self.caption_ends.diff())  # (M,) the picture of each caption
        return torch.zeros(len(self), dtype=lengths.dtype).scatter_reduce(0, of, lengths, "amax")
