"""N-grams of one to four words as numbers, counted for whole corpora at once: what BLEU and CIDEr-D are made of.

Everything here is exact: an n-gram's number stands for it and for nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt

from captioner.errors import DatasetError

Words = Sequence[str]
Tokens = Sequence[str] | Sequence[int]  # words, or their ids in some vocabulary; one kind for everything that meets
Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

MAX_ORDER = 4
_BITS = 32  # of a number: a key packs two


@dataclass(frozen=True, kw_only=True)
class NgramIndex:
    """The numbers 0 to G - 1 of G different n-grams. It never changes; ``with_new`` gives a larger one.

    A single word finds its number in ``words``. A longer n-gram is found by its key, which packs the numbers of all its
    words but the last (an n-gram itself) and of the last.
    """

    words: dict[str | int, int]
    keys: Integers  # of the n-grams of two words and more, sorted
    numbers: Integers  # their numbers
    orders: Integers  # (G,) 0 for single words, to 3

    @staticmethod
    def empty() -> NgramIndex:
        """Of no n-grams."""
        nothing = np.zeros(0, dtype=np.int64)
        return NgramIndex(words={}, keys=nothing, numbers=nothing, orders=nothing)

    def __len__(self) -> int:
        return len(self.orders)

    def number(self, sentences: Sequence[Tokens]) -> Numbered:
        """All n-grams of S ``sentences``; those that are not here get the numbers from G on."""
        flat, lengths, new_words = self._words(sentences)
        rows = np.repeat(np.arange(len(sentences)), lengths)
        left = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(flat))  # words from here to the sentence's end
        starts, numbers = np.arange(len(flat)), flat
        all_rows, all_numbers, new_keys = [rows], [numbers], []
        sizes = [len(new_words)]
        for order in range(1, MAX_ORDER):
            longer = left[starts] > order
            starts, prefixes = starts[longer], numbers[longer]
            keys = prefixes << _BITS | flat[starts + order]
            numbers, unknown = self._find(keys, len(self) + sum(sizes))
            all_rows.append(rows[starts])
            all_numbers.append(numbers)
            new_keys.append(unknown)
            sizes.append(len(unknown))
        return Numbered(
            rows=np.concatenate(all_rows),
            numbers=np.concatenate(all_numbers),
            lengths=lengths,
            orders=np.concatenate([self.orders, np.repeat(np.arange(MAX_ORDER), sizes)]),
            new_words=new_words,
            new_keys=np.concatenate(new_keys),
        )

    def with_new(self, numbered: Numbered) -> NgramIndex:
        """This with the n-grams that ``numbered``, which it must have numbered, found to be new."""
        first = len(self) + len(numbered.new_words)
        keys = np.concatenate([self.keys, numbered.new_keys])
        numbers = np.concatenate([self.numbers, np.arange(first, first + len(numbered.new_keys))])
        order = np.argsort(keys)
        words = self.words | numbered.new_words
        return NgramIndex(words=words, keys=keys[order], numbers=numbers[order], orders=numbered.orders)

    def _words(self, sentences: Sequence[Tokens]) -> tuple[Integers, Integers, dict[str | int, int]]:
        """The number of each word of all sentences, one after the other; the sentences' lengths; the new words."""
        flat: list[str | int] = list(chain.from_iterable(sentences))
        numbers = list(map(self.words.get, flat))
        new: dict[str | int, int] = {}
        if None in numbers:
            unknown = dict.fromkeys(word for word, number in zip(flat, numbers, strict=True) if number is None)
            if any(isinstance(word, str) and word.split() != [word] for word in unknown):
                # For BLEU and CIDEr coco-caption splits at all white space, and a few of ptb's tokens hold some.
                return self._words([" ".join(map(str, words)).split() for words in sentences])
            new = {word: number for number, word in enumerate(unknown, start=len(self))}
            numbers = [new[word] if number is None else number for word, number in zip(flat, numbers, strict=True)]
        lengths = np.fromiter(map(len, sentences), dtype=np.int64, count=len(sentences))
        return np.array(numbers, dtype=np.int64), lengths, new

    def _find(self, keys: Integers, first: int) -> tuple[Integers, Integers]:
        """The numbers of ``keys``, and the sorted new ones among them, which are numbered from ``first`` on."""
        order = np.argsort(keys)  # sorted questions are answered from the cache
        asked = keys[order]
        places, known = find(asked, self.keys)
        numbers = np.empty_like(keys)
        numbers[known] = self.numbers[places[known]]
        unknown = asked[~known]
        is_first = starts_of_runs(unknown)
        numbers[~known] = first - 1 + np.cumsum(is_first)
        answers = np.empty_like(keys)
        answers[order] = numbers
        return answers, unknown[is_first]


@dataclass(frozen=True, kw_only=True)
class Numbered:
    """All n-grams of S sentences, each as often as it occurs (O), and those that are new to an index."""

    rows: Integers  # (O,) which sentence
    numbers: Integers  # (O,)
    lengths: Integers  # (S,) words of each sentence
    orders: Integers  # of the index's n-grams and of the new ones, by number
    new_words: dict[str | int, int]
    new_keys: Integers  # of longer n-grams, in the order of their numbers, which follow those of the new words


