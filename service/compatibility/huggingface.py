"""Hugging Face's image-to-text task: POST /huggingface.

`huggingface_hub.InferenceClient(model=URL + "/huggingface").image_to_text(photo)` sends the picture as the raw body,
with or without a media type (`_providers/hf_inference.py` of huggingface_hub 2.4), and reads `generated_text` of the
first of a list. JSON with base64 in `inputs` is the task's other form. Errors are `{"error": ...}`, which
the client quotes.
"""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, request
from typing_extensions import TypedDict

from service.bodies import ANY_IMAGE, ENCODED, ENCODED_PROBLEMS, RAW, json_body
from service.captioning import Captioning, Picture
from service.compatibility.adapter import TAG, answer_errors, describe, error_form
from service.encoded import read_encoded, read_json
from service.intake import FIELD, is_json, read_raw
from service.operations import JSON, Operation, documented
from service.problems import Problem
from service.samples import json_command
from service.settings import Settings


class GeneratedText(TypedDict):
    """One result of Hugging Face's image-to-text task."""

    generated_text: str


class HuggingFaceError(TypedDict):
    """How Hugging Face's clients read an error."""

    error: str


ERRORS = error_form(HuggingFaceError, statuses={})


def create_blueprint(captioning: Captioning, settings: Settings) -> Blueprint:
    """POST /huggingface, a raw picture or JSON."""
    adapter = Blueprint("huggingface", __name__)

    @adapter.post("/huggingface")
    @documented(
        Operation(
            tag=TAG,
            body={ANY_IMAGE: RAW, "application/octet-stream": RAW, **json_body({"inputs": ENCODED}, "inputs")},
            answer={JSON: list[GeneratedText]},
            problems=(*ENCODED_PROBLEMS, "unsupported-media-type"),
            errors=ERRORS,
            examples=(
                "curl --data-binary @photo.jpg -H 'Content-Type: image/jpeg' {url}/huggingface",
                json_command("/huggingface", '{"inputs": "%s"}'),
            ),
            sample=[{"generated_text": "a dog runs on grass"}],
        )
    )
    def image_to_text() -> Response:
        """Hugging Face's image-to-text task.

        For huggingface_hub: InferenceClient(model=URL + "/huggingface").image_to_text(photo).
        """
        with captioning.place():
            caption = describe(captioning, _read()).caption
        answer: list[GeneratedText] = [{"generated_text": caption.text}]
        return jsonify(answer)

    answer_errors(adapter, ERRORS, lambda problem, status: {"error": problem.detail})
    return adapter


def _read() -> Picture:
    if is_json(request):
        return read_encoded(read_json(request).get("inputs"), name=FIELD, where="inputs")
    if request.content_length is None:
        raise Problem(411, "Send the body with a Content-Length.")
    if request.mimetype == "multipart/form-data":
        raise Problem(415, "Send the picture as the body itself, or JSON with base64 in inputs.")
    return read_raw(request)
