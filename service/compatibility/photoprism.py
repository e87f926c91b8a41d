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
from typing_extensions import TypedDict

from service.bodies import ENCODED, ENCODED_PROBLEMS, json_body
from service.captioning import Captioning, Picture
from service.compatibility.adapter import TAG, answer_errors, describe, error_form, only_picture
from service.encoded import read_json, remote_picture
from service.operations import JSON, Operation, documented
from service.problems import Problem
from service.samples import json_command
from service.settings import Settings

MAX_ID_LENGTH = 64


class PhotoPrismModel(TypedDict):
    """The model that wrote the caption."""

    type: str
    name: str
    version: str


class PhotoPrismCaption(TypedDict):
    """The caption."""

    text: str
    confidence: float


class PhotoPrismResult(TypedDict):
    """What was found."""

    caption: PhotoPrismCaption


class PhotoPrismAnswer(TypedDict):
    """PhotoPrism's ApiResponse."""

    id: str
    code: int
    model: PhotoPrismModel
    result: PhotoPrismResult


class Nothing(TypedDict):
    """An object without members."""


class PhotoPrismError(TypedDict):
    """PhotoPrism's ApiResponse of an error."""

    id: str
    code: int
    error: str
    result: Nothing


ERRORS = error_form(PhotoPrismError)


def create_blueprint(captioning: Captioning, settings: Settings) -> Blueprint:
    """POST /api/v1/vision/caption."""
    adapter = Blueprint("photoprism", __name__)

    @adapter.post("/api/v1/vision/caption")
    @documented(
        Operation(
            tag=TAG,
            body=json_body(
                {
                    "images": {"type": "array", "items": ENCODED, "minItems": 1, "maxItems": 1},
                    "id": {"description": "A text comes back in the answer."},
                },
                "images",
            ),
            answer={JSON: PhotoPrismAnswer},
            problems=ENCODED_PROBLEMS,
            errors=ERRORS,
            examples=(json_command("/api/v1/vision/caption", '{"images": ["data:image/jpeg;base64,%s"]}'),),
            sample={
                "id": "b1f0c7c2-6f4e-4a55-9a53-5b7f3a1f1f0d",
                "code": 200,
                "model": {"type": "caption", "name": "default", "version": "3f1c9a52d07b"},
                "result": {"caption": {"text": "a dog runs on grass", "confidence": 0.7412}},
            },
        )
    )
    def caption() -> Response:
        """PhotoPrism's own vision request, with one picture in images; one by url is refused."""
        with captioning.place():
            body = read_json(request)
            identity = body.get("id")
            if isinstance(identity, str) and identity:
                g.photoprism_id = identity[:MAX_ID_LENGTH]
            described = describe(captioning, _read(body))
        found = described.caption
        answer: PhotoPrismAnswer = {
            "id": _identity(),
            "code": 200,
            "model": {"type": "caption", "name": described.model, "version": described.digest},
            "result": {"caption": {"text": found.text, "confidence": round(found.confidence, 4)}},
        }
        return jsonify(answer)

    answer_errors(adapter, ERRORS, _error)
    return adapter


def _read(body: dict[str, Any]) -> Picture:
    if body.get("url"):
        raise remote_picture()
    return only_picture(body.get("images"), "images")


def _identity() -> str:
    found: str = g.setdefault("photoprism_id", str(uuid.uuid4()))
    return found


def _error(problem: Problem, status: int) -> PhotoPrismError:
    return {"id": _identity(), "code": status, "error": problem.detail, "result": {}}
