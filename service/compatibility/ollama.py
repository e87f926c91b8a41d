"""Ollama's API for one picture: POST /api/generate, GET /api/tags, POST /api/show, GET /api/version.

What `ollama.Client(host=URL)` sends and reads (ollama 0.6.3, `_client.py` and `_types.py`), and what PhotoPrism sends
to its engine "ollama" (photoprism/photoprism, internal/ai/vision/engine_ollama.go). Ollama's own documentation is
docs/api.md of ollama/ollama: answers are streamed unless `stream` is false, durations are nanoseconds, errors are
`{"error": ...}`, and the media type of a body does not matter (its examples send curl's).

The prompt, the options and the format are ignored. No prompt is read, so prompt_eval_count is 0; eval_count is the
number of words of the caption.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NotRequired

from flask import Blueprint, Response, current_app, jsonify, request
from typing_extensions import TypedDict

import captioner
from service.bodies import ENCODED, json_body
from service.captioning import Captioning, Engine
from service.compatibility.adapter import (
    ENCODED_PROBLEMS,
    TAG,
    Described,
    answer_errors,
    describe,
    error_form,
    name_and_digest,
    only_picture,
)
from service.encoded import read_json
from service.operations import JSON, Operation, documented
from service.problems import Problem
from service.samples import json_command
from service.settings import Settings

NDJSON = "application/x-ndjson"


class OllamaAnswer(TypedDict):
    """Ollama's answer; durations are nanoseconds. One that loads a model, and a piece of a stream, have no counts."""

    model: str
    created_at: str
    response: str
    done: bool
    done_reason: NotRequired[str]
    total_duration: NotRequired[int]
    load_duration: NotRequired[int]
    prompt_eval_count: NotRequired[int]
    prompt_eval_duration: NotRequired[int]
    eval_count: NotRequired[int]
    eval_duration: NotRequired[int]


class OllamaDetails(TypedDict):
    """What Ollama tells of a model's file."""

    parent_model: str
    format: str
    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str


class OllamaModel(TypedDict):
    """The model, as Ollama lists it."""

    name: str
    model: str
    modified_at: str
    digest: str
    details: OllamaDetails


class OllamaModels(TypedDict):
    """Ollama's list of models."""

    models: list[OllamaModel]


class OllamaShow(TypedDict):
    """Ollama's description of a model."""

    license: str | None
    modelfile: str
    parameters: str
    template: str
    details: OllamaDetails
    model_info: dict[str, str]
    capabilities: list[str]
    modified_at: str


class OllamaVersion(TypedDict):
    """The version of the service."""

    version: str


class OllamaError(TypedDict):
    """How Ollama's clients read an error."""

    error: str


ERRORS = error_form(OllamaError)


