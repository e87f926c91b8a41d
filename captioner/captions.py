"""Captions: what the model says of a picture, as every door hands it out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from typing_extensions import TypedDict  # of the standard library from Python 3.12 on, as far as pydantic reads it

from captioner.errors import ImageError
from captioner.images import ImageSource


@dataclass(frozen=True, kw_only=True)
class Word:
    """A word of a caption and the probability that the model gave it after the words before."""

    word: str
    probability: float


@dataclass(frozen=True, kw_only=True)
class Alternative:
    """Another caption of the n-best; score, log_probability and confidence are those of a `Caption`."""

    caption: str
    score: float
    log_probability: float
    confidence: float


@dataclass(frozen=True, kw_only=True)
class Caption:
    """The best caption of a picture.

    Attributes:
        score: the length-normalised log-probability (natural logarithm), which search ranks by.
        log_probability: of the whole sentence, its end included.
        confidence: the share of its words, 0 to 1, that one may expect to find in people's captions of the picture
            (see captioner/confidence.py).
        alternatives: the rest of the n-best, best first.
        attention: (T, rows, columns), where the model looked for each of the T words; None without attention.
    """

    text: str
    score: float
    log_probability: float
    confidence: float
    words: tuple[Word, ...]
    alternatives: tuple[Alternative, ...]
    attention: npt.NDArray[np.float32] | None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one source: either its caption or its error."""

    source: ImageSource
    caption: Caption | None
    error: ImageError | None


@dataclass(frozen=True, kw_only=True)
class SentenceScore:
    """How well a given sentence fits a picture, by the model's probabilities.

    Attributes:
        log_probability: of the sentence and its end, natural logarithm.
        score: log_probability a token: divided by the number of words and one, for the end.
        margin: how much higher the score is than the mean of its scores on other pictures; None if there were none. A
            sentence that fits any picture is probable everywhere, and one with rare words nowhere: the margin sees
            only what this picture changes.
        words: the sentence's words; of one that the model does not know, the probability is that of `<unk>`.
        unknown: the words that the model does not know.
    """

    sentence: str
    log_probability: float
    score: float
    margin: float | None
    words: tuple[Word, ...]
    unknown: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What became of one picture with given sentences: either a score for each, or its error."""

    source: ImageSource
    scores: tuple[SentenceScore, ...]
    error: ImageError | None


class WordRow(TypedDict):
    """A word of a caption."""

    word: str
    probability: Annotated[float, "That the model gave it after the words before, 0 to 1."]


class AlternativeRow(TypedDict):
    """Another caption of the same picture; its numbers are those of a caption."""

    caption: str
    score: float
    log_probability: float
    confidence: float


class CaptionRow(TypedDict):
    """A picture and its caption; numbers have 4 decimals."""

    image: Annotated[str, "The name that its sender gave the picture."]
    caption: str
    score: Annotated[float, "The length-normalised log-probability (natural logarithm), which search ranks by."]
    confidence: Annotated[float, "The share of its words that one may expect in people's captions, 0 to 1."]
    alternatives: Annotated[list[AlternativeRow], "The rest of the captions that were asked for, best first."]
    words: list[WordRow]
    model: Annotated[str, "Name and digest of the model, as name@digest."]


class Failure(TypedDict):
    """Why a picture has no caption."""

    type: Annotated[str, "The name of the error, such as UnreadableImage."]
    detail: Annotated[str, "One sentence for people."]


class FailureRow(TypedDict):
    """A picture that could not be used."""

    image: Annotated[str, "The name that its sender gave the picture."]
    error: Failure


def row(outcome: Outcome, *, image: str, model: str) -> dict[str, Any]:
    """The row that every door hands out, as JSON values: a `CaptionRow` or a `FailureRow`."""
    caption = outcome.caption
    if caption is None:
        failure: FailureRow = {
            "image": image,
            "error": {"type": type(outcome.error).__name__, "detail": str(outcome.error)},
        }
        return dict(failure)
    made: CaptionRow = {
        "image": image,
        "caption": caption.text,
        "score": round(caption.score, 4),
        "confidence": round(caption.confidence, 4),
        "alternatives": [
            {
                "caption": other.caption,
                "score": round(other.score, 4),
                "log_probability": round(other.log_probability, 4),
                "confidence": round(other.confidence, 4),
            }
            for other in caption.alternatives
        ],
        "words": [{"word": word.word, "probability": round(word.probability, 4)} for word in caption.words],
        "model": model,
    }
    return dict(made)
