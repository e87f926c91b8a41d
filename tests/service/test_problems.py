"""Every error of ours has a status, and no answer or log says more than it should."""

from __future__ import annotations

import io
import json
import logging

import pytest
from flask.testing import FlaskClient

from captioner import errors
from captioner.errors import BundleError, CaptionerError, ImageError
from service.problems import STATUS, status_of
from tests.service.fake_captioner import FakeCaptioner, make_picture


def leaves(kind: type[CaptionerError]) -> list[type[CaptionerError]]:
    """The classes of the exception tree that have no subclass in captioner.errors."""
    children = [child for child in kind.__subclasses__() if child.__module__ == errors.__name__]
    return [leaf for child in children for leaf in leaves(child)] or [kind]


def test_every_leaf_has_a_status() -> None:
    assert set(STATUS) == set(leaves(CaptionerError))


def test_a_subclass_has_its_parents_status() -> None:
    class Torn(errors.UnreadableImage):
        pass

    assert status_of(Torn("torn")) == 422
    assert status_of(ImageError("some other")) == 500


def test_a_problem_has_the_fields_of_rfc_9457(client: FlaskClient) -> None:
    response = client.post("/v1/captions", data=b"no picture", content_type="image/png")
    assert response.status_code == 422
    assert response.content_type == "application/problem+json"
    problem = response.get_json(force=True)
    assert set(problem) == {"type", "title", "status", "detail"}
    assert problem["type"] == "urn:captioner:problem:unreadable-image"
    assert problem["status"] == 422


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/nowhere", 404), ("GET", "/v1/captions", 405), ("DELETE", "/", 405)]
)
def test_wrong_addresses_and_methods(client: FlaskClient, method: str, path: str, status: int) -> None:
    response = client.open(path, method=method)
    assert response.status_code == status
    assert response.content_type == "application/problem+json"
    assert response.get_json(force=True)["status"] == status
    assert ("Allow" in response.headers) == (status == 405)


@pytest.mark.parametrize("kind", [RuntimeError, BundleError, UnicodeError])
def test_an_inner_error_tells_nothing(
    client: FlaskClient, captioner: FakeCaptioner, caplog: pytest.LogCaptureFixture, kind: type[Exception]
) -> None:
    captioner.failure = kind("/secret/holiday.png: a man in a red hat")
    for path in ("/v1/captions", "/"):
        caplog.clear()
        with caplog.at_level(logging.DEBUG):
            response = client.post(path, data={"image": (make_picture_stream(), "holiday.png")})
        assert response.status_code == 500
        for text in (response.get_data(as_text=True), caplog.text):
            assert "secret" not in text
            assert "red hat" not in text
            assert "Traceback" not in text
        assert kind.__name__ in caplog.text
        assert "holiday" not in caplog.text
        if path != "/":
            assert json.loads(response.data)["instance"] in caplog.text


def make_picture_stream() -> io.BytesIO:
    """A picture as an open file, which Flask's client closes."""
    return io.BytesIO(make_picture())


def test_nothing_about_a_picture_is_logged(client: FlaskClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        client.post("/v1/captions", data={"image": (make_picture_stream(), "grandmother.png")})
        client.post("/v1/captions", data=b"broken", content_type="image/png")
    assert "grandmother" not in caplog.text
    assert "dog" not in caplog.text
