"""Hugging Face's image-to-text task: POST /huggingface.

`huggingface_hub.InferenceClient(model=URL + "/huggingface").image_to_text(photo)` sends the picture as the raw body,
with or without a media type (`_providers/hf_inference.py` of huggingface_hub 2.4), and reads `generated_text` of the
first of a list. JSON with base64 in `inputs` is the task's other form. Errors are `{"error": ...}`, which
the client quotes.
"""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, request

from service.captioning import Captioning, Picture
from service.compatibility.adapter import answer_errors, describe
from service.encoded import read_encoded, read_json
from service.intake import FIELD, is_json
from service.problems import Problem
from service.settings import Settings


def create_blueprint(captioning: Captioning, settings: Settings) -> Blueprint:
    """POST /huggingface, a raw picture or JSON."""
    adapter = Blueprint("huggingface", __name__)

    @adapter.post("/huggingface")
    def image_to_text() -> Response:
        with captioning.place():
            caption = describe(captioning, _read()).caption
        return jsonify([{"generated_text": caption.text}])

    answer_errors(adapter, lambda problem, status: {"error": problem.detail}, statuses={})
    return adapter


def _read() -> Picture:
    if is_json(request):
        return read_encoded(read_json(request).get("inputs"), name=FIELD, where="inputs")
    if request.content_length is None:
        raise Problem(411, "Send the body with a Content-Length.")
    if request.mimetype == "multipart/form-data":
        raise Problem(415, "Send the picture as the body itself, or JSON with base64 in inputs.")
    return Picture(name=FIELD, data=request.get_data(cache=False), media_type=request.mimetype)
