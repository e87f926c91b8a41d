"""IBM's MAX Image Caption Generator as its README and its tests use it: with plain HTTP."""

from __future__ import annotations

import io
import math

import pytest
from flask.testing import FlaskClient

from service.app import create_app
from service.settings import Settings
from tests.service.fake_captioner import FakeCaptioner, make_caption


def test_predict(client: FlaskClient, picture: bytes) -> None:
    response = client.post("/model/predict", data={"image": (io.BytesIO(picture), "surfing.jpg", "image/jpeg")})
    assert response.status_code == 200
    answer = response.get_json()
    assert answer["status"] == "ok"
    assert [each["index"] for each in answer["predictions"]] == ["0", "1", "2"]
    best, other, _ = answer["predictions"]
    assert best["caption"] == make_caption(1).text
    assert best["probability"] == pytest.approx(math.exp(make_caption(1).log_probability))
    assert set(other) == {"index", "caption", "probability"}


def test_three_captions_within_the_bounds_of_the_service(captioner: FakeCaptioner, picture: bytes) -> None:
    client = create_app(captioner, Settings(max_beam_size=2)).test_client()
    response = client.post("/model/predict", data={"image": (io.BytesIO(picture), "a.png")})
    assert len(response.get_json()["predictions"]) == 2


def test_metadata(client: FlaskClient) -> None:
    answer = client.get("/model/metadata").get_json()
    assert set(answer) == {"id", "name", "description", "type", "source", "license"}
    assert (answer["name"], answer["license"]) == ("fake", "CC-BY-4.0")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        ({"image": (b"text", "a.txt", "text/plain")}, 400),
        ({"photo": (b"text", "a.png", "image/png")}, 400),
        ({}, 400),
        ({"image": "http://example.org/a.png"}, 400),
    ],
)
def test_errors(client: FlaskClient, data: dict[str, object], status: int) -> None:
    files = {name: (io.BytesIO(each[0]), *each[1:]) if isinstance(each, tuple) else each for name, each in data.items()}
    response = client.post("/model/predict", data=files, content_type="multipart/form-data")
    assert response.status_code == status
    answer = response.get_json()
    assert set(answer) == {"status", "message"}
    assert answer["status"] == "error"


def test_two_pictures(client: FlaskClient, picture: bytes) -> None:
    files = [(io.BytesIO(picture), "a.png"), (io.BytesIO(picture), "b.png")]
    response = client.post("/model/predict", data={"image": files})
    assert (response.status_code, response.get_json()["message"]) == (400, "Send one picture in the field image.")
