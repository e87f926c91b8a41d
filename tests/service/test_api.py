"""The JSON API over a captioner that needs no model."""

from __future__ import annotations

import dataclasses
import io
import random
import re
import threading
from typing import Any

import numpy as np
import pytest
from flask import request
from flask.testing import FlaskClient

from captioner.captions import Caption
from captioner.decoding.options import DecodingOptions
from captioner.images import ImageLimits
from service.app import create_app
from service.batching import Pixels
from service.settings import Settings
from tests.service.asking import detail, encoded, post, post_json
from tests.service.fake_captioner import FakeCaptioner, make_picture


def test_a_row_a_picture_in_order(client: FlaskClient) -> None:
    response = post(client, ("b.png", make_picture("red")), ("a.jpg", make_picture("blue", "JPEG")))
    assert response.status_code == 200
    rows = response.get_json()["captions"]
    assert [row["image"] for row in rows] == ["b.png", "a.jpg"]
    assert list(rows[0]) == ["image", "caption", "score", "confidence", "alternatives", "words", "model"]
    assert rows[0]["model"] == "fake@0123456789ab"
    assert rows[0]["words"][1] == {"word": "<b>dog</b>", "probability": 0.62}


def test_a_large_form_leaves_no_temporary_file(picture: bytes) -> None:
    data = picture + bytes(2**20)
    part = b'--b\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n' + data + b"\r\n--b--\r\n"
    app = create_app(FakeCaptioner(), Settings())
    with app.test_request_context(method="POST", data=part, content_type="multipart/form-data; boundary=b"):
        (file,) = request.files.getlist("image")
        assert isinstance(file.stream, io.BytesIO)
        assert file.read() == data


@pytest.mark.parametrize("seed", range(12))
def test_a_photo_far_under_the_limit_is_accepted_whatever_its_bytes(client: FlaskClient, seed: int) -> None:
    """The parser of forms holds back a few bytes where a part might end, which must not count against a limit."""
    noise = random.Random(seed).randbytes(2**21 + 977 * seed)  # a line end every 128 bytes or so
    head = f'--b\r\nContent-Disposition: form-data; name="image"; filename="{"n" * seed}.jpg"\r\n\r\n'.encode()
    body = head + make_picture("red", "JPEG") + noise + b"\r\n--b--\r\n"
    response = client.post("/v1/captions", data=body, content_type="multipart/form-data; boundary=b")
    assert response.status_code == 200


def test_a_raw_body(client: FlaskClient, picture: bytes) -> None:
    response = client.post("/v1/captions?num_captions=2", data=picture, content_type="image/png")
    assert response.status_code == 200
    (row,) = response.get_json()["captions"]
    assert row["image"] == "image"
    assert len(row["alternatives"]) == 1


def test_one_bad_picture_of_many_fails_alone(client: FlaskClient, picture: bytes) -> None:
    response = post(client, ("good.png", picture), ("bad.png", picture[:40]), ("also good.png", picture))
    assert response.status_code == 200
    good, bad, also_good = response.get_json()["captions"]
    assert "caption" in good
    assert "caption" in also_good
    assert bad["image"] == "bad.png"
    assert bad["error"]["type"] == "UnreadableImage"
    assert set(bad) == {"image", "error"}


@pytest.mark.parametrize(
    ("data", "status"), [(b"", 422), (b"nothing", 422), (b"\x00\x00\x00\x18ftypheic" + bytes(64), 415)]
)
def test_a_single_bad_picture_is_a_problem(client: FlaskClient, data: bytes, status: int) -> None:
    response = post(client, ("only.png", data))
    assert response.status_code == status
    detail(response)


