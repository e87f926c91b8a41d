"""BLEU, ROUGE-L and CIDEr-D, equal to coco-caption's (the package ``pycocoevalcap``), on the scale that papers print.

All functions take words: N hypotheses, each a sequence of words, and for each of the N images its references, each a
sequence of words. The official numbers come from words made by :func:`captioner.evaluation.ptb.tokenize`.
A mistake in the shape of the data is a :class:`~captioner.errors.DatasetError`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from captioner.errors import DatasetError
from captioner.evaluation.ngrams import (
    MAX_ORDER,
    CountedReferences,
    Counts,
    Floats,
    Integers,
    Tokens,
    Words,
    add_up,
    check_references,
    count,
    ranges,
)

# Changed with every change that can change a number, of a metric or of the tokeniser.
VERSION = "1"

CIDER_SIGMA = 6.0  # the width of CIDEr-D's length penalty, in words
ROUGE_BETA = 1.2  # how much ROUGE-L prefers recall to precision
BLEU_STATISTICS = 2 * MAX_ORDER + 2  # how many numbers of an image BLEU adds up


def bleu(hypotheses: Sequence[Words], references: Sequence[Sequence[Words]]) -> tuple[float, float, float, float]:
    """BLEU-1 to BLEU-4 of the whole corpus, 0 to 100.

    Counts are clipped by the reference that has most, summed over the corpus, and the reference length of an image is
    the one closest to its hypothesis (the shorter of two equally close).
    Source: Papineni et al. 2002, https://aclanthology.org/P02-1040, with the two small constants of coco-caption, which
    only keep it from dividing by zero.
    """
    _check(hypotheses, references)
    one, two, three, four = bleu_of(bleu_statistics(hypotheses, CountedReferences(references)).sum(axis=0)).tolist()
    return one, two, three, four


def bleu_statistics(hypotheses: Sequence[Tokens], references: CountedReferences) -> Floats:
    """What BLEU adds up over the images, (N, BLEU_STATISTICS), for N hypotheses and the references of N images.

    Whole numbers: clipped matches of each order, n-grams of each order, words, and words of the closest reference.
    """
    _check_number(hypotheses, len(references))
    counts = count(hypotheses, references.index)
    runs, found = references.find(counts.rows, counts.numbers)
    matches = np.minimum(counts.counts[found], references.most[runs[found]])
    cells = counts.rows[found] * MAX_ORDER + counts.orders[found]
    correct = add_up(cells, matches, len(hypotheses) * MAX_ORDER).reshape(-1, MAX_ORDER)

    guesses = np.maximum(counts.lengths[:, None] - np.arange(MAX_ORDER), 0)  # (N, MAX_ORDER)
    image = np.repeat(np.arange(len(references)), references.sizes)  # (S,)
    gaps = np.abs(references.lengths - counts.lengths[image])
    # Sorted by image, then gap, then length: the first of each image is the closest, the shorter of two.
    closest = np.lexsort((references.lengths, gaps, image))[references.first]
    return np.column_stack([correct, guesses, counts.lengths, references.lengths[closest]])


def bleu_of(statistics: Floats) -> Floats:
    """BLEU-1 to BLEU-4 (..., MAX_ORDER), 0 to 100, of sums over images (..., BLEU_STATISTICS)."""
    small, tiny = 1e-9, 1e-15
    correct, guesses = statistics[..., :MAX_ORDER], statistics[..., MAX_ORDER : 2 * MAX_ORDER]
    precisions = (correct + tiny) / (guesses + small)
    values = np.cumprod(precisions, axis=-1) ** (1.0 / np.arange(1, MAX_ORDER + 1))
    ratio = (statistics[..., -2] + tiny) / (statistics[..., -1] + small)
    brevity = np.exp(1 - 1 / np.minimum(ratio, 1))
    return np.asarray(100.0 * values * brevity[..., None])


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

    def __init__(self, references: Sequence[Sequence[Tokens]] | CountedReferences) -> None:
        """Count over ``references``: for each image, its references."""
        if not isinstance(references, CountedReferences):
            references = CountedReferences(references)
        self.num_images = len(references)
        self.index = references.index
        runs = references.run_keys % max(len(self.index), 1)  # an n-gram has one run for each image that has it
        frequencies = np.bincount(runs, minlength=len(self.index))
        self._most = float(np.log(self.num_images))
        self._weights = self._most - np.log(np.maximum(frequencies, 1))

    def weights(self, numbers: Integers) -> Floats:
        """The inverse document frequencies (E,) of n-grams by their ``numbers`` (E,).

        Numbers that ``self.index`` has not given are n-grams that no image has: they weigh as much as those that one
        image has.
        """
        weights = np.full(len(numbers), self._most)
        known = numbers < len(self._weights)
        weights[known] = self._weights[numbers[known]]
        return weights


class CiderD:
    """CIDEr-D against fixed references, which are counted and weighed once, here.

    Scoring changes nothing, so threads may share one. Training rewards keep one for the whole training set and give
    ``score`` the ``images`` of each batch, or build one for a batch from a ``document_frequency`` that they keep.
    Words may be strings, or ids of a vocabulary; hypotheses, references and document frequency must be of one kind.
    Source: Vedantam et al. 2015, https://arxiv.org/abs/1411.5726 (CIDEr-D: clipped, sigma 6, times 10), as in
    coco-caption, which calls it CIDEr. Its weights depend on the references: scores on two data sets do not compare.
    """

    def __init__(
        self, references: Sequence[Sequence[Tokens]], document_frequency: DocumentFrequency | None = None
    ) -> None:
        """``references``: for each image, its references; their own document frequencies unless others are given."""
        self.references = CountedReferences(references, document_frequency.index if document_frequency else None)
        self.document_frequency = document_frequency or DocumentFrequency(self.references)
        entries = self.references
        self._weights = entries.counts * self.document_frequency.weights(entries.numbers)
        orders = entries.index.orders[entries.numbers]
        self._norms = _norms(entries.rows, orders, self._weights, len(entries.lengths))

    def score(self, hypotheses: Sequence[Tokens], images: Sequence[int] | None = None) -> Floats:
        """CIDEr-D times 100 of each hypothesis, (N,), 0 to 1000; the corpus's score is the mean.

        ``images`` (N,) says by which image's references each is scored; without it there is one for each image.
        """
        theirs = self.references
        chosen = np.array(range(len(theirs)) if images is None else images, dtype=np.int64)
        _check_number(hypotheses, len(chosen))
        if len(chosen) and not (chosen.min() >= 0 and chosen.max() < len(theirs)):
            raise DatasetError(f"The references are of {len(theirs)} images: number them from 0.")
        ours = count(hypotheses, theirs.index)
        weights = ours.counts * self.document_frequency.weights(ours.numbers)

        # Each hypothesis meets each reference of its image: M meetings.
        sizes = theirs.sizes[chosen]
        first = np.cumsum(sizes) - sizes  # (N,) the first meeting of each hypothesis
        hypothesis = np.repeat(np.arange(len(hypotheses)), sizes)  # (M,)
        reference = np.repeat(theirs.first[chosen], sizes) + ranges(sizes)  # (M,)

        sums = self._products(ours, weights, chosen, first, len(hypothesis))
        norms = _norms(ours.rows, ours.orders, weights, len(hypotheses))[hypothesis] * self._norms[reference]
        cosines = np.divide(sums, norms, out=np.zeros_like(sums), where=norms > 0)  # (M, MAX_ORDER)
        gaps = (_pairs(ours.lengths)[hypothesis] - _pairs(theirs.lengths)[reference]).astype(np.float64)
        similarities = cosines.mean(axis=1) * np.exp(-(gaps**2) / (2 * CIDER_SIGMA**2))
        return 1000.0 * add_up(hypothesis, similarities, len(hypotheses)) / sizes

    def _products(self, ours: Counts, weights: Floats, chosen: Integers, first: Integers, num_meetings: int) -> Floats:
        """The clipped inner products (M, MAX_ORDER) of each hypothesis with each reference that it meets."""
        theirs = self.references
        runs, found = theirs.find(chosen[ours.rows], ours.numbers)
        runs = runs[found]
        repeats = theirs.run_sizes[runs]
        # Each n-gram of a hypothesis that a reference has too: P pairs of entries.
        our_entry = np.repeat(np.flatnonzero(found), repeats)  # (P,)
        their_entry = np.repeat(theirs.run_starts[runs], repeats) + ranges(repeats)  # (P,)
        products = np.minimum(weights[our_entry], self._weights[their_entry]) * self._weights[their_entry]
        row = ours.rows[our_entry]
        meeting = first[row] + theirs.rows[their_entry] - theirs.first[chosen[row]]
        cells = meeting * MAX_ORDER + ours.orders[our_entry]
        return add_up(cells, products, num_meetings * MAX_ORDER).reshape(-1, MAX_ORDER)


def _norms(rows: Integers, orders: Integers, weights: Floats, num_rows: int) -> Floats:
    """The length (num_rows, MAX_ORDER) of each sentence's tf-idf vectors."""
    squares = add_up(rows * MAX_ORDER + orders, weights**2, num_rows * MAX_ORDER)
    return np.sqrt(squares).reshape(-1, MAX_ORDER)


def _pairs(lengths: Integers) -> Integers:
    """coco-caption's length is the number of word pairs: an empty sentence is as long as a single word."""
    return np.maximum(lengths - 1, 0)


def _check(hypotheses: Sequence[Words], references: Sequence[Sequence[Words]]) -> None:
    check_references(references)
    _check_number(hypotheses, len(references))


def _check_number(hypotheses: Sequence[Tokens], num_images: int) -> None:
    if len(hypotheses) != num_images:
        raise DatasetError(f"There are {len(hypotheses)} hypotheses for {num_images} images: give one for each.")
