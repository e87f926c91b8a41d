"""Every error of ours has a status, and no answer or log says more than it should."""

from __future__ import annotations

import ast
import base64
import gzip
import io
import json
import logging
import re
from concurrent.futures import Future
from pathlib import Path

import pytest
from flask.testing import FlaskClient

import service
from captioner import errors
from captioner.errors import BundleError, CaptionerError, ImageError
from captioner.images import ImageLimits, ImageSource, read_image
from service.app import create_app
from service.batching import Pixels
from service.problems import ERRORS, TYPES, Problem, problem_body, type_of
from service.settings import Settings
from tests.service.fake_captioner import FakeCaptioner, make_picture

OURS = {"/", "/v1/captions", "/v1/score"}  # the routes whose errors are problems


def leaves(kind: type[CaptionerError]) -> list[type[CaptionerError]]:
    """The classes of the exception tree that have no subclass in captioner.errors."""
    children = [child for child in kind.__subclasses__() if child.__module__ == errors.__name__]
    return [leaf for child in children for leaf in leaves(child)] or [kind]


def test_every_leaf_has_a_type() -> None:
    assert set(ERRORS) == set(leaves(CaptionerError))


def test_the_table_of_types() -> None:
    for name, kind in TYPES.items():
        assert kind.uri == f"urn:captioner:problem:{name}"
        assert re.fullmatch("[a-z]+(-[a-z]+)*", name)
        assert kind.title
        assert kind.meaning.endswith(".")
        body = json.loads(problem_body(kind.status, "Detail.", kind=name))
        assert (body["type"], body["title"], body["status"]) == (kind.uri, kind.title, kind.status)
    assert len({kind.title for kind in TYPES.values()}) == len(TYPES)


