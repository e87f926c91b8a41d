"""Ollama's API for one picture: POST /api/generate and POST /api/chat; what is told of the model: ollama_models.py.

What `ollama.Client(host=URL)` sends and reads (ollama 0.6.3, `_client.py` and `_types.py`), and what PhotoPrism sends
to its engine "ollama" (photoprism/photoprism, internal/ai/vision/engine_ollama.go). Ollama's own documentation is
docs/api.md of ollama/ollama: answers are streamed unless `stream` is false, durations are nanoseconds, errors are
`{"error": ...}`, and the media type of a body does not matter (its examples send curl's). A request that asks nothing
is how its clients load a model ahead of time.

The prompt, the text of messages, tools, the options and the format are ignored. No prompt is read, so
prompt_eval_count is 0; eval_count is the number of words of the caption.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NotRequired

from flask import Blueprint, Response, current_app, jsonify, request
from typing_extensions import TypedDict

from service.bodies import ENCODED, ENCODED_PROBLEMS, json_body
from service.captioning import Captioning, Picture
from service.compatibility import ollama_models
from service.compatibility.adapter import TAG, Described, answer_errors, describe, only_picture
from service.compatibility.ollama_models import ERRORS, model_name, now
from service.encoded import read_json
from service.operations import JSON, Operation, Schema, documented
from service.problems import Problem
from service.samples import json_command
from service.settings import Settings

NDJSON = "application/x-ndjson"


class _Answer(TypedDict):
    model: str
    created_at: str
    done: bool
    done_reason: NotRequired[str]
    total_duration: NotRequired[int]
    load_duration: NotRequired[int]
    prompt_eval_count: NotRequired[int]
    prompt_eval_duration: NotRequired[int]
    eval_count: NotRequired[int]
    eval_duration: NotRequired[int]


class OllamaAnswer(_Answer):
    """Ollama's answer; durations are nanoseconds. One that loads a model, and a piece of a stream, have no counts."""

    response: str


class OllamaMessage(TypedDict):
    """The caption, or a piece of it, as a chat's answer."""

    role: str
    content: str


class OllamaChatAnswer(_Answer):
    """Ollama's answer in a chat; otherwise as OllamaAnswer."""

    message: OllamaMessage


# An answer with a text in it: that of one route or of the other.
_Form = Callable[[_Answer, str], OllamaAnswer | OllamaChatAnswer]

_STREAM: Schema = {"type": ["boolean", "null"], "default": True}
_COUNTS: dict[str, Any] = {
    "done": True,
    "done_reason": "stop",
    "total_duration": 83200000,
    "load_duration": 0,
    "prompt_eval_count": 0,
    "prompt_eval_duration": 0,
    "eval_count": 5,
    "eval_duration": 83200000,
}
_HEAD = {"model": "default:latest", "created_at": "2026-11-21T12:00:00.000000Z"}
GENERATE = Operation(
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
            "stream": _STREAM,
        },
    ),
    answer={JSON: OllamaAnswer, NDJSON: str},
    problems=ENCODED_PROBLEMS,
    errors=ERRORS,
    examples=(json_command("/api/generate", '{"images": ["%s"], "stream": false}'),),
    sample={**_HEAD, "response": "a dog runs on grass", **_COUNTS},
)
_MESSAGE: Schema = {
    "type": "object",
    "properties": {"images": {"type": "array", "items": ENCODED, "minItems": 1, "maxItems": 1}},
    "required": ["images"],
}
CHAT = Operation(
    tag=TAG,
    body=json_body(
        {
            "messages": {
                "anyOf": [
                    {"type": "array", "contains": _MESSAGE},
                    {"type": "array", "maxItems": 0},
                    {"type": "null"},
                ],
                "description": "The last one with images has one picture; it is described. None at all load the model.",
            },
            "stream": _STREAM,
        },
    ),
    answer={JSON: OllamaChatAnswer, NDJSON: str},
    problems=ENCODED_PROBLEMS,
    errors=ERRORS,
    examples=(
        json_command("/api/chat", '{"messages": [{"role": "user", "content": "", "images": ["%s"]}], "stream": false}'),
    ),
    sample={**_HEAD, "message": {"role": "assistant", "content": "a dog runs on grass"}, **_COUNTS},
)


