"""BLEU, ROUGE-L and CIDEr-D, equal to coco-caption's (the package ``pycocoevalcap``), on the scale that papers print.

All functions take words: N hypotheses, each a sequence of words, and for each of the N images its references, each a
sequence of words. The official numbers come from words made by :func:`captioner.evaluation.ptb.tokenize`.
A mistake in the shape of the data is a :class:`~captioner.errors.DatasetError`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from captioner.errors import DatasetError

Words = Sequence[str]
Ngram = tuple[str, ...]
Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Number = TypeVar("Number", np.int64, np.float64)

MAX_ORDER = 4  # n-grams of one to four words, in BLEU and in CIDEr
CIDER_SIGMA = 6.0  # the width of CIDEr-D's length penalty, in words
ROUGE_BETA = 1.2  # how much ROUGE-L prefers recall to precision


def bleu(hypotheses: Sequence[Words], references: Sequence[Sequence[Words]]) -> tuple[float, float, float, float]:
    """BLEU-1 to BLEU-4 of the whole corpus, 0 to 100.

    Counts are clipped by the reference that has most, summed over the corpus, and the reference length of an image is
    the one closest to its hypothesis (the shorter of two equally close).
    Source: Papineni et al. 2002, https://aclanthology.org/P02-1040, with the two small constants of coco-caption, which
    only keep it from dividing by zero.
    """
    _check(hypotheses, references)
    numbers: dict[Ngram, int] = {}
    guessed = _split(hypotheses)
    found = _count(guessed, {}, numbers)
    lengths = _lengths(guessed)
    sentences, owners = _flatten(references)
    allowed = _count(sentences, {}, numbers)
    # How often the reference that has it most has each n-gram: sorted by image, n-gram and count, the last.
    keys = owners[allowed.rows] * len(numbers) + allowed.ids
    order = np.lexsort((allowed.counts, keys))
    keys, most = keys[order], allowed.counts[order]
    last = np.append(keys[1:] != keys[:-1], True) if len(keys) else np.zeros(0, dtype=bool)
    limits = _look_up(found.rows * len(numbers) + found.ids, keys[last], most[last])
    correct = _sum(found.orders, np.minimum(found.counts, limits), MAX_ORDER)

    small, tiny = 1e-9, 1e-15
    hypothesis_length = int(lengths.sum())
    gaps = np.abs(_lengths(sentences) - lengths[owners])
    by_gap = np.lexsort((_lengths(sentences), gaps, owners))  # by image, then gap, then length: the first is closest
    closest = by_gap[np.searchsorted(owners, np.arange(len(references)))]
    reference_length = int(_lengths(sentences)[closest].sum())
    guesses = np.array([np.maximum(lengths - n, 0).sum() for n in range(MAX_ORDER)])
    precisions = (correct + tiny) / (guesses + small)
    values = np.cumprod(precisions) ** (1.0 / np.arange(1, MAX_ORDER + 1))
    ratio = (hypothesis_length + tiny) / (reference_length + small)
    if ratio < 1:
        values = values * np.exp(1 - 1 / ratio)
    one, two, three, four = (100.0 * values).tolist()
    return one, two, three, four


def rouge_l(hypotheses: Sequence[Words], references: Sequence[Sequence[Words]]) -> Floats:
    """ROUGE-L of each image, (N,), 0 to 100; the corpus's score is the mean.

    Best precision and best recall are taken over the references apart from each other, as coco-caption does.
    Source: Lin 2004, https://aclanthology.org/W04-1013, with beta 1.2.
    """
    _check(hypotheses, references)
    scores = [_rouge_l(hypothesis, group) for hypothesis, group in zip(hypotheses, references, strict=True)]
    return 100.0 * np.array(scores)


def _rouge_l(hypothesis: Words, references: Sequence[Words]) -> float:
    # coco-caption splits at single spaces, so that an empty sentence is one empty word.
    ours = " ".join(hypothesis).split(" ")
    theirs = [" ".join(reference).split(" ") for reference in references]
    common = [longest_common_subsequence(ours, reference) for reference in theirs]
    precision = max(common) / len(ours)
    recall = max(length / len(reference) for length, reference in zip(common, theirs, strict=True))
    if precision == 0 or recall == 0:
        return 0.0
    square = ROUGE_BETA**2
    return (1 + square) * precision * recall / (recall + square * precision)


def longest_common_subsequence(one: Words, other: Words) -> int:
    """How many words the longest common subsequence of the two has.

    One bit for each word of ``one``: a bit that turns from 1 to 0 is a step of the subsequence.
    Source: Hyyrö 2004, "Bit-parallel LCS-length computation revisited".
    """
    positions: dict[str, int] = {}
    for index, word in enumerate(one):
        positions[word] = positions.get(word, 0) | 1 << index
    everything = (1 << len(one)) - 1
    state = everything
    for word in other:
        matches = state & positions.get(word, 0)
        state = ((state + matches) | (state - matches)) & everything
    return len(one) - state.bit_count()


class DocumentFrequency:
    """In the references of how many images each n-gram occurs: prepared once, shared by many :class:`CiderD`."""

    def __init__(self, references: Sequence[Sequence[Words]]) -> None:
        """Count over ``references``: for each image, its references."""
        _check_references(references)
        self.num_images = len(references)
        self.ids: dict[Ngram, int] = {}
        sentences, owners = _flatten(references)
        counts = _count(sentences, {}, self.ids)
        stride = max(len(self.ids), 1)
        once = np.unique(owners[counts.rows] * stride + counts.ids)  # an n-gram counts once for an image
        frequencies = np.bincount(once % stride, minlength=stride)
        self._most = float(np.log(self.num_images))
        self._weights = self._most - np.log(np.maximum(frequencies, 1))

    def weights(self, ids: Integers) -> Floats:
        """The inverse document frequencies (E,) of n-grams by their ``ids`` (E,).

        Ids from ``len(self.ids)`` on are n-grams that no image has: they weigh as much as those that one image has.
        """
        weights = np.full(len(ids), self._most)
        known = ids < len(self.ids)
        weights[known] = self._weights[ids[known]]
        return weights


class CiderD:
    """CIDEr-D against fixed references, which are counted and weighed once, here.

    Scoring changes nothing, so threads may share one. Training rewards keep one for the whole training set and give
    ``score`` the ``images`` of each batch, or build one for a batch from a ``document_frequency`` that they keep.
    Source: Vedantam et al. 2015, https://arxiv.org/abs/1411.5726 (CIDEr-D: clipped, sigma 6, times 10), as in
    coco-caption, which calls it CIDEr. Its weights depend on the references: scores on two data sets do not compare.
    """

    def __init__(
        self, references: Sequence[Sequence[Words]], document_frequency: DocumentFrequency | None = None
    ) -> None:
        """``references``: for each image, its references; their own document frequencies unless others are given."""
        _check_references(references)
        self.document_frequency = document_frequency or DocumentFrequency(references)
        self._further: dict[Ngram, int] = {}  # n-grams of the references that the document frequencies do not know
        sentences, _ = _flatten(references)
        self._references = self._vectors(sentences, self._further)
        self._sizes = np.array([len(group) for group in references], dtype=np.int64)
        self._first = np.cumsum(self._sizes) - self._sizes  # the row of each image's first reference
        # One place more than there are known n-grams, for all those that no reference has.
        self._stride = len(self.document_frequency.ids) + len(self._further) + 1
        self._keys = self._references.rows * self._stride + self._references.ids

    def score(self, hypotheses: Sequence[Words], images: Sequence[int] | None = None) -> Floats:
        """CIDEr-D times 100 of each hypothesis, (N,), 0 to 1000; the corpus's score is the mean.

        ``images`` (N,) says by which image's references each is scored; without it there is one for each image.
        """
        if images is None:
            images = range(len(self._sizes))
        if len(hypotheses) != len(images):
            raise DatasetError(f"There are {len(hypotheses)} hypotheses for {len(images)} images: give one for each.")
        chosen = np.array(images, dtype=np.int64)
        if len(chosen) and not (chosen.min() >= 0 and chosen.max() < len(self._sizes)):
            raise DatasetError(f"The references are of {len(self._sizes)} images: number them from 0.")
        ours, theirs = self._vectors(_split(hypotheses), dict(self._further)), self._references

        # Each hypothesis meets each reference of its image: M meetings.
        sizes = self._sizes[chosen]
        hypothesis = np.repeat(np.arange(len(hypotheses)), sizes)  # (M,)
        reference = np.repeat(self._first[chosen], sizes) + _ranges(sizes)  # (M,)
        meeting = np.cumsum(sizes) - sizes  # (N,) the first meeting of each hypothesis

        # Each n-gram of each hypothesis is looked up in each of those references: Q questions.
        repeats = sizes[ours.rows]
        entry = np.repeat(np.arange(len(ours.rows)), repeats)  # (Q,)
        asked = meeting[ours.rows[entry]] + _ranges(repeats)  # (Q,) the meeting of each question
        ids = np.minimum(ours.ids[entry], self._stride - 1)
        weights = _look_up(reference[asked] * self._stride + ids, self._keys, theirs.weights)
        products = np.minimum(ours.weights[entry], weights) * weights
        cells = asked * MAX_ORDER + ours.orders[entry]
        sums = _sum(cells, products, len(hypothesis) * MAX_ORDER).reshape(-1, MAX_ORDER)

        norms = ours.norms[hypothesis] * theirs.norms[reference]  # (M, MAX_ORDER)
        cosines = np.divide(sums, norms, out=np.zeros_like(sums), where=norms > 0)
        gaps = (ours.lengths[hypothesis] - theirs.lengths[reference]).astype(np.float64)
        similarities = cosines.mean(axis=1) * np.exp(-(gaps**2) / (2 * CIDER_SIGMA**2))
        return 1000.0 * _sum(hypothesis, similarities, len(hypotheses)) / sizes

    def _vectors(self, sentences: Sequence[Ngram], further: dict[Ngram, int]) -> _Vectors:
        counts = _count(sentences, self.document_frequency.ids, further)
        weights = counts.counts * self.document_frequency.weights(counts.ids)
        cells = counts.rows * MAX_ORDER + counts.orders
        norms = np.sqrt(_sum(cells, weights**2, len(sentences) * MAX_ORDER))
        # coco-caption's length is the number of word pairs: an empty sentence is as long as a single word.
        lengths = np.maximum(_lengths(sentences) - 1, 0)
        return _Vectors(
            rows=counts.rows,
            ids=counts.ids,
            orders=counts.orders,
            weights=weights,
            norms=norms.reshape(-1, MAX_ORDER),
            lengths=lengths,
        )


@dataclass(frozen=True, kw_only=True)
class _Vectors:
    """tf-idf vectors of S sentences with E entries, sorted by row, then by n-gram."""

    rows: Integers  # (E,) which sentence
    ids: Integers  # (E,) which n-gram
    orders: Integers  # (E,) 0 for single words, to 3
    weights: Floats  # (E,)
    norms: Floats  # (S, MAX_ORDER)
    lengths: Integers  # (S,)


@dataclass(frozen=True, kw_only=True)
class _Counts:
    """How often each of S sentences has each n-gram: E entries, sorted by row, then by n-gram."""

    rows: Integers  # (E,) which sentence
    ids: Integers  # (E,) which n-gram
    orders: Integers  # (E,) 0 for single words, to 3
    counts: Integers  # (E,) at least 1


def _count(sentences: Sequence[Ngram], known: dict[Ngram, int], further: dict[Ngram, int]) -> _Counts:
    """Count n-grams; those that ``known`` (never changed) lacks are numbered after it, in ``further`` (which grows)."""
    rows: list[int] = []
    ids: list[int] = []
    orders: list[int] = []
    offset = len(known)
    for row, words in enumerate(sentences):
        for order in range(min(MAX_ORDER, len(words))):
            ngrams = [words[start : start + order + 1] for start in range(len(words) - order)]
            for ngram in ngrams:
                number = known.get(ngram)
                ids.append(further.setdefault(ngram, offset + len(further)) if number is None else number)
            rows.extend([row] * len(ngrams))
            orders.extend([order] * len(ngrams))
    stride = max(offset + len(further), 1)
    keys = np.array(rows, dtype=np.int64) * stride + np.array(ids, dtype=np.int64)
    keys, where, counts = np.unique(keys, return_index=True, return_counts=True)
    return _Counts(
        rows=keys // stride, ids=keys % stride, orders=np.array(orders, dtype=np.int64)[where], counts=counts
    )


def _look_up(wanted: Integers, keys: Integers, values: npt.NDArray[Number]) -> npt.NDArray[Number]:
    """``values`` of the ``wanted`` keys; 0 where ``keys``, which are sorted, lack it."""
    if not len(keys):
        return np.zeros(len(wanted), dtype=values.dtype)
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[places] == wanted, values[places], values.dtype.type(0))


def _sum(cells: Integers, values: npt.NDArray[Number], num_cells: int) -> Floats:
    """The sum of the values in each cell; numpy returns integers where there are none at all."""
    return np.bincount(cells, values, num_cells).astype(np.float64)


def _ranges(sizes: Integers) -> Integers:
    """0 to size - 1 for each of the sizes, one after the other."""
    return np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)


def _lengths(sentences: Sequence[Ngram]) -> Integers:
    return np.array([len(words) for words in sentences], dtype=np.int64)


def _split(sentences: Sequence[Words]) -> list[Ngram]:
    """Words split at all white space, as BLEU and CIDEr do: a few of ptb's tokens hold a no-break space."""
    return [tuple(" ".join(words).split()) for words in sentences]


def _flatten(references: Sequence[Sequence[Words]]) -> tuple[list[Ngram], Integers]:
    """All references, split, one after the other, and the image of each."""
    owners = np.repeat(np.arange(len(references)), [len(group) for group in references])
    return _split([reference for group in references for reference in group]), owners


def _check(hypotheses: Sequence[Words], references: Sequence[Sequence[Words]]) -> None:
    if len(hypotheses) != len(references):
        raise DatasetError(
            f"There are {len(hypotheses)} hypotheses but references for {len(references)} images: give one for each."
        )
    _check_references(references)


def _check_references(references: Sequence[Sequence[Words]]) -> None:
    if not references:
        raise DatasetError("There is nothing to score: give the references of at least one image.")
    for image, group in enumerate(references):
        if not group:
            raise DatasetError(f"Image {image} (counted from 0) has no reference: give at least one for each image.")
