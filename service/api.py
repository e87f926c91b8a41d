"""The JSON API: captions, the model, and the health checks."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from flask import Blueprint, Response, jsonify, request

from captioner.decoding.options import DecodingOptions
from service.captioning import Captioning, Engine
from service.intake import read_options, read_pictures
from service.problems import Problem
from service.settings import Settings


def create_blueprint(captioning: Captioning, settings: Settings, ready: Callable[[], bool]) -> Blueprint:
    """POST /v1/captions, GET /v1/model, /healthz (the process lives) and /readyz (it takes requests)."""
    api = Blueprint("api", __name__)

    @api.post("/v1/captions")
    def captions() -> Response:
        # The place comes first: a full service does not take apart a body that it will refuse. The server has received
        # the body by then; `Settings.max_held_bytes` bounds what that takes.
        with captioning.place():
            pictures = read_pictures(request, settings)
            options = read_options(request, captioning.engine.options, settings)
            outcomes = captioning.outcomes(pictures, options)
        if len(outcomes) == 1 and outcomes[0].error is not None:
            raise outcomes[0].error
        return jsonify({"captions": captioning.rows(pictures, outcomes)})

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
