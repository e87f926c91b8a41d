"""The page as it comes without JavaScript: a form, and its answer in the same page."""

from __future__ import annotations

import base64
import io
import re

import pytest
from flask.testing import FlaskClient

from captioner.pictures.page import FAMILY, read
from tests.service.fake_captioner import FakeCaptioner


def test_the_empty_page(client: FlaskClient) -> None:
    html = client.get("/").get_data(as_text=True)
    assert '<label for="image">' in html
    assert 'aria-live="polite"' in html
    assert "fake" in html


def test_nothing_comes_from_elsewhere(client: FlaskClient) -> None:
    html = client.get("/").get_data(as_text=True)
    assert not re.findall(r"(?:src|href|action)=\"(?!/)", html)
    assert not re.findall(r"<[^>]+ (?:style|on\w+)=|<style|<script>", html)  # the policy would ignore them
    for path in ("/family.css", "/static/page.css", "/static/page.js", "/static/icon.svg"):
        with client.get(path) as response:
            text = response.get_data(as_text=True).replace("http://www.w3.org/2000/svg", "")
        assert "//" not in re.sub(r"^\s*//.*$|\s// .*$", "", text, flags=re.MULTILINE)


def test_the_style_that_reports_share_comes_first_and_is_served_like_the_others(client: FlaskClient) -> None:
    html = client.get("/").get_data(as_text=True)
    assert re.findall(r'rel="stylesheet" href="([^"]*)"', html) == ["/family.css", "/static/page.css"]
    with client.get("/family.css") as family, client.get("/static/page.css") as own:
        assert family.mimetype == "text/css"
        assert family.get_data(as_text=True) == read(FAMILY)
        assert family.headers["Cache-Control"] == own.headers["Cache-Control"]
        assert family.headers["Content-Security-Policy"] == own.headers["Content-Security-Policy"]
        tag = family.headers["ETag"]
    with client.get("/family.css", headers={"If-None-Match": tag}) as again:
        assert again.status_code == 304


def test_a_plain_post_shows_the_result(client: FlaskClient, captioner: FakeCaptioner, picture: bytes) -> None:
    data = {"image": (io.BytesIO(picture), "hol<day>.png"), "beam_size": "5", "num_captions": "3"}
    response = client.post("/", data=data)
    html = response.get_data(as_text=True)
    assert response.status_code == 200
    assert response.headers["Cache-Control"] == "no-store"
    assert "a &lt;b&gt;dog&lt;/b&gt; runs on grass" in html
    assert "<b>dog" not in html
    assert "hol&lt;day&gt;.png" in html
    assert ">30%<" in html  # the confidence
    assert ">62%<" in html  # a word
    assert ">&lt;1%<" in html  # an unlikely one
    assert ">40%<" in html  # an alternative, as the row says
    assert f"data:image/png;base64,{base64.b64encode(picture).decode()}" in html
    assert re.search(r"<option selected>5</option>", html)
    options = captioner.asked[0]
    assert options is not None
    assert (options.beam_size, options.num_captions) == (5, 3)


def test_a_bad_picture_among_good_ones(client: FlaskClient, picture: bytes) -> None:
    data = {"image": [(io.BytesIO(picture), "good.png"), (io.BytesIO(b"bad"), "bad.png")]}
    response = client.post("/", data=data)
    assert response.status_code == 200
    html = response.get_data(as_text=True)
    assert "runs on grass" in html
    assert "The file holds no picture" in html


@pytest.mark.parametrize(
    ("name", "data", "fields", "status"),
    [
        ("bad.png", b"bad", {}, 422),
        ("", b"", {}, 422),
        ("bad.png", b"bad", {"beam_size": "1", "num_captions": "5"}, 422),
        ("bad.png", b"bad", {"beam_size": "<script>"}, 422),
        ("bad.png", b"bad", {"beam_size": "1" * 400_000}, 413),
    ],
)
def test_problems_are_said_in_the_page(
    client: FlaskClient, name: str, data: bytes, fields: dict[str, str], status: int
) -> None:
    response = client.post("/", data={"image": (io.BytesIO(data), name), **fields})
    assert response.status_code == status
    assert response.mimetype == "text/html"
    html = response.get_data(as_text=True)
    assert re.search(r'class="failure[^>]*>[^<]+<', html)
    assert "<script>" not in html


def test_another_kind_of_form(client: FlaskClient) -> None:
    assert client.post("/", data=b"image=x", content_type="application/x-www-form-urlencoded").status_code == 415


def test_a_claimed_svg_is_not_shown(client: FlaskClient, picture: bytes) -> None:
    response = client.post("/", data={"image": (io.BytesIO(picture), "a.svg", "image/svg+xml")})
    assert response.status_code == 200
    assert "data:image" not in response.get_data(as_text=True)
