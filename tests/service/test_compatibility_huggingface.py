"""`huggingface_hub.InferenceClient` against the real server."""

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

huggingface_hub = pytest.importorskip("huggingface_hub")
Client = Any  # huggingface_hub.InferenceClient, where the package is there


@pytest.fixture
def inference(captioner: FakeCaptioner) -> Iterator[Client]:
    """The client, which is told as the documents say."""
    with serving(captioner) as url, huggingface_hub.InferenceClient(model=f"{url}/huggingface") as client:
        yield client


def test_image_to_text(inference: Client, picture: bytes, tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    photo.write_bytes(picture)
    for form in (picture, photo, str(photo)):  # without a media type, and with one
        assert inference.image_to_text(form).generated_text == make_caption(1).text


def test_a_bad_picture(inference: Client) -> None:
    with pytest.raises(huggingface_hub.errors.HfHubHTTPError, match="The file holds no picture") as raised:
        inference.image_to_text(b"no picture")
    assert raised.value.response.status_code == 422


def test_json(client: FlaskClient, picture: bytes) -> None:
    encoded = base64.b64encode(picture).decode()
    response = client.post("/huggingface", json={"inputs": encoded, "parameters": {"max_new_tokens": 9}})
    assert response.get_json() == [{"generated_text": make_caption(1).text}]
    refused = client.post("/huggingface", json={"inputs": "https://example.org/a.png"})
    assert (refused.status_code, refused.get_json()["error"][:28]) == (422, "This service fetches nothing")
    assert client.post("/huggingface", json={}).status_code == 422
    assert client.post("/huggingface").status_code == 411
    form = client.post("/huggingface", data={"image": "x"}, content_type="multipart/form-data")
    assert (form.status_code, set(form.get_json())) == (415, {"error"})


def test_a_key_as_the_client_sends_it(captioner: FakeCaptioner, picture: bytes, tmp_path: Path) -> None:
    key, line = new_key()
    (tmp_path / "keys").write_text(line)
    with serving(captioner, tmp_path / "keys") as url:
        address = f"{url}/huggingface"
        with huggingface_hub.InferenceClient(model=address, token=key) as client:
            assert client.image_to_text(picture).generated_text
        client = huggingface_hub.InferenceClient(model=address, token="other")
        with client, pytest.raises(huggingface_hub.errors.HfHubHTTPError) as raised:
            client.image_to_text(picture)
    assert raised.value.response.status_code == 401