@dataclass(frozen=True, kw_only=True)
class Counts:
    """How often each of S sentences has each n-gram: E entries, sorted by row, then by number."""

    rows: Integers  # (E,) which sentence
    numbers: Integers  # (E,) which n-gram
    orders: Integers  # (E,)
    counts: Integers  # (E,) at least 1
    lengths: Integers  # (S,) words of each sentence


def count(sentences: Sequence[Tokens], index: NgramIndex) -> Counts:
    """Count the n-grams of ``sentences``, with the numbers that ``index`` gives them."""
    numbered = index.number(sentences)
    keys, counts = _tally(numbered.rows << _BITS | numbered.numbers)
    numbers = keys & (1 << _BITS) - 1
    return Counts(
        rows=keys >> _BITS,
        numbers=numbers,
        orders=numbered.orders[numbers],
        counts=counts,
        lengths=numbered.lengths,
    )


class CountedReferences:
    """The references of N images, counted: E entries, sorted by image, then by n-gram, then by reference.

    An image's entries of one n-gram lie together: they are a run, and there are R runs.
    """

    def __init__(self, references: Sequence[Sequence[Tokens]], index: NgramIndex | None = None) -> None:
        """``references``: for each image, its references. Their n-grams keep the numbers that ``index`` has for them.

        Raises:
            DatasetError: there is no image, or one has no reference.
        """
        check_references(references)
        self.sizes = np.array([len(group) for group in references], dtype=np.int64)  # (N,) references of each image
        self.first = np.cumsum(self.sizes) - self.sizes  # (N,) the row of its first reference
        index = index or NgramIndex.empty()
        numbered = index.number([reference for group in references for reference in group])
        self.index = index.with_new(numbered)
        self.lengths = numbered.lengths  # (S,) words of each of the S references
        most = int(self.sizes.max())
        image = np.repeat(np.arange(len(references)), self.sizes)  # (S,)
        place = np.arange(len(image)) - self.first[image]  # (S,) which of its image's references
        if len(references) * len(self.index) * most >= 2**63:
            raise DatasetError("The references are too many to be counted at once: score fewer images at a time.")
        keys = (image[numbered.rows] * len(self.index) + numbered.numbers) * most + place[numbered.rows]
        keys, self.counts = _tally(keys)  # (E,)
        runs, place = np.divmod(keys, most)
        self.run_starts = np.flatnonzero(starts_of_runs(runs))  # (R,) the first entry of each run
        self.run_sizes = np.diff(self.run_starts, append=len(runs))  # (R,)
        self.run_keys = runs[self.run_starts]  # (R,) image and n-gram, packed
        # (R,) what the reference has that has it most; numpy cannot do this to no runs at all.
        self.most = np.maximum.reduceat(self.counts, self.run_starts) if len(runs) else self.counts
        image, self.numbers = np.divmod(runs, max(len(self.index), 1))  # (E,)
        self.rows = self.first[image] + place  # (E,) which reference

    def __len__(self) -> int:
        return len(self.sizes)

    def find(self, images: Integers, numbers: Integers) -> tuple[Integers, npt.NDArray[np.bool_]]:
        """The run (Q,) of each n-gram among each image's references, and whether there is one."""
        places, found = find(images * len(self.index) + numbers, self.run_keys)
        return places, found & (numbers < len(self.index))  # a new number would be another image's


def find(wanted: Integers, keys: Integers) -> tuple[Integers, npt.NDArray[np.bool_]]:
    """Where each of ``wanted`` is in the sorted ``keys``, and whether it is there at all: if not, the place is void."""
    if not len(keys):
        return np.zeros(len(wanted), dtype=np.int64), np.zeros(len(wanted), dtype=bool)
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return places, keys[places] == wanted


def starts_of_runs(keys: Integers) -> npt.NDArray[np.bool_]:
    """Of sorted keys: which differ from the one before."""
    starts = np.ones(len(keys), dtype=bool)
    np.not_equal(keys[1:], keys[:-1], out=starts[1:])
    return starts


def ranges(sizes: Integers) -> Integers:
    """0 to size - 1 for each of the sizes, one after the other."""
    return np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)


def add_up(cells: Integers, values: npt.NDArray[np.int64] | Floats, num_cells: int) -> Floats:
    """The sum of the values in each cell; numpy returns integers where there are none at all."""
    return np.bincount(cells, values, num_cells).astype(np.float64, copy=False)


def check_references(references: Sequence[Sequence[Tokens]]) -> None:
    """DatasetError if there is no image, or one without references."""
    if not references:
        raise DatasetError("There is nothing to score: give the references of at least one image.")
    for image, group in enumerate(references):
        if not group:
            raise DatasetError(f"Image {image} (counted from 0) has no reference: give at least one for each image.")


def _tally(keys: Integers) -> tuple[Integers, Integers]:
    """The different keys, sorted, and how often each occurs."""
    keys = np.sort(keys)
    starts = np.flatnonzero(starts_of_runs(keys))
    return keys[starts], np.diff(starts, append=len(keys))
