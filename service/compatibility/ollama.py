"""Ollama's API for one picture: POST /api/generate, GET /api/tags, POST /api/show, GET /api/version.

What `ollama.Client(host=URL)` sends and reads (ollama 0.6.3, `_client.py` and `_types.py`), and what PhotoPrism sends
to its engine "ollama" (photoprism/photoprism, internal/ai/vision/engine_ollama.go). Ollama's own documentation is
docs/api.md of ollama/ollama: answers are streamed unless `stream` is false, durations are nanoseconds, errors are
`{"error": ...}`, and the media type of a body does not matter (its examples send curl's).

The prompt, the options and the format are ignored. No prompt is read, so prompt_eval_count is 0; eval_count is the
number of words of the caption.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, Response, current_app, jsonify, request

import captioner
from service.captioning import Captioning, Engine
from service.compatibility.adapter import Described, answer_errors, describe, name_and_digest, only_picture
from service.encoded import read_json
from service.problems import Problem
from service.settings import Settings

NDJSON = "application/x-ndjson"


def create_blueprint(captioning: Captioning, settings: Settings) -> Blueprint:
    """The four routes, for the one model there is."""
    adapter = Blueprint("ollama", __name__)
    since = _now()

    @adapter.post("/api/generate")
    def generate() -> Response:
        with captioning.place():
            body = read_json(request)
            stream = _stream(body)
            if not body.get("images") and not body.get("prompt"):  # how Ollama's clients load a model ahead of time
                loaded = {**_head(_model_name(captioning.engine)), "response": "", "done": True, "done_reason": "load"}
                return _lines([loaded]) if stream else jsonify(loaded)
            described = describe(captioning, only_picture(body.get("images"), "images"))
        head = _head(f"{described.model}:latest")
        if not stream:
            return jsonify({**head, "response": described.caption.text, **_end(described)})
        pieces = [{**head, "response": piece, "done": False} for piece in described.pieces]
        return _lines([*pieces, {**head, "response": "", **_end(described)}])

    @adapter.get("/api/tags")
    def tags() -> Response:
        name = _model_name(captioning.engine)
        digest = name_and_digest(captioning.engine)[1]
        found = {"name": name, "model": name, "modified_at": since, "digest": digest, "details": _details()}
        return jsonify({"models": [found]})

    @adapter.post("/api/show")
    def show() -> Response:
        read_json(request)  # whatever model it names
        name, digest = name_and_digest(captioning.engine)
        information = {"general.architecture": "captioner", "general.name": name, "captioner.digest": digest}
        return jsonify(
            {
                "license": captioning.engine.manifest.get("licence"),
                "modelfile": "",
                "parameters": "",
                "template": "",
                "details": _details(),
                "model_info": information,
                "capabilities": ["completion", "vision"],
                "modified_at": since,
            }
        )

    @adapter.get("/api/version")
    def version() -> Response:
        return jsonify({"version": captioner.__version__})

    answer_errors(adapter, lambda problem, status: {"error": problem.detail})
    return adapter


def _model_name(engine: Engine) -> str:
    return f"{name_and_digest(engine)[0]}:latest"


def _head(model: str) -> dict[str, Any]:
    return {"model": model, "created_at": _now()}


def _end(described: Described) -> dict[str, Any]:
    """What the last or only object says of the whole."""
    nanoseconds = round(described.seconds * 10**9)
    return {
        "done": True,
        "done_reason": "stop",
        "total_duration": nanoseconds,
        "load_duration": 0,
        "prompt_eval_count": 0,
        "prompt_eval_duration": 0,
        "eval_count": len(described.caption.words),
        "eval_duration": nanoseconds,
    }


def _details() -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": "safetensors",
        "family": "captioner",
        "families": ["captioner"],
        "parameter_size": "",
        "quantization_level": "",
    }


def _lines(objects: list[dict[str, Any]]) -> Response:
    """A whole answer in the form of a stream: the caption is there before its first word is sent."""
    text = "".join(current_app.json.dumps(each) + "\n" for each in objects)
    return Response(text, content_type=NDJSON, headers={"Cache-Control": "no-store"})


def _stream(body: dict[str, Any]) -> bool:
    stream = body.get("stream")
    if not isinstance(stream, bool | None):
        raise Problem(422, "stream must be true or false.")
    return stream is not False


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")
