"""Pictures in JSON: strict base64, data: URLs, no address of any kind, and bounds on the JSON itself."""

from __future__ import annotations

import base64
import io
import json
import time
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from service.app import create_app
from service.encoded import MAX_DEPTH, MAX_VALUES, read_encoded
from service.problems import TYPES, Problem
from service.settings import Settings
from tests.service.fake_captioner import FakeCaptioner

ADDRESSES = [
    "http://127.0.0.1/a.png",
    "https://example.org/a.png",
    "HTTPS://example.org/a.png",
    "file:///etc/passwd",
    "ftp://example.org/a",
    "gopher://[::1]:70/",
    "http:/127.0.0.1",
    " http://example.org/a.png",
    "\nhttp://0x7f000001/",
    "//example.org/a.png",
    "blob:https://example.org/1",
    "javascript:alert(1)",
    "s3://bucket/key",
]
SENTENCE = "This service fetches nothing"


def send(client: FlaskClient, body: bytes | str, path: str = "/v1/captions") -> tuple[int, dict[str, str]]:
    """Status and parsed answer of a body that claims to be JSON."""
    response = client.post(path, data=body, content_type="application/json")
    return response.status_code, response.get_json(force=True)


@given(st.binary(max_size=200))
def test_base64_comes_back(data: bytes) -> None:
    text = base64.b64encode(data).decode()
    for form in (text, f"data:image/png;base64,{text}", f"DATA:;charset=x;BASE64,{text}"):
        assert read_encoded(form, name="n", where="w").data == data


def test_the_claimed_type_is_kept() -> None:
    assert read_encoded("data:Image/PNG;base64,AAAA", name="n", where="w").media_type == "image/png"


@pytest.mark.parametrize(
    "text",
    [
        *("A", "AAA", "AA=A", "AAAA=", "AAAA====", "AAAA\n", "AA AA", "AA-_", "AAAA!", "ÄAAA", "http%3A//a/b.png"),
        *("data:image/png,AAAA", "data:image/png", "data:image/png;base64", "data:image/png;base64,AA\nAA"),
        *(3, None, ["AAAA"], {"a": "AAAA"}),
    ],
)
def test_what_is_no_base64_is_refused(client: FlaskClient, text: object) -> None:
    status, problem = send(client, json.dumps({"images": [text]}))
    assert status == 422
    assert problem["type"] == TYPES["invalid-picture"].uri
    assert "images[0]" in problem["detail"]


@pytest.mark.parametrize("text", ["xx!!", "AAAA=", "data:,x", *ADDRESSES])
def test_among_many_what_is_no_base64_fails_alone(client: FlaskClient, picture: bytes, text: str) -> None:
    good = base64.b64encode(picture).decode()
    for path, rows, more in (("/v1/captions", "captions", {}), ("/v1/score", "scores", {"sentences": ["a"]})):
        response = client.post(path, json={"images": [good, text, good], **more})
        assert response.status_code == 200
        first, bad, last = response.get_json()[rows]
        assert "error" not in first
        assert "error" not in last
        assert (bad["image"], set(bad)) == ("image-2", {"image", "error"})
        assert bad["error"]["type"] == "UnreadableImage"
        assert "images[1]" in bad["error"]["detail"]
        assert bad["error"]["detail"].startswith(SENTENCE) == (text in ADDRESSES)
    both = client.post("/v1/captions", json={"images": [text, text]})
    assert ["error" in row for row in both.get_json()["captions"]] == [True, True]


def test_among_many_what_is_no_string_fails_the_request(client: FlaskClient) -> None:
    status, problem = send(client, json.dumps({"images": ["AAAA", 3]}))
    assert (status, problem["type"]) == (422, TYPES["invalid-picture"].uri)
    assert "images[1]" in problem["detail"]


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_is_refused_with_one_sentence(client: FlaskClient, captioner: FakeCaptioner, address: str) -> None:
    answers = [send(client, json.dumps({"images": [address]}))]
    answers.append(send(client, json.dumps({"images": address})))
    answers.append(send(client, json.dumps({"images": [address], "sentences": ["a"]}), "/v1/score"))
    for status, problem in answers:
        assert (status, problem["type"]) == (422, TYPES["remote-picture"].uri)
        assert problem["detail"].startswith(SENTENCE)
        assert "images[0]" in problem["detail"]
        assert "127.0.0.1" not in problem["detail"]
    assert captioner.asked == []


HTTP = "http://example.org/a.png"


@pytest.mark.parametrize("path", ["/v1/captions", "/v1/score"])
@pytest.mark.parametrize(
    "asked",
    [
        *({"json": {"image": each}} for each in (*ADDRESSES, [HTTP], {"url": HTTP}, [{"image_url": {"url": HTTP}}])),
        *({"json": {name: HTTP}} for name in ("images", "url", "urls", "image_url")),
        {"json": {"images": HTTP, "image": HTTP}},
        *({"json": {"images": each}} for each in ({"url": HTTP}, [{"url": HTTP}], [{"image_url": {"url": HTTP}}])),
        *({"json": {}, "query_string": {name: HTTP}} for name in ("image", "images", "url", "urls", "image_url")),
        *({"data": {name: HTTP}} for name in ("image", "images", "url", "urls", "image_url")),
        {"data": {"sentence": "a dog"}, "query_string": {"url": HTTP}},
        {"data": HTTP.encode(), "content_type": "image/png"},
        {"data": f"\n{HTTP.upper()}\n".encode(), "content_type": "image/*"},
    ],
)
def test_an_address_is_refused_wherever_it_stands(client: FlaskClient, path: str, asked: dict[str, Any]) -> None:
    if "data" in asked:
        asked = {"content_type": "multipart/form-data", **asked}
    response = client.post(path, **asked)
    assert (response.status_code, response.get_json(force=True)["type"]) == (422, TYPES["remote-picture"].uri)
    assert response.get_json(force=True)["detail"].startswith(SENTENCE)