@pytest.mark.parametrize("in_form", [True, False])
def test_options_reach_the_captioner(
    client: FlaskClient, captioner: FakeCaptioner, picture: bytes, in_form: bool
) -> None:
    given = {"beam_size": "5", "num_captions": "4", "length_penalty": "0.7", "min_length": "2", "max_length": "9"}
    query = "" if in_form else "?" + "&".join(f"{name}={value}" for name, value in given.items())
    response = post(client, ("a.png", picture), query=query, **(given if in_form else {}))
    assert response.status_code == 200
    assert captioner.asked == [
        DecodingOptions(beam_size=5, num_captions=4, length_penalty=0.7, min_length=2, max_length=9)
    ]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("?beams=3", "beams"),
        ("?beam_size=three", "whole number"),
        ("?beam_size=1_0", "whole number"),
        ("?beam_size=" + "9" * 6000, "whole number"),
        ("?beam_size=" + "9" * 6000, "which is too large: send a whole number from 1 to 16."),
        ("?beam_size=9999999999", "'9999999999', which is too large: send a whole number from 1 to 16."),
        ("?beam_size=-9999999999", "too small: send a whole number from 1 to 16."),
        ("?length_penalty=12345678901", "too large: send a number from 0 to 10."),
        ("?length_penalty=1e999", "too large: send a number from 0 to 10."),
        ("?length_penalty=-1e9999", "too small: send a number from 0 to 10."),
        ("?length_penalty=10.000001", "too large: send a number from 0 to 10."),
        ("?max_length=0", "too small: send a whole number from 1 to 64."),
        ("?min_length=65", "too large: send a whole number from 0 to 64."),
        ("?num_captions=17", "too large: send a whole number from 1 to 16."),
        ("?beam_size=", "whole number"),
        ("?length_penalty=nan", "a number"),
        ("?beam_size=3&beam_size=4", "2 times"),
        ("?beam_size=0", "beam_size is '0', which is too small: send a whole number from 1 to 16."),
        ("?beam_size=17", "from 1 to 16"),
        ("?max_length=65", "from 1 to 64"),
        ("?num_captions=4", "num_captions"),
        ("?min_length=9&max_length=8", "min_length"),
        ("?image=x", "image"),
    ],
)
def test_wrong_options_are_refused(
    client: FlaskClient, captioner: FakeCaptioner, picture: bytes, query: str, said: str
) -> None:
    response = post(client, ("a.png", picture), query=query)
    assert response.status_code == 422
    assert said in detail(response)
    assert captioner.asked == []


def test_no_sentence_names_a_bound_that_does_not_hold_here(captioner: FakeCaptioner, picture: bytes) -> None:
    settings = Settings(max_beam_size=7, max_words=41)
    client = create_app(captioner, settings).test_client()
    for name, (least, most) in settings.option_bounds.items():
        for value in (least - 1, most + 1, -1000, 1000, 10**30):
            sentence = detail(post(client, ("a.png", picture), query=f"?{name}={value}"))
            assert {int(number) for number in re.findall(r"\d+", sentence)} <= {abs(value), least, most}, sentence
            assert str(least if value < least else most) in re.findall(r"\d+", sentence), sentence


def test_the_same_option_in_query_and_form_is_refused(client: FlaskClient, picture: bytes) -> None:
    response = post(client, ("a.png", picture), query="?beam_size=3", beam_size="3")
    assert response.status_code == 422


def test_no_picture(client: FlaskClient) -> None:
    assert client.post("/v1/captions", data={"beam_size": "3", "image": (io.BytesIO(), "")}).status_code == 422
    assert client.post("/v1/captions", data={"photo": (io.BytesIO(b"x"), "a.png")}).status_code == 422


@pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/form-data; boundary="])
@pytest.mark.parametrize("path", ["/v1/captions", "/v1/score"])
def test_a_form_without_a_boundary(client: FlaskClient, path: str, content_type: str) -> None:
    response = client.post(path, data=b"--", content_type=content_type)
    assert response.status_code == 400
    assert response.get_json(force=True)["type"] == "urn:captioner:problem:bad-request"
    assert "leave Content-Type to your client" in detail(response)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a.jpg", "The field image holds text, not a file; with curl write image=@a.jpg."),
        ("C:\\a.jpg", "holds text"),
        ("", "holds text"),
        ("HTTPS://example.org/a.png", "fetches nothing, and the field image is an address"),
    ],
)
def test_text_in_the_field_for_pictures(client: FlaskClient, text: str, said: str) -> None:
    for path in ("/v1/captions", "/v1/score"):
        response = client.post(path, data={"image": text}, content_type="multipart/form-data")
        assert response.status_code == 422
        assert said in detail(response)


def test_image_is_no_member_of_json(client: FlaskClient, picture: bytes) -> None:
    for path in ("/v1/captions", "/v1/score"):
        response = post_json(client, path, image=encoded(picture))
        assert response.status_code == 422
        assert detail(response) == "'image' is no field here; name it images."


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_other_bodies(client: FlaskClient, content_type: str) -> None:
    response = client.post("/v1/captions", data=b'{"images": ["AAAA"]}', content_type=content_type)  # curl -d @file
    assert response.status_code == 415
    assert detail(response).endswith("or JSON with images and Content-Type: application/json.")


