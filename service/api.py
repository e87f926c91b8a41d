"""The JSON API: captions, scores of sentences, the model, and the health checks."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NotRequired

from flask import Blueprint, Response, jsonify, request
from typing_extensions import TypedDict

from captioner.captions import CaptionRow, FailureRow, Judged, Outcome
from captioner.decoding.options import DecodingOptions
from service import samples
from service.bodies import ENCODED_PROBLEMS, UPLOAD_PROBLEMS, caption_bodies, query_schemas, score_bodies
from service.captioning import Captioning, Engine
from service.intake import read_caption_request
from service.operations import JSON, Operation, documented
from service.problems import Problem
from service.scoring import ScoreRow, read_score_request, score_row
from service.settings import Settings

PICTURES = "Captions and scores"
OPERATIONS = "Operations"


class Timings(TypedDict):
    """What the request took."""

    total_seconds: Annotated[float, "From the moment when a thread took the whole request."]


class CaptionedRow(CaptionRow):
    """A picture, its caption, and where the model looked if that was asked for; numbers have 4 decimals."""

    attention: NotRequired[
        Annotated[
            list[list[list[float]]] | None,
            "For each word, rows and columns of the share that the model gave each part of the picture; "
            "null of a model without attention.",
        ]
    ]


class CaptionAnswer(TypedDict):
    """One row a picture, in the order of the request."""

    captions: list[CaptionedRow | FailureRow]
    timings: Timings


class ScoreAnswer(TypedDict):
    """One row a picture, in the order of the request."""

    scores: list[ScoreRow | FailureRow]
    timings: Timings


class ModelAnswer(TypedDict):
    """What anyone may know about the model."""

    name: str
    digest: Annotated[str, "The first 12 hexadecimal digits of the SHA-256 of its manifest."]
    licence: str | None
    scores: Annotated[dict[str, Any] | None, "How it was evaluated, as its manifest has it."]
    decoding: DecodingOptions


class StatusAnswer(TypedDict):
    """A health check's answer."""

    status: str


MODEL = Operation(tag=PICTURES, answer={JSON: ModelAnswer}, examples=("curl {url}/v1/model",), sample=samples.MODEL)
HEALTHZ = Operation(tag=OPERATIONS, answer={JSON: StatusAnswer}, examples=("curl {url}/healthz",))
READYZ = Operation(
    tag=OPERATIONS, answer={JSON: StatusAnswer}, problems=("unavailable",), examples=("curl {url}/readyz",)
)


def create_blueprint(captioning: Captioning, settings: Settings, ready: Callable[[], bool]) -> Blueprint:
    """POST /v1/captions, POST /v1/score, GET /v1/model, /healthz (the process lives), /readyz (it takes requests)."""
    api = Blueprint("api", __name__)

    @api.post("/v1/captions")
    @documented(_captions_operation(captioning.engine.options, settings))
    def captions() -> Response:
        """Captions of one or many pictures.

        The pictures come as a form, as one raw body, or in JSON; the options in the query, in the form or in the JSON,
        each of them once. One row a picture, in the order of the request: among many, a bad picture is a row with its
        error; a request for one picture fails with it.
        """
        return _captions(captioning, settings)

    @api.post("/v1/score")
    @documented(_score_operation(settings))
    def score() -> Response:
        """How well given sentences fit given pictures.

        A score is the mean log-probability of a word. Compare sentences on one picture with it; it says little about
        one sentence on two pictures.
        """
        return _scores(captioning, settings)

    @api.get("/v1/model")
    @documented(MODEL)
    def model() -> Response:
        """The model: its name, digest, licence, scores and decoding options."""
        return jsonify(describe(captioning.engine))

    @api.get("/healthz")
    @documented(HEALTHZ)
    def healthz() -> Response:
        """The process lives. Open to everyone."""
        return jsonify({"status": "ok"})

    @api.get("/readyz")
    @documented(READYZ)
    def readyz() -> Response:
        """The service takes requests; 503 when it stops. Open to everyone."""
        if not ready():
            raise Problem(503, "The service is stopping.")
        return jsonify({"status": "ready"})

    return api


def _captions_operation(defaults: DecodingOptions, settings: Settings) -> Operation:
    return Operation(
        tag=PICTURES,
        query=query_schemas(defaults, settings),
        body=caption_bodies(defaults, settings),
        answer={JSON: CaptionAnswer},
        problems=(*UPLOAD_PROBLEMS, *ENCODED_PROBLEMS, "decoding-error"),
        examples=samples.CAPTION_COMMANDS,
        sample=samples.CAPTIONS,
    )


def _score_operation(settings: Settings) -> Operation:
    return Operation(
        tag=PICTURES,
        body=score_bodies(settings),
        answer={JSON: ScoreAnswer},
        problems=(*UPLOAD_PROBLEMS, *ENCODED_PROBLEMS, "too-many-sentences"),
        examples=samples.SCORE_COMMANDS,
        sample=samples.SCORES,
    )


def _captions(captioning: Captioning, settings: Settings) -> Response:
    started = time.monotonic()
    # The place comes first: a full service does not take apart a body that it will refuse. The server has received
    # the body by then; `Settings.max_held_bytes` bounds what that takes.
    with captioning.place():
        asked = read_caption_request(request, captioning.engine.options, settings)
        outcomes = captioning.outcomes(asked.pictures, asked.options)
    _raise_only(outcomes)
    rows = captioning.rows(asked.pictures, outcomes)
    if asked.attention:
        rows = [_with_attention(row, outcome) for row, outcome in zip(rows, outcomes, strict=True)]
    return jsonify({"captions": rows, "timings": _timings(started)})


def _scores(captioning: Captioning, settings: Settings) -> Response:
    started = time.monotonic()
    with captioning.place():
        asked = read_score_request(request, settings)
        judged = captioning.judged(asked.pictures, asked.sentences)
    _raise_only(judged)
    rows = [
        score_row(each, image=picture.name, model=captioning.engine.model)
        for picture, each in zip(asked.pictures, judged, strict=True)
    ]
    answer: ScoreAnswer = {"scores": rows, "timings": _timings(started)}
    return jsonify(answer)


def _raise_only(found: Sequence[Outcome] | Sequence[Judged]) -> None:
    """A request for one picture fails with it; among many, a bad picture is a row with its error."""
    if len(found) == 1 and found[0].error is not None:
        raise found[0].error


def _with_attention(row: dict[str, Any], outcome: Outcome) -> dict[str, Any]:
    """`row` with where the model looked for each word: lists (T, rows, columns), or null for a model without."""
    if outcome.caption is None:
        return row
    attention = outcome.caption.attention
    shown = None if attention is None else attention.astype("float64").round(4).tolist()
    return {**row, "attention": shown}


def _timings(started: float) -> Timings:
    """From the moment when a thread took the request, whose body has been received by then."""
    return {"total_seconds": round(time.monotonic() - started, 4)}


def describe(engine: Engine) -> ModelAnswer:
    """What anyone may know about the model: its name, digest, licence, scores and decoding options."""
    name, _, digest = engine.model.partition("@")
    return {
        "name": name,
        "digest": digest,
        "licence": engine.manifest.get("licence"),
        "scores": engine.manifest.get("scores"),
        "decoding": engine.options,
    }
