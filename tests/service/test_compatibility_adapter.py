"""What holds for every adapter: places, keys, bounds and addresses, each in the shape that its clients expect."""

from __future__ import annotations

import base64
import io
import logging
import threading
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from captioner.images import ImageLimits
from service.app import create_app
from service.keys import new_key
from service.settings import Settings
from tests.service.fake_captioner import FakeCaptioner, make_picture

MEMBERS = {
    "/model/predict": {"status", "message"},
    "/huggingface": {"error"},
    "/api/generate": {"error"},
    "/api/chat": {"error"},
    "/v1/chat/completions": {"error"},
    "/api/v1/vision/caption": {"id", "code", "error", "result"},
}
WITH_JSON = [path for path in MEMBERS if path != "/model/predict"]


NAMES = st.sampled_from(
    [
        *("images", "image_url", "url", "inputs", "messages", "content", "type", "stream", "stream_options", "prompt"),
        *("id", "sentences", "attention", "beam_size", "length_penalty", "model", "role"),
    ]
)
TEXTS = st.sampled_from(["", "AAAA", "image_url", "data:image/png;base64,AAAA", "http://a/b"]) | st.text(max_size=8)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS
VALUES = st.recursive(LEAVES, lambda each: st.lists(each, max_size=3) | st.dictionaries(NAMES, each, max_size=4))


def ask(client: FlaskClient, path: str, picture: bytes | None = None, address: str = "") -> TestResponse:
    """A request with a picture, or with an address where a picture belongs."""
    text = address or base64.b64encode(picture or make_picture()).decode()
    url = address or f"data:image/png;base64,{text}"
    content = [{"type": "image_url", "image_url": {"url": url}}]
    bodies: dict[str, dict[str, Any]] = {
        "/model/predict": {"data": {"image": address or (io.BytesIO(picture or make_picture()), "holiday.png")}},
        "/huggingface": {"json": {"inputs": text}},
        "/api/generate": {"json": {"images": [text], "stream": False}},
        "/api/chat": {"json": {"messages": [{"role": "user", "images": [text]}], "stream": False}},
        "/v1/chat/completions": {"json": {"messages": [{"role": "user", "content": content}]}},
        "/api/v1/vision/caption": {"json": {"images": [url]}},
    }
    if path == "/model/predict":
        bodies[path]["content_type"] = "multipart/form-data"
    return client.post(path, **bodies[path])


@pytest.mark.parametrize("path", MEMBERS)
def test_a_full_service(captioner: FakeCaptioner, path: str) -> None:
    client = create_app(captioner, Settings(threads=3, max_waiting=1)).test_client()
    assert ask(client, path).status_code == 200
    assert captioner.arrived.acquire(timeout=120)
    captioner.gate.clear()
    waiting = threading.Thread(target=ask, args=(client.application.test_client(), path))
    waiting.start()
    try:
        assert captioner.arrived.acquire(timeout=120)
        refused = ask(client, path)
    finally:
        captioner.gate.set()
        waiting.join(120)
    assert refused.status_code == 503
    assert int(refused.headers["Retry-After"]) >= 1
    assert set(refused.get_json()) == MEMBERS[path]
    assert ask(client, path).status_code == 200


@pytest.mark.parametrize("path", MEMBERS)
@pytest.mark.parametrize("address", ["http://127.0.0.1/a.png", "file:///etc/passwd"])
def test_addresses(client: FlaskClient, captioner: FakeCaptioner, path: str, address: str) -> None:
    response = ask(client, path, address=address)
    assert response.status_code == (422 if path == "/huggingface" else 400)
    assert "This service fetches nothing" in response.text
    assert set(response.get_json()) == MEMBERS[path]
    assert captioner.asked == []


@pytest.mark.parametrize("path", MEMBERS)
def test_bounds(path: str, captioner: FakeCaptioner) -> None:
    settings = Settings(max_body_bytes=1000, limits=ImageLimits(max_bytes=1000))
    client = create_app(captioner, settings).test_client()
    response = ask(client, path, picture=bytes(2000))
    assert response.status_code == 413
    assert set(response.get_json()) == MEMBERS[path]


@pytest.mark.parametrize("path", MEMBERS)
def test_without_a_key(path: str, captioner: FakeCaptioner, tmp_path: Path) -> None:
    key, line = new_key()
    (tmp_path / "keys").write_text(line)
    client = create_app(captioner, Settings(keys_file=tmp_path / "keys")).test_client()
    response = ask(client, path)
    assert response.status_code == 401
    assert set(response.get_json()) == MEMBERS[path]
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {key}"
    assert ask(client, path).status_code == 200


@pytest.mark.parametrize("path", WITH_JSON)
@pytest.mark.parametrize("body", [b"{", b"[" * 10_000, b'"text"', b'{"images": "\\ud800"}'])
def test_broken_json(client: FlaskClient, path: str, body: bytes) -> None:
    response = client.post(path, data=body, content_type="application/json")
    assert response.status_code == 400
    assert set(response.get_json()) == MEMBERS[path]


@pytest.fixture(scope="module")
def application() -> Flask:
    """One for many requests."""
    return create_app(FakeCaptioner(), Settings())


@pytest.mark.parametrize("path", [*WITH_JSON, "/api/show", "/v1/captions", "/v1/score"])
@hypothesis_settings(max_examples=25)
@given(body=st.dictionaries(NAMES, VALUES, max_size=5))
def test_no_json_at_all_is_a_server_error(application: Flask, path: str, body: dict[str, Any]) -> None:
    response = application.test_client().post(path, json=body)
    assert response.status_code < 500


@pytest.mark.parametrize("path", MEMBERS)
def test_an_inner_error_tells_nothing(
    client: FlaskClient, captioner: FakeCaptioner, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    captioner.failure = RuntimeError("/secret/holiday.png: a man in a red hat")
    with caplog.at_level(logging.DEBUG):
        response = ask(client, path)
    assert response.status_code == 500
    assert set(response.get_json()) == MEMBERS[path]
    for text in (response.text, caplog.text):
        assert "red hat" not in text
        assert "holiday" not in text


@pytest.mark.parametrize("path", MEMBERS)
def test_answers_stay_out_of_caches(client: FlaskClient, path: str) -> None:
    assert ask(client, path).headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", ["/api/generate", "/api/chat", "/v1/chat/completions"])
def test_streams_stay_out_of_caches(client: FlaskClient, picture: bytes, path: str) -> None:
    url = "data:image/png;base64," + base64.b64encode(picture).decode()
    content = [{"type": "image_url", "image_url": {"url": url}}]
    body = {"stream": True, "images": [url], "messages": [{"role": "user", "content": content, "images": [url]}]}
    response = client.post(path, json=body)
    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-store"
