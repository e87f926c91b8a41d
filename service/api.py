"""The JSON API: captions, scores of sentences, the model, and the health checks."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any

from flask import Blueprint, Response, jsonify, request

from captioner.captions import Judged, Outcome
from captioner.decoding.options import DecodingOptions
from service.captioning import Captioning, Engine
from service.intake import read_caption_request
from service.problems import Problem
from service.scoring import read_score_request, score_row
from service.settings import Settings


def create_blueprint(captioning: Captioning, settings: Settings, ready: Callable[[], bool]) -> Blueprint:
    """POST /v1/captions, POST /v1/score, GET /v1/model, /healthz (the process lives), /readyz (it takes requests)."""
    api = Blueprint("api", __name__)

    @api.post("/v1/captions")
    def captions() -> Response:
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

    @api.post("/v1/score")
    def score() -> Response:
        started = time.monotonic()
        with captioning.place():
            asked = read_score_request(request, settings)
            judged = captioning.judged(asked.pictures, asked.sentences)
        _raise_only(judged)
        rows = [
            score_row(each, image=picture.name, model=captioning.engine.model)
            for picture, each in zip(asked.pictures, judged, strict=True)
        ]
        return jsonify({"scores": rows, "timings": _timings(started)})

    @api.get("/v1/model")
    def model() -> Response:
        return jsonify(describe(captioning.engine))

    @api.get("/healthz")
    def healthz() -> Response:
        return jsonify({"status": "ok"})

    @api.get("/readyz")
    def readyz() -> Response:
        if not ready():
            raise Problem(503, "The service is stopping.")
        return jsonify({"status": "ready"})

    return api


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


def _timings(started: float) -> dict[str, float]:
    """From the moment when a thread took the request, whose body has been received by then."""
    return {"total_seconds": round(time.monotonic() - started, 4)}


def describe(engine: Engine) -> dict[str, Any]:
    """What anyone may know about the model: its name, digest, licence, scores and decoding options."""
    name, _, digest = engine.model.partition("@")
    options: DecodingOptions = engine.options
    return {
        "name": name,
        "digest": digest,
        "licence": engine.manifest.get("licence"),
        "scores": engine.manifest.get("scores"),
        "decoding": dataclasses.asdict(options),
    }