def create_blueprint(captioning: Captioning, settings: Settings) -> Blueprint:
    """The four routes, for the one model there is."""
    adapter = Blueprint("ollama", __name__)
    since = _now()

    @adapter.post("/api/generate")
    @documented(
        Operation(
            tag=TAG,
            body=json_body(
                {
                    "images": {
                        "type": ["array", "null"],
                        "items": ENCODED,
                        "maxItems": 1,
                        "description": "One picture. A request without any and without a prompt loads the model.",
                    },
                    "prompt": {"description": "Ignored."},
                    "stream": {"type": ["boolean", "null"], "default": True},
                },
            ),
            answer={JSON: OllamaAnswer, NDJSON: str},
            problems=ENCODED_PROBLEMS,
            errors=ERRORS,
            examples=(json_command("/api/generate", '{"images": ["%s"], "stream": false}'),),
            sample={
                "model": "default:latest",
                "created_at": "2026-11-21T12:00:00.000000Z",
                "response": "a dog runs on grass",
                "done": True,
                "done_reason": "stop",
                "total_duration": 83200000,
                "load_duration": 0,
                "prompt_eval_count": 0,
                "prompt_eval_duration": 0,
                "eval_count": 5,
                "eval_duration": 83200000,
            },
        )
    )
    def generate() -> Response:
        """Ollama's generate API with one picture; the prompt is ignored.

        The answer is a stream of JSON lines unless stream is false.
        """
        with captioning.place():
            body = read_json(request)
            stream = _stream(body)
            # How Ollama's clients load a model ahead of time.
            if body.get("images") in (None, []) and body.get("prompt") in (None, ""):
                loaded = _piece(_model_name(captioning.engine), "")
                loaded["done"], loaded["done_reason"] = True, "load"
                return _lines([loaded]) if stream else jsonify(loaded)
            described = describe(captioning, only_picture(body.get("images"), "images"))
        model = f"{described.model}:latest"
        if not stream:
            return jsonify(_last(model, described.caption.text, described))
        return _lines([*(_piece(model, piece) for piece in described.pieces), _last(model, "", described)])

    @adapter.get("/api/tags")
    @documented(Operation(tag=TAG, answer={JSON: OllamaModels}, errors=ERRORS, examples=("curl {url}/api/tags",)))
    def tags() -> Response:
        """Ollama's list of models: one."""
        name = _model_name(captioning.engine)
        digest = name_and_digest(captioning.engine)[1]
        answer: OllamaModels = {
            "models": [{"name": name, "model": name, "modified_at": since, "digest": digest, "details": _details()}]
        }
        return jsonify(answer)

    @adapter.post("/api/show")
    @documented(
        Operation(
            tag=TAG,
            body=json_body({"model": {"description": "Whatever it names, the answer is the same."}}),
            answer={JSON: OllamaShow},
            problems=("invalid-json", "length-required"),
            errors=ERRORS,
            examples=("""curl --json '{"model": "captioner"}' {url}/api/show""",),
        )
    )
    def show() -> Response:
        """Ollama's description of the model."""
        read_json(request)  # whatever model it names
        name, digest = name_and_digest(captioning.engine)
        information = {"general.architecture": "captioner", "general.name": name, "captioner.digest": digest}
        answer: OllamaShow = {
            "license": captioning.engine.manifest.get("licence"),
            "modelfile": "",
            "parameters": "",
            "template": "",
            "details": _details(),
            "model_info": information,
            "capabilities": ["completion", "vision"],
            "modified_at": since,
        }
        return jsonify(answer)

    @adapter.get("/api/version")
    @documented(Operation(tag=TAG, answer={JSON: OllamaVersion}, errors=ERRORS, examples=("curl {url}/api/version",)))
    def version() -> Response:
        """The version that Ollama's clients ask for."""
        answer: OllamaVersion = {"version": captioner.__version__}
        return jsonify(answer)

    answer_errors(adapter, ERRORS, lambda problem, status: {"error": problem.detail})
    return adapter


def _model_name(engine: Engine) -> str:
    return f"{name_and_digest(engine)[0]}:latest"


def _piece(model: str, text: str) -> OllamaAnswer:
    return {"model": model, "created_at": _now(), "response": text, "done": False}


def _last(model: str, text: str, described: Described) -> OllamaAnswer:
    """The last or only object, which tells of the whole."""
    nanoseconds = round(described.seconds * 10**9)
    return {
        "model": model,
        "created_at": _now(),
        "response": text,
        "done": True,
        "done_reason": "stop",
        "total_duration": nanoseconds,
        "load_duration": 0,
        "prompt_eval_count": 0,
        "prompt_eval_duration": 0,
        "eval_count": len(described.caption.words),
        "eval_duration": nanoseconds,
    }


def _details() -> OllamaDetails:
    return {
        "parent_model": "",
        "format": "safetensors",
        "family": "captioner",
        "families": ["captioner"],
        "parameter_size": "",
        "quantization_level": "",
    }


def _lines(objects: Sequence[OllamaAnswer]) -> Response:
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
