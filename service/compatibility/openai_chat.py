"""OpenAI's chat completions for one picture: POST /v1/chat/completions and GET /v1/models.

What `openai.OpenAI(base_url=URL + "/v1")` sends and reads (openai 3.52, `types/chat`): the picture is an `image_url`
part of a message with a data: URL. The picture of the last message that has one is described; all text is ignored.
No prompt is read, so `usage.prompt_tokens` is 0; `completion_tokens` is the number of words of the caption.
"""

from __future__ import annotations

import time
import uuid
from typing import Any

from flask import Blueprint, Response, current_app, jsonify, request
from typing_extensions import TypedDict

from service.bodies import ANY_IMAGE, ENCODED_PROBLEMS, json_body
from service.captioning import Captioning, Picture
from service.compatibility.adapter import (
    TAG,
    Described,
    answer_errors,
    describe,
    error_form,
    name_and_digest,
)
from service.encoded import read_encoded, read_json, remote_picture
from service.intake import FIELD
from service.operations import JSON, Operation, Schema, documented
from service.problems import Problem
from service.samples import json_command
from service.settings import Settings

EVENTS = "text/event-stream"


class ChatMessage(TypedDict):
    """The caption as a chat's answer."""

    role: str
    content: str
    refusal: None


class ChatChoice(TypedDict):
    """The one choice."""

    index: int
    message: ChatMessage
    logprobs: None
    finish_reason: str


class ChatUsage(TypedDict):
    """Words, where OpenAI counts tokens."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class _Head(TypedDict):
    id: str
    created: int
    model: str


class ChatCompletion(_Head):
    """OpenAI's chat.completion."""

    object: str
    choices: list[ChatChoice]
    usage: ChatUsage


class OpenAIModel(TypedDict):
    """The model, as OpenAI lists it."""

    id: str
    object: str
    created: int
    owned_by: str


class OpenAIModels(TypedDict):
    """OpenAI's list of models."""

    object: str
    data: list[OpenAIModel]


class OpenAIErrorBody(TypedDict):
    """What was wrong; code is the name of the problem type."""

    message: str
    type: str
    param: None
    code: str | None


class OpenAIError(TypedDict):
    """How OpenAI's clients read an error."""

    error: OpenAIErrorBody


ERRORS = error_form(OpenAIError)
_URL: Schema = {
    "type": "string",
    "format": "uri",
    "contentMediaType": ANY_IMAGE,
    "description": "A data: URL with base64.",
}
_PICTURE: Schema = {
    "type": "object",
    "properties": {
        "type": {"const": "image_url"},
        "image_url": {"type": "object", "properties": {"url": _URL}, "required": ["url"]},
    },
    "required": ["type", "image_url"],
}
_MESSAGE: Schema = {
    "type": "object",
    "properties": {"content": {"type": "array", "contains": _PICTURE, "maxContains": 1}},
    "required": ["content"],
}
_MESSAGES: Schema = {
    "type": "array",
    "contains": _MESSAGE,
    "description": "At least one has a picture, and no more than one. Other parts and messages may stand beside it.",
}
COMPLETE = Operation(
    tag=TAG,
    body=json_body(
        {
            "messages": _MESSAGES,
            "stream": {"type": ["boolean", "null"], "default": False},
            "stream_options": {"description": 'With {"include_usage": true} a stream ends with the usage.'},
        },
        "messages",
    ),
    answer={JSON: ChatCompletion, EVENTS: Any},
    problems=ENCODED_PROBLEMS,
    errors=ERRORS,
    examples=(
        json_command(
            "/v1/chat/completions",
            '{"messages": [{"role": "user", "content": [\n'
            '  {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,%s"}}]}]}',
        ),
    ),
    sample={
        "id": "chatcmpl-1c6d5d5e0f8b4c0e9a3f0a5c8f1f2b7d",
        "created": 1795262400,
        "model": "default",
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "a dog runs on grass", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 0, "completion_tokens": 5, "total_tokens": 5},
    },
)
MODELS = Operation(tag=TAG, answer={JSON: OpenAIModels}, errors=ERRORS, examples=("curl {url}/v1/models",))


