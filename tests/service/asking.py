"""Requests to the service through Flask's test client."""

from __future__ import annotations

import base64
import io

from flask.testing import FlaskClient
from werkzeug.test import TestResponse


def post(client: FlaskClient, *pictures: tuple[str, bytes], query: str = "", **fields: str) -> TestResponse:
    """A multipart request with `pictures` (name, bytes) in the field image."""
    files = [(io.BytesIO(data), name) for name, data in pictures]
    return client.post(f"/v1/captions{query}", data={"image": files, **fields})


def encoded(data: bytes) -> str:
    """Base64."""
    return base64.b64encode(data).decode()


def post_json(client: FlaskClient, path: str = "/v1/captions", **members: object) -> TestResponse:
    """A JSON request."""
    return client.post(path, json=members)


def detail(response: TestResponse) -> str:
    """The sentence of a problem."""
    assert response.content_type == "application/problem+json"
    text: str = response.get_json(force=True)["detail"]
    return text