def create_blueprint(captioning: Captioning, settings: Settings) -> Blueprint:
    """The six routes, for the one model there is."""
    adapter = Blueprint("ollama", __name__)
    engine = captioning.engine
    since = now()

    @adapter.post("/api/generate")
    @documented(GENERATE)
    def generate() -> Response:
        """Ollama's generate API with one picture; the prompt is ignored.

        The answer is a stream of JSON lines unless stream is false.
        """
        return _answer(captioning, _generate_picture, _generated)

    @adapter.post("/api/chat")
    @documented(CHAT)
    def chat() -> Response:
        """Ollama's chat API with one picture; all text is ignored.

        The picture of the last message that has one is described. The answer is a stream of JSON lines unless stream is
        false.
        """
        return _answer(captioning, _chat_picture, _said)

    @adapter.get("/api/tags")
    @documented(ollama_models.TAGS)
    def tags() -> Response:
        """Ollama's list of models: one."""
        return jsonify(ollama_models.models(engine, since))

    @adapter.get("/api/ps")
    @documented(ollama_models.PS)
    def ps() -> Response:
        """Ollama's list of the models that are loaded: the same."""
        return jsonify(ollama_models.models(engine, since))

    @adapter.post("/api/show")
    @documented(ollama_models.SHOW)
    def show() -> Response:
        """Ollama's description of the model."""
        read_json(request)  # whatever model it names
        return jsonify(ollama_models.description(engine, since))

    @adapter.get("/api/version")
    @documented(ollama_models.VERSION)
    def version() -> Response:
        """The version that Ollama's clients ask for."""
        return jsonify(ollama_models.version())

    answer_errors(adapter, ERRORS, lambda problem, status: {"error": problem.detail}, below="/api/")
    return adapter


def _answer(captioning: Captioning, read: Callable[[dict[str, Any]], Picture | None], form: _Form) -> Response:
    """What one of the two routes answers to the request: `read` finds the picture in its body, if it asks anything."""
    model = model_name(captioning.engine)
    with captioning.place():
        body = read_json(request)
        stream = _stream(body)
        picture = read(body)
        described = None if picture is None else describe(captioning, picture)
    if described is None:
        last, pieces, whole = _load(model), [], ""
    else:
        last, pieces, whole = _last(model, described), described.pieces, described.caption.text
    if not stream:
        return jsonify(form(last, whole))
    return _lines([*(form(_piece(model), piece) for piece in pieces), form(last, "")])


def _generate_picture(body: dict[str, Any]) -> Picture | None:
    """The picture of /api/generate; None without any and without a prompt."""
    if body.get("images") in (None, []) and body.get("prompt") in (None, ""):
        return None
    return only_picture(body.get("images"), "images")


def _chat_picture(body: dict[str, Any]) -> Picture | None:
    """The picture of the last message that has any; None without messages."""
    messages = body.get("messages")
    if messages in (None, []):
        return None
    if not isinstance(messages, list):
        raise Problem(422, "messages must be a list.")
    for number in reversed(range(len(messages))):
        images = messages[number].get("images") if isinstance(messages[number], dict) else None
        if images not in (None, []):
            return only_picture(images, f"messages[{number}].images")
    raise Problem(
        422, "This model only describes pictures; send one in images of a message, as base64.", kind="no-picture"
    )


def _generated(answer: _Answer, text: str) -> OllamaAnswer:
    return {**answer, "response": text}


def _said(answer: _Answer, text: str) -> OllamaChatAnswer:
    return {**answer, "message": {"role": "assistant", "content": text}}


def _piece(model: str) -> _Answer:
    return {"model": model, "created_at": now(), "done": False}


def _load(model: str) -> _Answer:
    return {"model": model, "created_at": now(), "done": True, "done_reason": "load"}


def _last(model: str, described: Described) -> _Answer:
    """The last or only object, which tells of the whole."""
    nanoseconds = round(described.seconds * 10**9)
    return {
        "model": model,
        "created_at": now(),
        "done": True,
        "done_reason": "stop",
        "total_duration": nanoseconds,
        "load_duration": 0,
        "prompt_eval_count": 0,
        "prompt_eval_duration": 0,
        "eval_count": len(described.caption.words),
        "eval_duration": nanoseconds,
    }


def _lines(objects: Sequence[OllamaAnswer | OllamaChatAnswer]) -> Response:
    """A whole answer in the form of a stream: the caption is there before its first word is sent."""
    text = "".join(current_app.json.dumps(each) + "\n" for each in objects)
    return Response(text, content_type=NDJSON, headers={"Cache-Control": "no-store"})


def _stream(body: dict[str, Any]) -> bool:
    stream = body.get("stream")
    if not isinstance(stream, bool | None):
        raise Problem(422, "stream must be true or false.")
    return stream is not False
