"""BLEU, ROUGE-L and CIDEr-D against coco-caption's own: stored answers everywhere, pycocoevalcap where it is."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from captioner.errors import DatasetError
from captioner.evaluation.metrics import (
    CiderD,
    DocumentFrequency,
    bleu,
    bleu_of,
    bleu_statistics,
    longest_common_subsequence,
    rouge_l,
)
from captioner.evaluation.ngrams import CountedReferences, Words

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "metrics.json").read_text(encoding="utf-8"))
POINTS = 0.01  # how far from the official values we may be, on the scale of 0 to 100

Corpus = tuple[list[list[str]], list[list[list[str]]]]


def words(sentence: str) -> list[str]:
    return sentence.split(" ") if sentence else []


@pytest.fixture(scope="module")
def golden() -> Corpus:
    hypotheses = [words(sentence) for sentence in GOLDEN["hypotheses"]]
    return hypotheses, [[words(sentence) for sentence in group] for group in GOLDEN["references"]]


def generate(seed: int) -> Corpus:
    """A corpus of few words, so that n-grams repeat, with empty sentences in it."""
    dice = random.Random(seed)
    vocabulary = [f"w{i}" for i in range(dice.choice([2, 6, 30]))]

    def sentence() -> list[str]:
        return dice.choices(vocabulary, k=dice.choice([0, 1, 2, 5, 9, 14]))

    num_images = dice.choice([1, 2, 40])
    hypotheses = [sentence() for _ in range(num_images)]
    return hypotheses, [[sentence() for _ in range(dice.randint(1, 6))] for _ in range(num_images)]


def official(name: str, hypotheses: Sequence[Words], references: Sequence[Sequence[Words]]) -> tuple[Any, Any]:
    """The corpus's value, and those of its images, of one of pycocoevalcap's scorers."""
    module = pytest.importorskip(f"pycocoevalcap.{name}.{name}", reason="pycocoevalcap is not installed")
    scorer = getattr(module, name.capitalize())()
    hypothesis_strings = {i: [" ".join(hypothesis)] for i, hypothesis in enumerate(hypotheses)}
    reference_strings = {i: [" ".join(reference) for reference in group] for i, group in enumerate(references)}
    options = {"verbose": 0} if name == "bleu" else {}
    corpus, images = scorer.compute_score(reference_strings, hypothesis_strings, **options)
    return 100 * np.array(corpus), 100 * np.array(images)


def test_stored_bleu(golden: Corpus) -> None:
    assert bleu(*golden) == pytest.approx(GOLDEN["bleu"], abs=POINTS)


def test_stored_rouge_l(golden: Corpus) -> None:
    assert rouge_l(*golden) == pytest.approx(np.array(GOLDEN["rouge_l"]), abs=POINTS)


def test_stored_cider_d(golden: Corpus) -> None:
    hypotheses, references = golden
    assert CiderD(references).score(hypotheses) == pytest.approx(np.array(GOLDEN["cider_d"]), abs=POINTS)


def test_stored_values_are_still_the_official_ones(golden: Corpus) -> None:
    assert official("bleu", *golden)[0] == pytest.approx(np.array(GOLDEN["bleu"]))
    assert official("rouge", *golden)[1] == pytest.approx(np.array(GOLDEN["rouge_l"]))
    assert official("cider", *golden)[1] == pytest.approx(np.array(GOLDEN["cider_d"]))


@pytest.mark.parametrize("seed", range(25))
def test_equal_to_the_official_scorers(seed: int) -> None:
    hypotheses, references = generate(seed)
    assert np.array(bleu(hypotheses, references)) == pytest.approx(official("bleu", hypotheses, references)[0])
    assert rouge_l(hypotheses, references) == pytest.approx(official("rouge", hypotheses, references)[1])
    if any(words for group in references for words in group):  # the official CIDEr fails where no reference has a word
        scores = CiderD(references).score(hypotheses)
        corpus, images = official("cider", hypotheses, references)
        assert scores == pytest.approx(images)
        assert scores.mean() == pytest.approx(float(corpus))


def test_bleu_of_a_perfect_and_of_a_hopeless_corpus() -> None:
    references = [[["a", "red", "square", "here"]], [["two", "blue", "circles", "there"]]]
    assert bleu([group[0] for group in references], references) == pytest.approx((100, 100, 100, 100), abs=1e-4)
    assert bleu([["x"] * 4, ["y"] * 4], references) == pytest.approx((0, 0, 0, 0), abs=1e-4)
    assert bleu([[], []], references) == pytest.approx((0, 0, 0, 0), abs=1e-4)


def test_bleu_takes_the_closest_reference_length_and_the_shorter_of_two() -> None:
    one = [["a", "b", "c"], ["a", "b", "c", "d", "e"]]
    # 4 words: both references are one word away; the shorter counts, so there is no brevity penalty.
    assert bleu([["a", "b", "c", "d"]], [one])[0] == pytest.approx(100.0, abs=1e-4)
    # 2 words against 3: exp(1 - 3 / 2).
    assert bleu([["a", "b"]], [one])[0] == pytest.approx(100.0 * np.exp(-0.5), abs=1e-4)


def test_bleu_of_some_images_is_that_of_their_sums(golden: Corpus) -> None:
    hypotheses, references = golden
    statistics = bleu_statistics(hypotheses, CountedReferences(references))
    draws = [[0, 0, 4, 7], list(range(40)), [3]]  # the fourth hypothesis is empty
    values = bleu_of(np.stack([statistics[draw].sum(axis=0) for draw in draws]))
    for draw, value in zip(draws, values, strict=True):
        assert value == pytest.approx(bleu([hypotheses[i] for i in draw], [references[i] for i in draw]))


def test_longest_common_subsequence_by_hand() -> None:
    assert longest_common_subsequence(list("abcd"), list("xbyd")) == 2
    assert longest_common_subsequence(list("abcbdab"), list("bdcaba")) == 4
    assert longest_common_subsequence([], ["a"]) == 0
    assert longest_common_subsequence(["a"] * 100, ["a"] * 70) == 70


def test_cider_d_of_chosen_images_equals_that_of_all(golden: Corpus) -> None:
    hypotheses, references = golden
    cider = CiderD(references)
    scores = cider.score(hypotheses)
    chosen = [7, 0, 7, 31]
    assert cider.score([hypotheses[i] for i in chosen], chosen) == pytest.approx(scores[chosen])
    assert cider.score([], []).shape == (0,)


def test_cider_d_of_ids_equals_that_of_words(golden: Corpus) -> None:
    hypotheses, references = golden
    every = {word for group in [hypotheses, *references] for sentence in group for word in sentence}
    number = {word: i for i, word in enumerate(sorted(every))}
    # A token with a space in it is split in two, which an id is not.
    hypotheses = [["square" if "\u00a0" in word else word for word in sentence] for sentence in hypotheses]
    references = [
        [["square" if "\u00a0" in word else word for word in sentence] for sentence in group] for group in references
    ]
    ids = [[[number[word] for word in sentence] for sentence in group] for group in references]
    scores = CiderD(ids, DocumentFrequency(ids)).score([[number[word] for word in sentence] for sentence in hypotheses])
    assert scores == pytest.approx(CiderD(references).score(hypotheses))


def test_cider_d_with_given_document_frequency_equals_that_of_all(golden: Corpus) -> None:
    hypotheses, references = golden
    frequency = DocumentFrequency(references)
    scores = CiderD(references).score(hypotheses)
    assert CiderD(references[4:9], frequency).score(hypotheses[4:9]) == pytest.approx(scores[4:9])


def test_cider_d_of_references_that_the_document_frequency_does_not_know() -> None:
    frequency = DocumentFrequency([[["a", "square"]], [["a", "circle"]]])
    cider = CiderD([[["purple", "star"]]], frequency)
    # Unseen words weigh log 2; orders 3 and 4 have no n-grams, so the best score is 10 times one half.
    assert cider.score([["purple", "star"]]) == pytest.approx(np.array([500.0]))
    assert cider.score([["orange", "star"]]) == pytest.approx(np.array([125.0]))
    assert cider.score([["orange", "moon"]]) == pytest.approx(np.array([0.0]))


def test_scoring_leaves_the_references_as_they_were(golden: Corpus) -> None:
    hypotheses, references = golden
    cider = CiderD(references)
    first = cider.score(hypotheses)
    cider.score([["entirely", "new", "words"]] * len(hypotheses))
    assert np.array_equal(cider.score(hypotheses), first)


REFERENCES = [[["a", "square"]], [["a", "circle"]]]


@pytest.mark.parametrize("metric", [bleu, rouge_l])
def test_one_hypothesis_for_each_image(metric: Any) -> None:
    with pytest.raises(DatasetError, match="There are 1 hypotheses for 2 images: give one for each"):
        metric([["a"]], REFERENCES)
    with pytest.raises(DatasetError, match=r"Image 1 \(counted from 0\) has no reference"):
        metric([["a"], ["b"]], [[["a"]], []])
    with pytest.raises(DatasetError, match="There is nothing to score"):
        metric([], [])


def test_cider_d_refuses_what_does_not_fit() -> None:
    cider = CiderD(REFERENCES)
    with pytest.raises(DatasetError, match="There are 1 hypotheses for 2 images"):
        cider.score([["a"]])
    with pytest.raises(DatasetError, match="The references are of 2 images: number them from 0"):
        cider.score([["a"]], [2])
    with pytest.raises(DatasetError, match="There is nothing to score"):
        CiderD([])
    with pytest.raises(DatasetError, match="Image 0"):
        DocumentFrequency([[]])
