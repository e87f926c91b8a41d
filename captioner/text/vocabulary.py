"""Vocabulary: the words that a model knows, each with its id."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

SPECIAL_WORDS: Final = ("<pad>", "<start>", "<end>", "<unk>")


class Vocabulary:
    """An immutable list of words; the first four ids are `<pad>`, `<start>`, `<end>` and `<unk>`."""

    pad: Final = 0
    start: Final = 1
    end: Final = 2
    unk: Final = 3

    def __init__(self, words: Iterable[str]) -> None:
        """Take ordinary `words` in id order, the special ones left out.

        Raises:
            ValueError: a word occurs twice, is empty, or is one of the special words.
        """
        self.words: tuple[str, ...] = (*SPECIAL_WORDS, *words)
        self._ids = {word: i for i, word in enumerate(self.words)}
        if len(self._ids) != len(self.words):
            raise ValueError("a vocabulary's words must differ from each other and from the special words")
        if "" in self._ids:
            raise ValueError("an empty string is no word")

    @classmethod
    def build(cls, captions: Iterable[Sequence[str]], *, min_count: int) -> Vocabulary:
        """The words that occur at least `min_count` times in the tokenised `captions`, most frequent first."""
        return cls.of_counts(Counter(word for caption in captions for word in caption), min_count=min_count)

    @classmethod
    def of_counts(cls, counts: Mapping[str, int], *, min_count: int) -> Vocabulary:
        """The words that are counted at least `min_count` times, most frequent first."""
        kept = [word for word, count in counts.items() if count >= min_count and word not in SPECIAL_WORDS]
        return cls(sorted(kept, key=lambda word: (-counts[word], word)))

    @property
    def ordinary(self) -> tuple[str, ...]:
        """The words without the four special ones."""
        return self.words[len(SPECIAL_WORDS) :]

    def __len__(self) -> int:
        return len(self.words)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and other.words == self.words

    def __hash__(self) -> int:
        return hash(self.words)

    def encode(self, words: Iterable[str]) -> list[int]:
        """The ids of `words`; a word that is not known becomes `<unk>`."""
        return [self._ids.get(word, self.unk) for word in words]

    def decode(self, tokens: Iterable[int]) -> list[str]:
        """The words of `tokens` (ids)."""
        return [self.words[token] for token in tokens]
