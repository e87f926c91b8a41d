"""PhotoPrism's vision request as its sources write it; its own client is written in Go."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.service.fake_captioner import make_caption


def ask(client: FlaskClient, **members: Any) -> TestResponse:
    """A request as `ApiRequest.JSON` writes it: some members are never left out."""
    body = {"id": "7f1b1a1e", "model": "captioner", "version": "latest", "suffix": "", "stream": False, **members}
    return client.post("/api/v1/vision/caption", json=body)


def data_url(data: bytes) -> str:
    """As PhotoPrism's `media.DataUrl`."""
    return "data:image/jpeg;base64," + base64.b64encode(data).decode()


def test_a_caption(client: FlaskClient, picture: bytes) -> None:
    response = ask(client, images=[data_url(picture)], prompt="Describe!", options={"temperature": 0.1})
    assert response.status_code == 200
    answer = response.get_json()
    assert (answer["id"], answer["code"]) == ("7f1b1a1e", 200)
    assert answer["model"] == {"type": "caption", "name": "fake", "version": "0123456789ab"}
    assert answer["result"]["caption"]["text"] == make_caption(1).text
    assert answer["result"]["caption"]["confidence"] == round(make_caption(1).confidence, 4)


@pytest.mark.parametrize(
    ("members", "status", "said"),
    [
        ({"url": "https://photos.example.org/api/v1/dl/1"}, 400, "fetches nothing"),
        ({"images": ["https://photos.example.org/api/v1/dl/1"]}, 400, "fetches nothing"),
        ({"images": [data_url(b"no picture")]}, 400, "no picture"),
        ({"images": []}, 400, "one picture"),
        ({}, 400, "one picture"),
        ({"images": ["AAAA", "AAAA"]}, 400, "one picture"),
        ({"id": "x" * 100}, 400, "one picture"),
        ({"id": None}, 400, "one picture"),
    ],
)
def test_errors(client: FlaskClient, members: dict[str, Any], status: int, said: str) -> None:
    response = ask(client, **members)
    assert response.status_code == status
    answer = response.get_json()
    assert answer["code"] == status
    assert said in answer["error"]
    assert answer["result"] == {}  # so that PhotoPrism finds no caption
    assert 0 < len(answer["id"]) <= 64


def test_a_broken_body(client: FlaskClient) -> None:
    response = client.post("/api/v1/vision/caption", data=b"{", content_type="application/json")
    assert (response.status_code, response.get_json()["code"]) == (400, 400)