def create_blueprint(captioning: Captioning, settings: Settings) -> Blueprint:
    """POST /v1/chat/completions, streamed or not, and GET /v1/models."""
    adapter = Blueprint("openai", __name__)
    since = int(time.time())

    @adapter.post("/v1/chat/completions")
    @documented(COMPLETE)
    def complete() -> Response:
        """OpenAI's chat completions with a picture as a data: URL; the text is ignored.

        The picture of the last message that has one is described. With stream true the answer is server-sent events.
        """
        return _answer(captioning)

    @adapter.get("/v1/models")
    @documented(MODELS)
    def models() -> Response:
        """OpenAI's list of models: one."""
        name = name_and_digest(captioning.engine)[0]
        found: OpenAIModel = {"id": name, "object": "model", "created": since, "owned_by": "captioner"}
        answer: OpenAIModels = {"object": "list", "data": [found]}
        return jsonify(answer)

    answer_errors(adapter, ERRORS, _error)
    return adapter


def _answer(captioning: Captioning) -> Response:
    with captioning.place():
        body = read_json(request)
        stream = body.get("stream")
        if not isinstance(stream, bool | None):
            raise Problem(422, "stream must be true or false.")
        described = describe(captioning, _read(body.get("messages")))
    head: _Head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": described.model}
    if not stream:
        return jsonify(_completion(head, described))
    options = body.get("stream_options")
    return _events(head, described, usage=isinstance(options, dict) and options.get("include_usage") is True)


def _read(messages: object) -> Picture:
    """The only picture of the last message that has any; its other parts, and the other messages, do not matter."""
    if not isinstance(messages, list):
        raise Problem(422, "messages must be a list.")
    for number in reversed(range(len(messages))):
        content = messages[number].get("content") if isinstance(messages[number], dict) else None
        parts = content if isinstance(content, list) else []
        images = [part for part in parts if isinstance(part, dict) and part.get("type") == "image_url"]
        if len(images) > 1:
            raise Problem(422, f"messages[{number}] has {len(images)} pictures; send one a message.")
        if images:
            address = images[0].get("image_url")
            url = address.get("url") if isinstance(address, dict) else address
            if isinstance(url, str) and not url[:5].lower() == "data:":
                raise remote_picture()
            return read_encoded(url, name=FIELD, where=f"messages[{number}]: image_url")
    raise Problem(
        422, "This model only describes pictures; send one in a part image_url with a data: URL.", kind="no-picture"
    )


def _usage(described: Described) -> ChatUsage:
    words = len(described.caption.words)
    return {"prompt_tokens": 0, "completion_tokens": words, "total_tokens": words}


def _completion(head: _Head, described: Described) -> ChatCompletion:
    message: ChatMessage = {"role": "assistant", "content": described.caption.text, "refusal": None}
    choice: ChatChoice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return {**head, "object": "chat.completion", "choices": [choice], "usage": _usage(described)}


def _events(head: _Head, described: Described, *, usage: bool) -> Response:
    """Server-sent events, the caption being there before its first word is sent."""
    deltas: list[dict[str, str]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": piece} for piece in described.pieces]
    chunk = {**head, "object": "chat.completion.chunk"}
    chunks = [
        {**chunk, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]}
        for delta, reason in [*((delta, None) for delta in deltas), ({}, "stop")]
    ]
    if usage:
        chunks.append({**chunk, "choices": [], "usage": _usage(described)})
    text = "".join(f"data: {current_app.json.dumps(each)}\n\n" for each in chunks) + "data: [DONE]\n\n"
    return Response(text, content_type=f"{EVENTS}; charset=utf-8", headers={"Cache-Control": "no-store"})


def _error(problem: Problem, status: int) -> OpenAIError:
    kind = "server_error" if status >= 500 else "rate_limit_error" if status == 429 else "invalid_request_error"
    return {"error": {"message": problem.detail, "type": kind, "param": None, "code": problem.kind}}
