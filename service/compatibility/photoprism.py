"""PhotoPrism's own vision request: POST /api/v1/vision/caption.

From photoprism/photoprism on GitHub, internal/ai/vision: `ApiRequest` (api_request.go) with data: URLs in `images`, and
`ApiResponse` (api_response.go) with `result.caption.text`. An error has `code` and `error` and no caption, whereupon
PhotoPrism says that the model's response is invalid. PhotoPrism can be told to send `url` instead of pictures; that is
refused. `id` comes back; model, version, prompt and options are ignored.
"""

from __future__ import annotations

import uuid
from typing import Any

from flask import Blueprint, Response, g, jsonify, request

from service.captioning import Captioning, Picture
from service.compatibility.adapter import answer_errors, describe, only_picture
from service.encoded import read_json, remote_picture
from service.problems import Problem
from service.settings import Settings

MAX_ID_LENGTH = 64


def create_blueprint(captioning: Captioning, settings: Settings) -> Blueprint:
    """POST /api/v1/vision/caption."""
    adapter = Blueprint("photoprism", __name__)

    @adapter.post("/api/v1/vision/caption")
    def caption() -> Response:
        with captioning.place():
            body = read_json(request)
            identity = body.get("id")
            if isinstance(identity, str) and identity:
                g.photoprism_id = identity[:MAX_ID_LENGTH]
            described = describe(captioning, _read(body))
        return jsonify(
            {
                "id": _identity(),
                "code": 200,
                "model": {"type": "caption", "name": described.model, "version": described.digest},
                "result": {
                    "caption": {
                        "text": described.caption.text,
                        "confidence": round(described.caption.confidence, 4),
                    }
                },
            }
        )

    answer_errors(adapter, _error)
    return adapter


def _read(body: dict[str, Any]) -> Picture:
    if body.get("url"):
        raise remote_picture()
    return only_picture(body.get("images"), "images")


def _identity() -> str:
    found: str = g.setdefault("photoprism_id", str(uuid.uuid4()))
    return found


def _error(problem: Problem, status: int) -> dict[str, Any]:
    return {"id": _identity(), "code": status, "error": problem.detail, "result": {}}
