"""Models that are hand-written tables, and searches over them that are too simple to be wrong."""

import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Self

import torch
from torch import Tensor

from captioner.decoding.options import DecodingOptions
from captioner.decoding.search import Hypothesis, StepFunction, search

PAD, START, END, UNK = 0, 1, 2, 3
FORBIDDEN = (PAD, START, UNK)
Prefix = tuple[int, ...]
Table = Callable[[int, Prefix], Sequence[float]]  # the image and the words so far -> V log-probabilities
ATTENTION_WIDTH = 12


@dataclass(frozen=True)
class Prefixes:
    """The state of a table model: which image each row is, and what each of its beams was fed after <start>."""

    images: tuple[int, ...]
    beams: tuple[tuple[Prefix, ...], ...]

    @classmethod
    def of(cls, *images: int) -> Self:
        return cls(images, tuple(((),) for _ in images))

    def reorder(self, images: Tensor, beams: Tensor) -> Self:
        kept: list[int] = images.tolist()
        assert kept == sorted(set(kept))
        chosen: list[list[int]] = beams.tolist()
        assert len(chosen) == len(kept)
        return type(self)(
            tuple(self.images[row] for row in kept),
            tuple(tuple(self.beams[row][beam] for beam in slots) for row, slots in zip(kept, chosen, strict=True)),
        )


@dataclass
class TableStep:
    """A step function from a table. Attention, if asked for, spells out the prefix that it was computed for."""

    table: Table
    dtype: torch.dtype = torch.float64
    attention: bool = False
    fed: list[list[list[int]]] = field(default_factory=list)

    def __call__(self, tokens: Tensor, state: Prefixes, /) -> tuple[Tensor, Tensor | None, Prefixes]:
        fed: list[list[int]] = tokens.tolist()
        self.fed.append(fed)
        assert [len(row) for row in fed] == [len(row) for row in state.beams]
        after = Prefixes(
            state.images,
            tuple(
                tuple((*prefix, token) for prefix, token in zip(prefixes, row, strict=True))
                for prefixes, row in zip(state.beams, fed, strict=True)
            ),
        )
        values = [
            [self.table(image, prefix[1:]) for prefix in prefixes]
            for image, prefixes in zip(after.images, after.beams, strict=True)
        ]
        attention = [[attention_of(prefix[1:]) for prefix in prefixes] for prefixes in after.beams]
        return (
            torch.tensor(values, dtype=self.dtype),
            torch.tensor(attention, dtype=self.dtype) if self.attention else None,
            after,
        )


def attention_of(prefix: Prefix) -> list[float]:
    return [float(token) for token in prefix] + [-1.0] * (ATTENTION_WIDTH - len(prefix))


def random_table(seed: int, vocabulary_size: int) -> Table:
    """Log-probabilities that depend on the whole prefix."""

    def table(image: int, prefix: Prefix) -> list[float]:
        source = random.Random(f"{seed} {image} {prefix}")
        logits = [source.gauss(0, 1.5) for _ in range(vocabulary_size)]
        return torch.tensor(logits, dtype=torch.float64).log_softmax(0).tolist()

    return table


def tied_table(seed: int, vocabulary_size: int) -> Table:
    """Few different values, so that ties are everywhere; all sums are exact."""

    def table(image: int, prefix: Prefix) -> list[float]:
        source = random.Random(f"{seed} {image} {prefix}")
        return [source.choice((-0.5, -1.0, -1.0, -math.inf)) for _ in range(vocabulary_size)]

    return table


def decode(
    step: StepFunction[Prefixes], options: DecodingOptions, *images: int, forbidden: Sequence[int] = FORBIDDEN
) -> list[list[Hypothesis]]:
    return search(
        step,
        Prefixes.of(*images),
        num_images=len(images),
        start=START,
        end=END,
        pad=PAD,
        forbidden=forbidden,
        options=options,
    )


def run(table: Table, options: DecodingOptions, *images: int) -> list[list[Hypothesis]]:
    return decode(TableStep(table), options, *images)


def teacher_forced(table: Table, image: int, tokens: Prefix) -> list[float]:
    return [table(image, tokens[:index])[token] for index, token in enumerate((*tokens, END))]


def score_of(table: Table, image: int, tokens: Prefix, length_penalty: float) -> float:
    return sum(teacher_forced(table, image, tokens)) / math.pow(len(tokens) + 1, length_penalty)


def allowed(options: DecodingOptions, num_words: int, vocabulary_size: int) -> list[int]:
    words = [token for token in range(vocabulary_size) if token not in (*FORBIDDEN, END)]
    ends = [END] if num_words >= options.min_length else []
    return ends + (words if num_words < options.max_length else [])


def exhaustive(table: Table, image: int, options: DecodingOptions, vocabulary_size: int) -> list[tuple[float, Prefix]]:
    """Every possible caption, best first."""
    words = [token for token in range(vocabulary_size) if token not in (*FORBIDDEN, END)]
    captions = [
        tokens
        for length in range(options.min_length, options.max_length + 1)
        for tokens in itertools.product(words, repeat=length)
    ]
    return sorted(
        ((score_of(table, image, tokens, options.length_penalty), tokens) for tokens in captions), reverse=True
    )


def plain_greedy(table: Table, image: int, options: DecodingOptions, vocabulary_size: int) -> Prefix:
    tokens: Prefix = ()
    while True:
        values = table(image, tokens)
        best = max(allowed(options, len(tokens), vocabulary_size), key=lambda token: (values[token], -token))
        if best == END:
            return tokens
        tokens = (*tokens, best)


def plain_beam(table: Table, image: int, options: DecodingOptions, vocabulary_size: int) -> list[tuple[float, Prefix]]:
    """The contract's rule for one image with lists: (score, whether it goes on, slot, token) decides."""
    slots: list[tuple[float, float, Prefix, bool]] = [
        (-math.inf, 0.0, (), True)
    ]  # score, sum, tokens, whether it goes on
    for num_words in range(options.max_length + 1):
        candidates: list[tuple[float, bool, int, int, float, Prefix, bool]] = []
        for slot, (score, total, tokens, goes_on) in enumerate(slots):
            if not goes_on:
                candidates.append((-score, False, slot, 0, total, tokens, False))
                continue
            for token in allowed(options, num_words, vocabulary_size):
                longer = total + table(image, tokens)[token]
                normalised = longer / float((num_words + 1) ** options.length_penalty)
                more = tokens if token == END else (*tokens, token)
                candidates.append((-normalised, True, slot, token, longer, more, token != END))
        best = sorted(each for each in candidates if each[0] < math.inf)[: options.beam_size]
        slots = [(-negative, total, tokens, goes_on) for negative, _, _, _, total, tokens, goes_on in best]
        if not any(goes_on for *_, goes_on in slots):
            break
    return [(score, tokens) for score, _, tokens, _ in slots][: options.num_captions]