def test_every_problem_that_the_code_raises_is_in_the_table() -> None:
    """By its type, if it names one, and by its status."""
    calls = [
        (file, node)
        for file in Path(service.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Problem" and node.args
    ]
    assert len(calls) > 20
    for file, call in calls:
        status = call.args[0]
        if not isinstance(status, ast.Constant):
            continue
        assert status.value in {kind.status for kind in TYPES.values()}, (file, call.lineno)
        for keyword in call.keywords:
            if keyword.arg == "kind" and isinstance(keyword.value, ast.Constant):
                assert TYPES[str(keyword.value.value)].status == status.value, (file, call.lineno)


@pytest.mark.parametrize("status", [400, 401, 404, 405, 411, 413, 415, 416, 422, 429, 431, 500, 501, 503])
def test_a_status_alone_has_a_general_type(status: int) -> None:
    assert TYPES[Problem(status, "Detail.").kind or ""].status == status
    assert json.loads(problem_body(status, "Detail."))["type"].startswith("urn:captioner:problem:")


def test_a_subclass_has_its_parents_type() -> None:
    class Torn(errors.UnreadableImage):
        pass

    assert type_of(Torn("torn")).name == "unreadable-image"
    assert type_of(ImageError("some other")).name == "internal-error"


def in_dashes(name: str) -> str:
    """`UnreadableImage` as `unreadable-image`."""
    return re.sub("(?<=.)([A-Z])", r"-\1", name).lower()


@pytest.mark.parametrize("kind", leaves(ImageError))
def test_a_row_names_an_error_as_the_problem_does(kind: type[ImageError]) -> None:
    assert in_dashes(kind.__name__) == ERRORS[kind].name
    text = (Path(service.__file__).parents[1] / "docs" / "service.md").read_text(encoding="utf-8")
    assert f"`{kind.__name__}` is `{ERRORS[kind].name}`" in " ".join(text.split())


def test_a_picture_has_the_same_error_alone_and_among_many() -> None:
    limits = ImageLimits(max_pixels=40 * 30)
    client = create_app(Limited(limits), Settings(limits=limits)).test_client()
    pictures = {
        "UnreadableImage": b"no picture",
        "UnsupportedFormat": b"\x00\x00\x00\x18ftypheic" + bytes(64),
        "ImageTooLarge": make_picture(size=(41, 30)),
    }
    assert set(pictures) == {kind.__name__ for kind in leaves(ImageError)}
    for name, data in pictures.items():
        encoded = base64.b64encode(data).decode()
        for path, rows in (("/v1/captions", "captions"), ("/v1/score", "scores")):
            more = {"sentences": ["a"]} if path == "/v1/score" else {}
            alone = client.post(path, json={"images": [encoded], **more}).get_json(force=True)
            row, _ = client.post(path, json={"images": [encoded, encoded], **more}).get_json()[rows]
            assert alone["type"] == f"urn:captioner:problem:{in_dashes(row['error']['type'])}"
            assert (row["error"]["type"], row["error"]["detail"]) == (name, alone["detail"])


class Limited(FakeCaptioner):
    """Reads within its limits."""

    def __init__(self, limits: ImageLimits) -> None:
        super().__init__()
        self.limits = limits

    def read(self, source: ImageSource) -> Future[Pixels]:
        try:
            read_image(source, self.limits)
        except ImageError as error:
            future: Future[Pixels] = Future()
            future.set_exception(error)
            return future
        return super().read(source)


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "br", "deflate, gzip", "identity, gzip", "x" * 500])
def test_a_body_in_another_coding_is_refused_on_every_route(
    client: FlaskClient, captioner: FakeCaptioner, coding: str
) -> None:
    encoded = gzip.compress(b'{"images": []}')
    headers = {"Content-Encoding": coding}
    asked = set()
    for rule in client.application.url_map.iter_rules():
        if "POST" in (rule.methods or ()):
            response = client.post(rule.rule, data=encoded, content_type="application/json", headers=headers)
            # Other systems' clients hear the same sentence in their own form, some of them with the 400 they know.
            assert response.status_code == (415 if rule.rule in OURS else response.status_code), rule.rule
            assert response.status_code in (400, 415), rule.rule
            assert "send it uncompressed, without Content-Encoding." in response.text, rule.rule
            assert response.headers["Accept-Encoding"] == "identity"
            if rule.rule in OURS:
                assert response.get_json(force=True)["type"] == TYPES["unsupported-media-type"].uri
            asked.add(rule.rule)
    assert asked > OURS
    assert captioner.asked == []
    plain = client.post(
        "/v1/captions", data=make_picture(), content_type="image/png", headers={"Content-Encoding": "identity"}
    )
    assert plain.status_code == 200
    assert client.get("/v1/model", headers=headers).status_code == 200  # whose body is nothing that anyone reads


def test_a_problem_has_the_fields_of_rfc_9457(client: FlaskClient) -> None:
    response = client.post("/v1/captions", data=b"no picture", content_type="image/png")
    assert response.status_code == 422
    assert response.content_type == "application/problem+json"
    problem = response.get_json(force=True)
    assert response.data == json.dumps(problem, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
    assert client.get("/healthz").data == b'{"status":"ok"}\n'  # as every other answer
    assert set(problem) == {"type", "title", "status", "detail"}
    assert problem["type"] == "urn:captioner:problem:unreadable-image"
    assert problem["status"] == 422


@pytest.mark.parametrize(
    ("method", "path", "status", "name", "said"),
    [
        ("GET", "/nowhere", 404, "not-found", "/docs lists all."),
        ("GET", "/v1/captions", 405, "method-not-allowed", "Use POST."),
        ("DELETE", "/", 405, "method-not-allowed", "Use GET or POST."),
        ("POST", "/healthz", 405, "method-not-allowed", "Use GET."),
    ],
)
def test_wrong_addresses_and_methods(
    client: FlaskClient, method: str, path: str, status: int, name: str, said: str
) -> None:
    response = client.open(path, method=method)
    assert response.status_code == status
    assert response.content_type == "application/problem+json"
    assert response.get_json(force=True)["status"] == status
    assert response.get_json(force=True)["type"] == TYPES[name].uri
    assert response.get_json(force=True)["detail"].endswith(said)
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
