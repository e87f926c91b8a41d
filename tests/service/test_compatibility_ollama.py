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


@pytest.mark.parametrize("stream", [False, True])
def test_errors(remote: Client, stream: bool) -> None:
    with pytest.raises(ollama.ResponseError, match="The file holds no picture") as raised:
        list(remote.generate(model="llava", prompt="What?", images=[b"no picture"], stream=stream))
    assert raised.value.status_code == 400
    with pytest.raises(ollama.ResponseError, match="Send one picture"):
        list(remote.generate(model="llava", prompt="Why is the sky blue?", stream=stream))


def test_chat_is_not_served(remote: Client) -> None:
    with pytest.raises(ollama.ResponseError) as raised:
        remote.chat(model="llava", messages=[{"role": "user", "content": "What?"}])
    assert raised.value.status_code == 404


def test_loading_ahead(remote: Client) -> None:
    assert remote.generate(model="llava").done_reason == "load"


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
