"""Counting n-grams by numbers, against counting them one by one."""

from __future__ import annotations

import random
from collections import Counter

import numpy as np
import pytest

from captioner.errors import DatasetError
from captioner.evaluation.ngrams import MAX_ORDER, CountedReferences, NgramIndex, Tokens, count


def generate(seed: int, number: int = 40) -> list[list[str]]:
    dice = random.Random(seed)
    words = [f"w{i}" for i in range(dice.choice([1, 3, 50]))]
    return [dice.choices(words, k=dice.choice([0, 1, 2, 3, 4, 5, 12])) for _ in range(number)]


def by_hand(sentence: Tokens) -> Counter[tuple[str | int, ...]]:
    return Counter(
        tuple(sentence[start : start + length])
        for length in range(1, MAX_ORDER + 1)
        for start in range(len(sentence) - length + 1)
    )


def index_of(sentences: list[list[str]]) -> NgramIndex:
    index = NgramIndex.empty()
    return index.with_new(index.number(sentences))


@pytest.mark.parametrize("seed", range(8))
def test_counts_are_those_by_hand(seed: int) -> None:
    sentences = generate(seed)
    for index in (NgramIndex.empty(), index_of(generate(seed + 100)), index_of(sentences)):
        counts = count(sentences, index)
        assert counts.lengths.tolist() == [len(sentence) for sentence in sentences]
        numbers: dict[int, Counter[int]] = {}
        for row, sentence in enumerate(sentences):
            expected, mine = by_hand(sentence), counts.rows == row
            for order in range(MAX_ORDER):
                theirs = sorted(times for ngram, times in expected.items() if len(ngram) == order + 1)
                assert sorted(counts.counts[mine & (counts.orders == order)].tolist()) == theirs
            numbers[row] = Counter(dict(zip(counts.numbers[mine].tolist(), counts.counts[mine].tolist(), strict=True)))
        # A number is one n-gram and an n-gram one number: what two sentences share is the same, counted either way.
        for one in range(0, len(sentences), 7):
            for other in range(len(sentences)):
                shared = by_hand(sentences[one]) & by_hand(sentences[other])
                assert (numbers[one] & numbers[other]).total() == shared.total()


def test_numbers_stay_when_an_index_grows() -> None:
    one, other = generate(1), generate(2)
    index = index_of(one)
    larger = index.with_new(index.number(other))
    assert np.array_equal(count(one, larger).numbers, count(one, index).numbers)
    assert len(larger) == len({ngram for sentence in one + other for ngram in by_hand(sentence)})
    assert count(one + other, larger).numbers.max() < len(larger)
    assert len(index) == len({ngram for sentence in one for ngram in by_hand(sentence)})


def test_words_may_be_ids() -> None:
    sentences = generate(3)
    ids = [[int(word[1:]) for word in sentence] for sentence in sentences]
    empty = NgramIndex.empty()
    assert np.array_equal(count(ids, empty).numbers, count(sentences, empty).numbers)


def test_words_are_split_at_white_space() -> None:
    split = count([["call", "555", "1234"]], NgramIndex.empty())
    whole = count([["call", "555\u00a01234", ""]], NgramIndex.empty())
    assert np.array_equal(split.numbers, whole.numbers)
    assert whole.lengths.tolist() == [3]


def test_what_the_references_of_an_image_have() -> None:
    references = CountedReferences([[["a", "b", "a"], ["a"]], [["b"]]])
    a, b = references.index.words["a"], references.index.words["b"]
    runs, found = references.find(np.array([0, 1, 1, 0, 0]), np.array([a, a, b, b, len(references.index)]))
    assert found.tolist() == [True, False, True, True, False]
    assert references.most[runs[0]] == 2
    assert references.run_sizes[runs[0]] == 2  # both references have it
    with pytest.raises(DatasetError, match="Image 1"):
        CountedReferences([[["a"]], []])
