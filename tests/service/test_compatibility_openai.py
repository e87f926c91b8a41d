"""The `openai` package against the real server."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from service.keys import new_key
from tests.service.fake_captioner import FakeCaptioner, make_caption
from tests.service.real_server import serving

openai = pytest.importorskip("openai")
Client = Any  # openai.OpenAI, where the package is there


@pytest.fixture
def remote(captioner: FakeCaptioner) -> Iterator[Client]:
    """The client, which is told as the documents say."""
    with serving(captioner) as url, openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


def message(address: str) -> dict[str, Any]:
    """A question with a picture."""
    parts = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": address}}]
    return {"role": "user", "content": parts}


def data_url(data: bytes) -> str:
    """The picture inside the address."""
    return "data:image/png;base64," + base64.b64encode(data).decode()


def test_chat(remote: Client, picture: bytes) -> None:
    system = {"role": "system", "content": "Be brief."}
    earlier = {"role": "assistant", "content": "Hello."}
    answer = remote.chat.completions.create(
        model="gpt-x",
        messages=[system, message(data_url(b"other")), earlier, message(data_url(picture))],
        temperature=0,
        n=2,
        max_tokens=1,
    )
    assert len(answer.choices) == 1
    assert answer.choices[0].message.content == make_caption(1).text
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == "fake"
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (0, 5, 5)


@pytest.mark.parametrize("usage", [False, True])
def test_chat_as_a_stream(remote: Client, picture: bytes, usage: bool) -> None:
    more = {"stream_options": {"include_usage": True}} if usage else {}
    stream = remote.chat.completions.create(model="gpt-x", messages=[message(data_url(picture))], stream=True, **more)
    chunks = list(stream)
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(texts) == make_caption(1).text
    assert len(texts) == 7  # the role, five words, the end
    assert [chunk.usage.completion_tokens for chunk in chunks if chunk.usage] == [5] * usage


def test_the_models(remote: Client) -> None:
    assert [model.id for model in remote.models.list()] == ["fake"]


def test_errors(remote: Client, captioner: FakeCaptioner, picture: bytes) -> None:
    for address, said, code in (
        ("https://example.org/a.png", "fetches nothing", "remote-picture"),
        (data_url(b"no picture"), "holds no picture", "unreadable-image"),
    ):
        with pytest.raises(openai.BadRequestError, match=said) as raised:
            remote.chat.completions.create(model="gpt-x", messages=[message(address)])
        assert (raised.value.code, raised.value.type) == (code, "invalid_request_error")
    with pytest.raises(openai.BadRequestError, match="only describes pictures"):
        remote.chat.completions.create(model="gpt-x", messages=[{"role": "user", "content": "Why is the sky blue?"}])
    captioner.failure = RuntimeError("inside")
    with pytest.raises(openai.InternalServerError, match="inside the service"):
        remote.chat.completions.create(model="gpt-x", messages=[message(data_url(picture))], stream=True)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"messages": 3},
        {"messages": [3]},
        {"messages": [{"content": [3]}]},
        {"messages": [{"content": [{"type": "image_url"}]}]},
        {"messages": [{"content": [{"type": "image_url", "image_url": 3}]}]},
        {"messages": [{"content": [{"type": "image_url", "image_url": {"url": "AAAA"}}]}]},
        {"messages": [{"content": [{"type": "image_url", "image_url": {"url": "data:,"}}] * 2}]},
        {"messages": [], "stream": 1},
    ],
)
def test_wrong_requests(client: FlaskClient, body: dict[str, object]) -> None:
    response = client.post("/v1/chat/completions", json=body)
    assert response.status_code == 400
    assert set(response.get_json()["error"]) == {"message", "type", "param", "code"}


def test_a_key_as_the_client_sends_it(captioner: FakeCaptioner, picture: bytes, tmp_path: Path) -> None:
    key, line = new_key()
    (tmp_path / "keys").write_text(line)
    with serving(captioner, tmp_path / "keys") as url:
        with openai.OpenAI(base_url=f"{url}/v1", api_key=key) as client:
            assert client.chat.completions.create(model="m", messages=[message(data_url(picture))]).choices
        with openai.OpenAI(base_url=f"{url}/v1", api_key="other") as client, pytest.raises(openai.AuthenticationError):
            client.models.list()
