"""How varied and how whole captions are: what a good score hides.

A model that says the same sentence to every picture, stops in the middle, or recites its training captions can score
well. Captions are sentences, as the model gave them; they are compared by the words that the scorers see
(:func:`captioner.evaluation.ptb.tokenize`), so case and punctuation make no difference. No captions at all are a
:class:`~captioner.errors.DatasetError`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from captioner.errors import DatasetError
from captioner.evaluation import ptb

Words = tuple[str, ...]

# Words that need another word after them: articles, possessives, prepositions, conjunctions, relative pronouns and
# auxiliary verbs. Words that often end a sentence of people are left out although they may also break one off: "on"
# ("others look on", "with his shirt on"), "by", "over", "off", "up", "around", "behind", "inside", "another", "her".
# Of Flickr8k's 35,455 captions by people 39 end in a word of this list (some were broken off indeed), and 202 repeat
# themselves ("a man in a ... and a man in a ..."); tests/evaluation/test_diversity.py counts them.
BAD_ENDINGS = frozenset(
    """a an the my your his its our their
    of with at for from to into onto upon in near toward towards among between against beside during
    and or but nor while as than because if that which who whom whose where when
    is are am was were be been being has have""".split()
)
PHRASE_LENGTH = 3  # words of a phrase that no caption should say twice
LOW_CIDER = 10.0  # of 1000: below, a caption shares next to nothing with its references


@dataclass(frozen=True, kw_only=True)
class Distinct:
    """How many different captions there are, and their share of all, 0 to 1."""

    number: int
    share: float


class Example(NamedTuple):
    """A caption, and the image that it is of."""

    name: str
    caption: str


@dataclass(frozen=True, kw_only=True)
class Found:
    """Which captions have a fault: their number, their share of all, 0 to 1, and all of them in their order."""

    number: int
    share: float
    examples: tuple[Example, ...]


@dataclass(frozen=True, kw_only=True)
class Commonest:
    """The caption that is given most often (the first of equals), how often, and its share of all, 0 to 1."""

    caption: str
    number: int
    share: float


@dataclass(frozen=True, kw_only=True)
class NBest:
    """How much the captions of one image's n-best list differ, as means over the images, 0 to 1.

    Attributes:
        length: captions in a list.
        div_1: different words, as a share of all words of the list.
        div_2: different pairs of neighbouring words, as a share of all words of the list.
        distinct: different captions, as a share of the list.
    """

    length: float
    div_1: float
    div_2: float
    distinct: float


class Scored(NamedTuple):
    """A caption, the image that it is of, and its CIDEr-D, 0 to 1000."""

    name: str
    caption: str
    cider: float


@dataclass(frozen=True, kw_only=True)
class Worst:
    """Captions with little in common with their references: those below LOW_CIDER counted, and the worst listed."""

    number: int
    share: float
    examples: tuple[Scored, ...]


class Fact(NamedTuple):
    """One line of a report."""

    name: str
    value: str
    explanation: str


@dataclass(frozen=True, kw_only=True)
class Portrait:
    """What N captions are like; None stands for what was not asked or cannot be known."""

    images: int
    distinct: Distinct
    commonest: Commonest
    mean_length: float
    vocabulary_used: int
    vocabulary_share: float | None
    empty: Found
    bad_endings: Found
    repetitions: Found
    copied: Found | None
    n_best: NBest | None
    worst: Worst | None

    def facts(self) -> list[Fact]:
        """Everything that is known, in words: a name, a value and a sentence that explains it."""
        return [Fact(name, value, explanation) for name, value, explanation in _facts(self) if value is not None]


def distinct(captions: Sequence[str]) -> Distinct:
    """The different captions among ``captions``."""
    return _distinct(_words(captions))


def vocabulary_used(captions: Sequence[str]) -> int:
    """How many different words ``captions`` use."""
    return _vocabulary_used(_words(captions))


def mean_length(captions: Sequence[str]) -> float:
    """Words in a caption, on average."""
    return _mean_length(_words(captions))


def portrait(
    captions: Sequence[str],
    *,
    training: Iterable[str] | None = None,
    n_best: Sequence[Sequence[str]] | None = None,
    vocabulary_size: int | None = None,
    cider: Sequence[float] | npt.NDArray[np.float64] | None = None,
    names: Sequence[str] | None = None,
    worst: int = 10,
) -> Portrait:
    """All measures of N captions; each caption is split into words once.

    Args:
        training: the captions that the model was trained on, to find those that it recites.
        n_best: (N,) the n-best list of each image, its best caption included.
        vocabulary_size: how many words the model knows.
        cider: (N,) CIDEr-D of each caption, 0 to 1000.
        names: (N,) how to name each image in a list of examples; without them, its number from 0.
        worst: how many of the captions with the lowest CIDEr-D to list.

    Raises:
        DatasetError: there are no captions, an n-best list is empty, or the arguments are not of the same N images.
    """
    _check(captions, n_best=n_best, cider=cider, names=names)
    if vocabulary_size is not None and vocabulary_size < 1:
        raise DatasetError(f"A vocabulary of {vocabulary_size} words is none: give the number of words of the model's.")
    known: dict[str, Words] = {}

    def words_of(caption: str) -> Words:
        if caption not in known:
            known[caption] = tuple(ptb.tokenize(caption))
        return known[caption]

    words = [words_of(caption) for caption in captions]
    examples = [
        Example(name, caption)
        for name, caption in zip(names or [str(index) for index in range(len(captions))], captions, strict=True)
    ]
    vocabulary = _vocabulary_used(words)
    recited = None if training is None else {words_of(caption) for caption in training}
    return Portrait(
        images=len(captions),
        distinct=_distinct(words),
        commonest=_commonest(words, captions),
        mean_length=_mean_length(words),
        vocabulary_used=vocabulary,
        vocabulary_share=None if vocabulary_size is None else vocabulary / vocabulary_size,
        empty=_find(words, examples, lambda sentence: not sentence),
        bad_endings=_find(words, examples, _ends_badly),
        repetitions=_find(words, examples, _repeats),
        copied=None if recited is None else _find(words, examples, lambda sentence: sentence in recited),
        n_best=None if n_best is None else _n_best([[words_of(caption) for caption in group] for group in n_best]),
        worst=None if cider is None else _worst(examples, np.asarray(cider, dtype=np.float64), worst),
    )


# --- Measures of words ------------------------------------------------------------------------------------------------


def _distinct(words: Sequence[Words]) -> Distinct:
    number = len(set(words))
    return Distinct(number=number, share=number / len(words))


def _vocabulary_used(words: Sequence[Words]) -> int:
    return len({word for sentence in words for word in sentence})


def _mean_length(words: Sequence[Words]) -> float:
    return sum(map(len, words)) / len(words)


def _commonest(words: Sequence[Words], captions: Sequence[str]) -> Commonest:
    ((sentence, number),) = Counter(words).most_common(1)
    return Commonest(caption=captions[words.index(sentence)], number=number, share=number / len(words))


def _find(words: Sequence[Words], examples: Sequence[Example], has_fault: Callable[[Words], bool]) -> Found:
    found = tuple(example for sentence, example in zip(words, examples, strict=True) if has_fault(sentence))
    return Found(number=len(found), share=len(found) / len(words), examples=found)


def _ends_badly(sentence: Words) -> bool:
    """Whether a caption stops where another word must follow.

    Self-critical training on CIDEr-D (Rennie et al. 2017, https://arxiv.org/abs/1612.00563) is known for such endings.
    To count them by the last word is an idea of ruotianluo/self-critical.pytorch; the list of words is our own.
    """
    return bool(sentence) and sentence[-1] in BAD_ENDINGS


def _repeats(sentence: Words) -> bool:
    """Whether a word follows upon itself, or a phrase of PHRASE_LENGTH words comes twice."""
    if any(one == other for one, other in pairwise(sentence)):
        return True
    phrases = [sentence[start : start + PHRASE_LENGTH] for start in range(len(sentence) - PHRASE_LENGTH + 1)]
    return len(set(phrases)) < len(phrases)


def _n_best(lists: Sequence[Sequence[Words]]) -> NBest:
    """Div-1, Div-2 and the share of different captions; a list without a word has Div 0.

    Source: Shetty et al. 2017, https://arxiv.org/abs/1703.10476: both are divided by the number of words.
    """
    singles: list[float] = []
    pairs: list[float] = []
    for group in lists:
        total = max(sum(map(len, group)), 1)
        singles.append(len({word for sentence in group for word in sentence}) / total)
        neighbours = {pair for sentence in group for pair in pairwise(sentence)}
        pairs.append(len(neighbours) / total)
    return NBest(
        length=sum(map(len, lists)) / len(lists),
        div_1=sum(singles) / len(lists),
        div_2=sum(pairs) / len(lists),
        distinct=sum(len(set(group)) / len(group) for group in lists) / len(lists),
    )


def _worst(examples: Sequence[Example], cider: npt.NDArray[np.float64], number: int) -> Worst:
    low = int((cider < LOW_CIDER).sum())
    lowest = np.argsort(cider, kind="stable")[:number]  # of equals, the first
    return Worst(
        number=low,
        share=low / len(examples),
        examples=tuple(Scored(examples[index].name, examples[index].caption, float(cider[index])) for index in lowest),
    )


# --- Arguments and words ----------------------------------------------------------------------------------------------


def _words(captions: Sequence[str]) -> list[Words]:
    _check(captions)
    return [tuple(ptb.tokenize(caption)) for caption in captions]


def _check(captions: Sequence[str], **others: Sequence[object] | npt.NDArray[np.float64] | None) -> None:
    if not captions:
        raise DatasetError("There are no captions to measure: give at least one.")
    for name, values in others.items():
        if values is not None and len(values) != len(captions):
            raise DatasetError(
                f"There are {len(captions)} captions but {len(values)} values of {name}: give one for each image."
            )
    for index, group in enumerate(others.get("n_best") or ()):
        if not group:
            raise DatasetError(f"The n-best list of image {index} is empty: give at least its best caption.")


def _facts(portrait: Portrait) -> Iterable[tuple[str, str | None, str]]:
    images, n_best, worst = portrait.images, portrait.n_best, portrait.worst

    def share(part: Distinct | Found | Commonest | Worst | None) -> str | None:
        return None if part is None else f"{part.number:,} of {images:,} ({100 * part.share:.1f} %)"

    def percent(value: float | None) -> str | None:
        return None if value is None else f"{100 * value:.1f} %"

    yield "distinct captions", share(portrait.distinct), "Captions that differ in their words; few mean stock phrases."
    yield (
        "commonest caption",
        f"{share(portrait.commonest)}: {' '.join(portrait.commonest.caption.split())}",
        "The sentence that is said most often, whatever the picture shows.",
    )
    yield "mean length", f"{portrait.mean_length:.1f} words", "Words in a caption, without punctuation."
    yield "vocabulary used", f"{portrait.vocabulary_used:,} words", "Different words in all captions together."
    yield (
        "share of the vocabulary",
        percent(portrait.vocabulary_share),
        "The words used, as a share of those that the model knows.",
    )
    if portrait.empty.number:
        yield "empty captions", share(portrait.empty), "Captions without a word, which score 0 or nearly so."
    yield (
        "bad endings",
        share(portrait.bad_endings),
        "Captions that stop where a word must follow, as in 'a dog with a'; of people's captions one in 900 does.",
    )
    yield (
        "repetitions",
        share(portrait.repetitions),
        "Captions that say a word twice running or the same three words twice; of people's captions one in 175 does.",
    )
    yield (
        "copied from training",
        share(portrait.copied),
        "Captions that are word for word captions of this data set's training split: right, or merely safe.",
    )
    if n_best is not None:
        lists = f"in lists of {n_best.length:.1f} captions an image"
        yield "Div-1", f"{n_best.div_1:.3f}", f"Different words as a share of all words, {lists}."
        yield "Div-2", f"{n_best.div_2:.3f}", f"Different word pairs as a share of all words, {lists}."
        yield "distinct in n-best", percent(n_best.distinct), f"Captions of one image that differ, {lists}."
    yield (
        f"CIDEr-D below {LOW_CIDER:g}",
        share(worst),
        "Captions that share next to nothing with what people said of the picture.",
    )