def test_an_address_as_a_body_that_is_no_picture(client: FlaskClient) -> None:
    """As the documents say: such a body is not looked into."""
    for path in ("/v1/captions", "/v1/score"):
        response = client.post(path, data=HTTP, content_type="text/plain")
        assert (response.status_code, response.get_json(force=True)["type"]) == (
            415,
            TYPES["unsupported-media-type"].uri,
        )


@pytest.mark.parametrize("asked", [{"data": HTTP.encode()}, {"json": {"inputs": {"url": HTTP}}}])
def test_an_address_as_the_whole_body_or_in_an_object_for_hugging_face(
    client: FlaskClient, asked: dict[str, Any]
) -> None:
    response = client.post("/huggingface", **asked)
    assert (response.status_code, response.get_json()["error"][: len(SENTENCE)]) == (422, SENTENCE)


def test_an_address_in_other_fields_is_refused_too(client: FlaskClient, picture: bytes) -> None:
    text = base64.b64encode(picture).decode()
    for name in ("url", "urls", "image_url"):
        status, problem = send(client, json.dumps({"images": [text], name: "http://example.org/a.png"}))
        assert (status, problem["type"]) == (422, TYPES["remote-picture"].uri)
    status, problem = send(client, json.dumps({"images": [text], "sentences": ["a"], "url": "http://a/"}), "/v1/score")
    assert (status, problem["type"]) == (422, TYPES["remote-picture"].uri)
    form = client.post("/v1/captions", data={"image": "http://a/b.png"}, content_type="multipart/form-data")
    query = client.post("/v1/captions?url=http://a/b.png", data={"image": (io.BytesIO(picture), "a.png")})
    for response in (form, query):
        assert response.get_json(force=True)["type"] == TYPES["remote-picture"].uri


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'"text"',
        b"null",
        b'{"images": ["AAAA"], "beam_size": NaN}',
        b'{"images": ["AAAA"], "beam_size": -Infinity}',
        b'{"images": ["AAAA"], "images": ["AAAA"]}',
        b'{"images": ["\xff"]}',
        b'{"images": ["\\ud800"]}',
        b'{"\\udc00": 1}',
        b'{"beam_size": ' + b"9" * 5000 + b"}",
        b'{"a": "' + b'\\"' * 1000,
        b"[" * 200_000,
        b'{"a":' * 100_000,
        b"[" + b"1," * 200_000 + b"1]",
        b'{"images": ' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}",
    ],
)
def test_what_is_no_json_for_us_is_refused_quickly(client: FlaskClient, body: bytes) -> None:
    started = time.monotonic()
    status, problem = send(client, body)
    assert (status, problem["type"]) == (400, TYPES["invalid-json"].uri)
    assert "too many values" not in problem["detail"] or str(MAX_VALUES) in problem["detail"]
    assert time.monotonic() - started < 2


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b'{"beam_size": }', "no valid JSON: see line 1, column 15."),
        (b'{\n  "images": ["AAAA"],\n  beam_size: 3\n}', "no valid JSON: see line 3, column 3."),
        ('{"ä": "ö" 3}'.encode(), "no valid JSON: see line 1, column 11."),
        ('{\r\n"ä": "'.encode() + b'\xff"}', "no UTF-8: see line 2, column 7."),
        (b'{"beam_size": ' + b"9" * 5000 + b"}", "thousands of digits"),
    ],
)
def test_broken_json_says_where(client: FlaskClient, body: bytes, said: str) -> None:
    status, problem = send(client, body)
    assert (status, problem["type"]) == (400, TYPES["invalid-json"].uri)
    assert said in problem["detail"]


def test_unended_strings_take_no_quadratic_time(client: FlaskClient) -> None:
    started = time.monotonic()
    status, _ = send(client, b'{"a": "' + b'\\"' * 2**20)
    assert status == 400
    assert time.monotonic() - started < 5


def test_brackets_within_strings_do_not_count(client: FlaskClient) -> None:
    status, problem = send(client, json.dumps({"images": ["[" * (MAX_VALUES + 1)]}))
    assert (status, problem["type"]) == (422, TYPES["invalid-picture"].uri)


@pytest.mark.parametrize("images", [None, [], [None], {}, 3, {"a": "AAAA"}])
def test_no_picture_in_json(client: FlaskClient, images: object) -> None:
    status, problem = send(client, json.dumps({"images": images}))
    assert status == 422
    assert problem["type"] in (TYPES["no-picture"].uri, TYPES["invalid-picture"].uri)
    assert send(client, "{}")[1]["type"] == TYPES["no-picture"].uri


def test_too_many_pictures_in_json(client: FlaskClient) -> None:
    status, problem = send(client, json.dumps({"images": ["AAAA"] * 4}))
    assert (status, problem["type"]) == (413, TYPES["too-many-pictures"].uri)


def test_a_body_over_the_limit() -> None:
    client = create_app(FakeCaptioner(), Settings()).test_client()
    status, problem = send(client, b'"' + b"A" * Settings().max_body_bytes + b'"')
    assert (status, problem["type"]) == (413, TYPES["request-too-large"].uri)


def test_json_without_a_length(client: FlaskClient) -> None:
    assert client.post("/v1/captions", content_type="application/json").status_code == 411


def test_a_problem_from_the_reader_has_its_type() -> None:
    with pytest.raises(Problem) as raised:
        read_encoded("http://a/b", name="n", where="w")
    assert (raised.value.status, raised.value.kind) == (422, "remote-picture")
