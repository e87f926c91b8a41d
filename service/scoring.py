"""What `POST /v1/score` is asked and answers: how well do given sentences fit given pictures?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from flask import Request
from typing_extensions import TypedDict

from captioner.captions import FailureRow, Judged, SentenceScore, WordRow
from captioner.text import tokenizer
from service.captioning import Picture
from service.encoded import read_json, shown
from service.intake import FIELD, IMAGES, is_json, read_json_pictures, read_pictures, refuse_addresses
from service.problems import Problem
from service.settings import Settings

SENTENCE = "sentence"  # the field of a form
SENTENCES = "sentences"  # the member of a JSON body
MAX_SENTENCES = 16
MAX_SENTENCE_LENGTH = 500  # characters
MAX_PAIRS = 64  # pictures times sentences: every pair runs through the model by itself


@dataclass(frozen=True, kw_only=True)
class ScoreRequest:
    """Every one of the sentences is tried on every one of the pictures."""

    pictures: list[Picture]
    sentences: list[str]


class SentenceRow(TypedDict):
    """How well one sentence fits; numbers have 4 decimals."""

    sentence: str
    score: Annotated[float, "log_probability divided by the number of words and one, for the end."]
    log_probability: Annotated[float, "Of the sentence and its end, natural logarithm."]
    words: list[WordRow]
    unknown: Annotated[list[str], "The words that the model does not know."]


class ScoreRow(TypedDict):
    """A picture and its sentences."""

    image: Annotated[str, "The name that its sender gave the picture."]
    sentences: Annotated[list[SentenceRow], "In the order of the request."]
    model: Annotated[str, "Name and digest of the model, as name@digest."]


def read_score_request(request: Request, settings: Settings) -> ScoreRequest:
    """The pictures and sentences of a multipart form or of a JSON body.

    Raises a `Problem`: as `read_pictures`, 413 for too many or too long sentences, 422 for none, and for one without
    words or with more than `settings.max_words`.
    """
    sentences: object
    if is_json(request):
        body = read_json(request)
        refuse_addresses(request.args)
        pictures = read_json_pictures(body, settings)
        sentences = body.pop(SENTENCES, None)
        others = [*body, *request.args]
    else:
        pictures = read_pictures(request, settings)
        sentences = request.form.getlist(SENTENCE)
        others = [*(name for name in request.form if name != SENTENCE), *request.args]
    refuse_addresses(others)
    if others:
        members = (IMAGES, SENTENCES) if is_json(request) else (FIELD, SENTENCE)
        raise Problem(422, f"{shown(others[0])} is no field here; the fields are {' and '.join(members)}.")
    return ScoreRequest(pictures=pictures, sentences=_checked(sentences, len(pictures), settings))


def score_row(judged: Judged, *, image: str, model: str) -> ScoreRow | FailureRow:
    """The row of one picture, as JSON values: its sentences in the order of the request, or its error."""
    if judged.error is not None:
        return {"image": image, "error": {"type": type(judged.error).__name__, "detail": str(judged.error)}}
    return {"image": image, "sentences": [_sentence_row(score) for score in judged.scores], "model": model}


def _sentence_row(score: SentenceScore) -> SentenceRow:
    return {
        "sentence": score.sentence,
        "score": round(score.score, 4),
        "log_probability": round(score.log_probability, 4),
        "words": [{"word": word.word, "probability": round(word.probability, 4)} for word in score.words],
        "unknown": list(score.unknown),
    }


def _checked(sentences: object, pictures: int, settings: Settings) -> list[str]:
    if isinstance(sentences, str):
        sentences = [sentences]
    if not isinstance(sentences, list) or not sentences:
        raise Problem(422, f"There is no sentence in the request; send {SENTENCE} fields or a list {SENTENCES}.")
    most = min(MAX_SENTENCES, MAX_PAIRS // pictures)
    if len(sentences) > most:
        shared = "1 picture" if pictures == 1 else f"{pictures} pictures"
        raise _too_many(f"{len(sentences)} sentences are too many for {shared}; send at most {most}.")
    for number, sentence in enumerate(sentences, start=1):
        if not isinstance(sentence, str):
            raise Problem(422, f"Sentence {number} is no string.")
        if len(sentence) > MAX_SENTENCE_LENGTH:
            raise _too_many(f"Sentence {number} has more than {MAX_SENTENCE_LENGTH} characters; shorten it.")
        words = len(tokenizer.tokenize(sentence))
        if not words:
            raise Problem(422, f"Sentence {number} has no words; write at least one.")
        if words > settings.max_words:
            raise _too_many(f"Sentence {number} has {words} words; this service allows at most {settings.max_words}.")
    return sentences


def _too_many(detail: str) -> Problem:
    return Problem(413, detail, kind="too-many-sentences")
