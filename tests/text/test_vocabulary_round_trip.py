"""Every word of the shipped model survives being written in a sentence and read again."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

import captioner
from captioner.text.tokenizer import join, tokenize

VOCABULARY = Path(captioner.__file__).parent / "bundles" / "default" / "vocabulary.json"
WORDS: list[str] = json.loads(VOCABULARY.read_text(encoding="utf-8"))


def changed(sentences: list[list[str]]) -> list[tuple[list[str], list[str]]]:
    """The sentences that come back as other words, with those words."""
    return [(words, tokenize(join(words))) for words in sentences if tokenize(join(words)) != words]


@pytest.mark.parametrize(("before", "after"), [([], []), (["the"], ["dog"]), (["dog"], []), ([], ["dog"])])
def test_each_word_alone_and_among_others(before: list[str], after: list[str]) -> None:
    assert len(WORDS) > 2000
    assert changed([[*before, word, *after] for word in WORDS]) == []


@pytest.mark.parametrize(
    "neighbour", [word for word in ("'s", "can", "not", "is", "was", "more", "a", "2") if word in WORDS]
)
def test_each_word_beside_one_that_contractions_are_made_of(neighbour: str) -> None:
    assert changed([[word, neighbour] for word in WORDS]) == []
    assert changed([[neighbour, word] for word in WORDS]) == []


def test_all_words_in_one_sentence_in_any_order() -> None:
    shuffled = random.Random(0).sample(WORDS, len(WORDS))
    assert changed([WORDS, WORDS[::-1], shuffled]) == []