def test_a_body_without_a_length(client: FlaskClient) -> None:
    assert client.post("/v1/captions", content_type="image/png").status_code == 411


def test_too_many_pictures(client: FlaskClient, picture: bytes) -> None:
    four = post(client, *[(f"{number}.png", picture) for number in range(4)])
    assert four.status_code == 413
    assert "at most 3" in detail(four)
    many_parts = client.post("/v1/captions", data={"beam_size": ["3"] * 80}, content_type="multipart/form-data")
    assert many_parts.status_code == 413
    assert "too many parts" in detail(many_parts)


def test_too_many_bytes(captioner: FakeCaptioner, picture: bytes) -> None:
    settings = Settings(max_body_bytes=1000, limits=ImageLimits(max_bytes=1000))
    client = create_app(captioner, settings).test_client()
    raw = client.post("/v1/captions", data=bytes(1001), content_type="image/png")
    assert raw.status_code == 413
    assert "more than 1,000 bytes" in detail(raw)
    assert post(client, ("a.png", bytes(2000))).status_code == 413
    assert client.post("/v1/captions", data=picture, content_type="image/png").status_code == 200


def test_a_full_service_says_when_to_come_back(client: FlaskClient, captioner: FakeCaptioner, picture: bytes) -> None:
    captioner.gate.clear()
    statuses: list[int] = []
    waiting = [
        threading.Thread(
            target=lambda: statuses.append(
                client.application.test_client()
                .post("/v1/captions", data=picture, content_type="image/png")
                .status_code
            )
        )
        for _ in range(2)
    ]
    for thread in waiting:
        thread.start()
        assert captioner.arrived.acquire(timeout=120)
    try:
        for path in ("/v1/captions", "/"):
            refused = client.post(path, data=picture, content_type="image/png")
            assert refused.status_code == 503
            assert refused.headers["Retry-After"] == "1"
        assert client.get("/healthz").status_code == 200
    finally:
        captioner.gate.set()
        for thread in waiting:
            thread.join(120)
    assert statuses == [200, 200]
    assert client.post("/v1/captions", data=picture, content_type="image/png").status_code == 200


def test_a_place_is_given_back_after_an_error(client: FlaskClient, captioner: FakeCaptioner, picture: bytes) -> None:
    for _ in range(5):
        assert client.post("/v1/captions", data=b"x", content_type="text/plain").status_code == 415
    captioner.failure = RuntimeError("inside")
    for _ in range(5):
        assert client.post("/v1/captions", data=picture, content_type="image/png").status_code == 500
    captioner.failure = None
    assert client.post("/v1/captions", data=picture, content_type="image/png").status_code == 200


def test_the_model(client: FlaskClient) -> None:
    assert client.get("/v1/model").get_json() == {
        "name": "fake",
        "digest": "0123456789ab",
        "licence": "CC-BY-4.0",
        "scores": {"CIDEr-D": 50.0},  # and nothing of its training
        "decoding": DecodingOptions(beam_size=3).to_dict(),
    }


def test_health(captioner: FakeCaptioner) -> None:
    answers: dict[str, Any] = {"ready": True}
    client = create_app(captioner, Settings(), ready=lambda: answers["ready"]).test_client()
    assert client.get("/readyz").get_json() == {"status": "ready"}
    answers["ready"] = False
    assert client.get("/readyz").status_code == 503
    assert client.get("/healthz").get_json() == {"status": "ok"}


@pytest.mark.parametrize("path", ["/", "/v1/model", "/healthz", "/nowhere", "/static/page.js", "/static/page.css"])
def test_every_answer_has_the_security_headers(client: FlaskClient, path: str) -> None:
    with client.get(path) as response:
        policy = response.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; ")
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Referrer-Policy"] == "no-referrer"


class Attentive(FakeCaptioner):
    """Looks at one of 2 x 2 places for each word."""

    def caption_features(self, features: Pixels, options: DecodingOptions | None = None) -> list[Caption]:
        looked = np.full((5, 2, 2), 1 / 3, np.float32)
        return [dataclasses.replace(each, attention=looked) for each in super().caption_features(features, options)]


