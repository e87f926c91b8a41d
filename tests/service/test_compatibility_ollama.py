"""The `ollama` package against the real server, and the requests that other programs send."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from service.keys import new_key
from tests.service.fake_captioner import FakeCaptioner, make_caption
from tests.service.real_server import serving

ollama = pytest.importorskip("ollama")
Client = Any  # ollama.Client, where the package is there


@pytest.fixture
def remote(captioner: FakeCaptioner) -> Iterator[Client]:
    """The client, which is told as the documents say."""
    with serving(captioner) as url, ollama.Client(host=url) as client:
        yield client


def test_generate(remote: Client, picture: bytes) -> None:
    answer = remote.generate(model="llava", prompt="What is this?", images=[picture], options={"temperature": 0})
    assert answer.response == make_caption(1).text
    assert answer.model == "fake:latest"
    assert (answer.done, answer.done_reason) == (True, "stop")
    assert (answer.prompt_eval_count, answer.eval_count) == (0, 5)
    assert answer.total_duration >= answer.eval_duration >= 0


def test_generate_as_a_stream(remote: Client, picture: bytes) -> None:
    parts = list(remote.generate(model="llava", prompt="What?", images=[picture], stream=True))
    assert "".join(part.response for part in parts) == make_caption(1).text
    assert [part.done for part in parts] == [False] * 5 + [True]
    assert parts[-1].eval_count == 5


def test_listing(remote: Client) -> None:
    (model,) = remote.list().models
    assert (model.model, model.digest, model.details.format) == ("fake:latest", "0123456789ab", "safetensors")
    shown = remote.show(model.model)
    assert shown.license == "CC-BY-4.0"
    assert "vision" in shown.capabilities
    (loaded,) = remote.ps().models
    assert (loaded.model, loaded.digest, loaded.expires_at) == ("fake:latest", "0123456789ab", None)


@pytest.mark.parametrize("stream", [False, True])
def test_errors(remote: Client, stream: bool) -> None:
    with pytest.raises(ollama.ResponseError, match="The file holds no picture") as raised:
        list(remote.generate(model="llava", prompt="What?", images=[b"no picture"], stream=stream))
    assert raised.value.status_code == 400
    with pytest.raises(ollama.ResponseError, match="Send one picture"):
        list(remote.generate(model="llava", prompt="Why is the sky blue?", stream=stream))


def test_what_is_not_served(remote: Client) -> None:
    for ask, path in ((remote.pull, "/api/pull"), (remote.delete, "/api/delete")):
        with pytest.raises(ollama.ResponseError) as raised:
            ask("llava")
        assert raised.value.error == f"'{path}' is not served here; /docs lists what is."
        assert raised.value.status_code == 404
    with pytest.raises(ollama.ResponseError, match="'/api/embed' is not served here"):
        remote.embed(model="llava", input="a dog")


@pytest.mark.parametrize(
    ("path", "status", "in_ollamas_form"),
    [
        *(("/api/pull", 404, True), ("/api/", 404, True), ("/api/v1/vision/labels", 404, True)),
        *(("/api", 404, False), ("/apis/pull", 404, False), ("/v1/embeddings", 404, False)),
        ("/api/show", 200, False),
    ],
)
def test_only_addresses_of_ollamas_without_a_route(
    client: FlaskClient, path: str, status: int, in_ollamas_form: bool
) -> None:
    response = client.post(path, json={})
    assert response.status_code == status
    assert (list(response.get_json(force=True)) == ["error"]) == in_ollamas_form
    assert response.headers["X-Request-ID"]
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_chat(remote: Client, captioner: FakeCaptioner, picture: bytes) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "And this?", "images": [b"no picture, but an earlier one"]},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "What is this?", "images": [picture]},
    ]
    answer = remote.chat(model="llava", messages=messages, options={"temperature": 0}, keep_alive=0)
    assert (answer.message.role, answer.message.content) == ("assistant", make_caption(1).text)
    assert (answer.model, answer.done, answer.done_reason) == ("fake:latest", True, "stop")
    assert (answer.prompt_eval_count, answer.eval_count) == (0, 5)
    assert answer.total_duration >= answer.eval_duration >= 0
    # A further question, without a picture of its own, is about the last one.
    further = [*messages, {"role": "assistant", "content": "A dog."}, {"role": "user", "content": "Which colour?"}]
    assert remote.chat(model="llava", messages=further).message.content == make_caption(1).text
    assert captioner.captioned == 2


def test_chat_as_a_stream(remote: Client, picture: bytes) -> None:
    message = {"role": "user", "content": "What?", "images": [picture]}
    parts = list(remote.chat(model="llava", messages=[message], stream=True))
    assert "".join(part.message.content for part in parts) == make_caption(1).text
    assert {part.message.role for part in parts} == {"assistant"}
    assert [part.done for part in parts] == [False] * 5 + [True]
    assert parts[-1].eval_count == 5


@pytest.mark.parametrize("stream", [False, True])
def test_errors_of_a_chat(remote: Client, stream: bool) -> None:
    message = {"role": "user", "content": "What?", "images": [b"no picture"]}
    with pytest.raises(ollama.ResponseError, match="The file holds no picture") as raised:
        list(remote.chat(model="llava", messages=[message], stream=stream))
    assert raised.value.status_code == 400
    with pytest.raises(ollama.ResponseError, match="only describes pictures"):
        list(remote.chat(model="llava", messages=[{"role": "user", "content": "What?"}], stream=stream))


def test_loading_ahead(remote: Client, captioner: FakeCaptioner) -> None:
    assert remote.generate(model="llava").done_reason == "load"
    loaded = remote.chat(model="llava")
    assert (loaded.done, loaded.done_reason, loaded.message.content) == (True, "load", "")
    assert [part.done_reason for part in remote.chat(model="llava", stream=True)] == ["load"]
    assert captioner.captioned == 0


def test_any_media_type_and_a_stream_by_default(client: FlaskClient, picture: bytes) -> None:
    """As curl -d sends it."""
    body = json.dumps({"model": "llava", "prompt": "x", "images": [base64.b64encode(picture).decode()]})
    response = client.post("/api/generate", data=body, content_type="application/x-www-form-urlencoded")
    assert response.mimetype == "application/x-ndjson"
    lines = [json.loads(line) for line in response.text.splitlines()]
    assert "".join(line["response"] for line in lines) == make_caption(1).text


def test_a_request_of_photoprism(client: FlaskClient, picture: bytes) -> None:
    """The members that its engine "ollama" writes (api_request.go)."""
    body = {
        "id": "7f1b",
        "model": "captioner:latest",
        "prompt": "Create a caption",
        "suffix": "",
        "options": {"temperature": 0.1},
        "stream": False,
        "images": [base64.b64encode(picture).decode()],
    }
    answer = client.post("/api/generate", json=body).get_json()
    assert answer["response"] == make_caption(1).text


@pytest.mark.parametrize(
    "members",
    [
        {"images": ["http://example.org/a.png"]},
        {"images": ["AAAA", "AAAA"]},
        {"images": "AAAA"},
        {"images": [3]},
        {"prompt": "x", "stream": "no"},
    ],
)
def test_wrong_requests(client: FlaskClient, members: dict[str, object]) -> None:
    response = client.post("/api/generate", json=members)
    assert response.status_code == 400
    assert set(response.get_json()) == {"error"}


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ("AAAA", "must be a list"),
        ({}, "must be a list"),
        (0, "must be a list"),
        ([3], "only describes pictures"),
        ([{"images": []}], "only describes pictures"),
        ([{"images": ["AAAA", "AAAA"]}], "one picture in messages[0].images"),
        ([{}, {"images": "AAAA"}], "one picture in messages[1].images"),
        ([{"images": [3]}], "messages[0].images[0]"),
        ([{"images": ["http://example.org/a.png"]}], "This service fetches nothing, and messages[0].images[0]"),
    ],
)
def test_wrong_chats(client: FlaskClient, messages: object, said: str) -> None:
    response = client.post("/api/chat", json={"messages": messages})
    assert response.status_code == 400
    assert said in response.get_json()["error"]
    assert client.post("/api/chat", json={"stream": 1}).status_code == 400


def test_the_version(client: FlaskClient) -> None:
    assert set(client.get("/api/version").get_json()) == {"version"}


def test_a_key_as_the_client_sends_it(captioner: FakeCaptioner, picture: bytes, tmp_path: Path) -> None:
    key, line = new_key()
    (tmp_path / "keys").write_text(line)
    with serving(captioner, tmp_path / "keys") as url:
        with ollama.Client(host=url, headers={"Authorization": f"Bearer {key}"}) as client:
            assert client.generate(model="llava", prompt="x", images=[picture]).done
        with ollama.Client(host=url) as client, pytest.raises(ollama.ResponseError, match="API key") as raised:
            client.list()
    assert raised.value.status_code == 401
