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

from service.captioning import Captioning, Picture
from service.compatibility.adapter import Described, answer_errors, describe, name_and_digest
from service.encoded import read_encoded, read_json, remote_picture
from service.intake import FIELD
from service.problems import Problem
from service.settings import Settings


def create_blueprint(captioning: Captioning, settings: Settings) -> Blueprint:
    """POST /v1/chat/completions, streamed or not, and GET /v1/models."""
    adapter = Blueprint("openai", __name__)
    since = int(time.time())

    @adapter.post("/v1/chat/completions")
    def complete() -> Response:
        with captioning.place():
            body = read_json(request)
            stream = body.get("stream")
            if not isinstance(stream, bool | None):
                raise Problem(422, "stream must be true or false.")
            described = describe(captioning, _read(body.get("messages")))
        head = {"id": f"chatcmpl-{uuid.uuid4().hex}", "created": int(time.time()), "model": described.model}
        if not stream:
            return jsonify(_completion(head, described))
        options = body.get("stream_options")
        return _events(head, described, usage=isinstance(options, dict) and options.get("include_usage") is True)

    @adapter.get("/v1/models")
    def models() -> Response:
        name = name_and_digest(captioning.engine)[0]
        found = {"id": name, "object": "model", "created": since, "owned_by": "captioner"}
        return jsonify({"object": "list", "data": [found]})

    answer_errors(adapter, _error)
    return adapter


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


def _usage(described: Described) -> dict[str, int]:
    words = len(described.caption.words)
    return {"prompt_tokens": 0, "completion_tokens": words, "total_tokens": words}


def _completion(head: dict[str, Any], described: Described) -> dict[str, Any]:
    message = {"role": "assistant", "content": described.caption.text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    return {**head, "object": "chat.completion", "choices": [choice], "usage": _usage(described)}


def _events(head: dict[str, Any], described: Described, *, usage: bool) -> Response:
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
    return Response(text, content_type="text/event-stream; charset=utf-8", headers={"Cache-Control": "no-store"})


def _error(problem: Problem, status: int) -> dict[str, Any]:
    kind = "server_error" if status >= 500 else "rate_limit_error" if status == 429 else "invalid_request_error"
    return {"error": {"message": problem.detail, "type": kind, "param": None, "code": problem.kind}}