@pytest.mark.parametrize("form", ["json", "query", "multipart"])
def test_attention_on_request(picture: bytes, form: str) -> None:
    client = create_app(Attentive(), Settings()).test_client()
    if form == "json":
        answer = post_json(client, images=[encoded(picture), "AAAA"], attention=True)
    elif form == "query":
        answer = post(client, ("a.png", picture), ("b.png", b"AAA"), query="?attention=true")
    else:
        answer = post(client, ("a.png", picture), ("b.png", b"AAA"), attention="true")
    good, bad = answer.get_json()["captions"]
    assert good["attention"] == [[[0.3333, 0.3333], [0.3333, 0.3333]]] * len(good["words"])
    assert set(bad) == {"image", "error"}
    (without,) = post(client, ("a.png", picture)).get_json()["captions"]
    assert "attention" not in without


def test_a_model_without_attention_says_null(client: FlaskClient, picture: bytes) -> None:
    (row,) = post_json(client, images=[encoded(picture)], attention=True).get_json()["captions"]
    assert row["attention"] is None


def test_timings(client: FlaskClient, picture: bytes) -> None:
    assert 0 <= post(client, ("a.png", picture)).get_json()["timings"]["total_seconds"] < 10


def test_json_with_base64_and_data_urls(client: FlaskClient, captioner: FakeCaptioner, picture: bytes) -> None:
    images = [encoded(picture), f"data:image/png;base64,{encoded(picture)}", encoded(b"no picture")]
    response = post_json(client, images=images, beam_size=5, length_penalty=1, num_captions=2.0)
    assert response.status_code == 200
    first, second, bad = response.get_json()["captions"]
    assert [row["image"] for row in (first, second, bad)] == ["image-1", "image-2", "image-3"]
    assert first["caption"] == second["caption"]
    assert bad["error"]["type"] == "UnreadableImage"
    assert set(captioner.asked) == {DecodingOptions(beam_size=5, num_captions=2, length_penalty=1.0)}
    assert post_json(client, images=encoded(picture)).status_code == 200  # one, without a list


def test_json_options_may_stand_in_the_query_once(client: FlaskClient, picture: bytes) -> None:
    path = "/v1/captions?beam_size=4"
    assert post_json(client, path, images=[encoded(picture)], num_captions=4).status_code == 200
    assert "once" in detail(post_json(client, path, images=[encoded(picture)], beam_size=4))


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"beams": 3}, "no option"),
        ({"beam_size": "3"}, "beam_size is the text '3'; it must be a whole number, without quotation marks."),
        (
            {"length_penalty": "x" * 99},
            "is the text '" + "x" * 40 + "…'; it must be a number, without quotation marks.",
        ),
        ({"beam_size": True}, "whole number"),
        ({"beam_size": None}, "whole number"),
        ({"beam_size": 2.5}, "beam_size is 2.5; it must be a whole number."),
        ({"beam_size": 1e300}, "whole number"),
        ({"beam_size": 1e300}, "beam_size is 1e+300, which is too large: send a whole number from 1 to 16."),
        ({"beam_size": 10**4000}, "too large: send a whole number from 1 to 16."),
        ({"beam_size": -(10**4000)}, "too small: send a whole number from 1 to 16."),
        ({"length_penalty": 10**400}, "too large: send a number from 0 to 10."),
        ({"beam_size": 100.5}, "too large: send a whole number from 1 to 16."),
        ({"num_captions": 17}, "too large: send a whole number from 1 to 16."),
        ({"beam_size": [[1]]}, "whole number"),
        ({"length_penalty": {"a": 1}}, "a number"),
        ({"beam_size": 17}, "from 1 to 16"),
        ({"num_captions": 4}, "num_captions"),
        ({"attention": 1}, "true or false"),
        ({"attention": "true"}, "attention is the text 'true'; it must be true or false, without quotation marks."),
    ],
)
def test_wrong_json_options_are_refused(
    client: FlaskClient, captioner: FakeCaptioner, picture: bytes, members: dict[str, object], said: str
) -> None:
    response = client.post("/v1/captions", json={"images": [encoded(picture)], **members})
    assert response.status_code == 422
    assert said in detail(response)
    assert captioner.asked == []


def test_a_single_bad_picture_in_json_is_a_problem(client: FlaskClient) -> None:
    response = post_json(client, images=[encoded(b"no picture")])
    assert response.status_code == 422
    assert response.get_json(force=True)["type"] == "urn:captioner:problem:unreadable-image"
