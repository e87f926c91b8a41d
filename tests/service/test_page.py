"""The page as it comes without JavaScript: a form, and its answer in the same page."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from captioner.decoding.options import DecodingOptions
from captioner.geometry import Geometry
from captioner.pictures.page import FAMILY, read
from service.app import create_app
from service.pages import STATIC
from service.settings import Settings
from tests.service.fake_captioner import FakeCaptioner


def inputs(html: str) -> dict[str, dict[str, str]]:
    """The attributes of each input of a number, by its name."""
    found = [dict(re.findall(r'([\w-]+)="([^"]*)"', tag)) for tag in re.findall(r"<input ([^>]*)>", html)]
    return {each["name"]: each for each in found if each["type"] == "number"}


def test_the_empty_page(client: FlaskClient) -> None:
    html = client.get("/").get_data(as_text=True)
    assert '<label for="image">' in html
    assert 'role="status"' in html
    assert "fake" in html
    assert "data-needs-key" not in html
    assert "TIFF, up to 20 MiB and 50 megapixels each." in " ".join(html.split())


def test_nothing_comes_from_elsewhere(client: FlaskClient) -> None:
    html = client.get("/").get_data(as_text=True)
    assert not re.findall(r"(?:src|href|action)=\"(?!/)", html)
    assert not re.findall(r"<[^>]+ (?:style|on\w+)=|<style|<script>", html)  # the policy would ignore them
    names = [path.name for path in STATIC.iterdir()]
    assert {"page.css", "page.js", "attention.js", "copying.js", "elements.js", "icon.svg"} < set(names)
    for path in ("/family.css", *(f"/static/{name}" for name in names)):
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


def test_every_option_is_there_with_the_bounds_that_hold(client: FlaskClient, picture: bytes) -> None:
    found = inputs(client.get("/").get_data(as_text=True))
    defaults = DecodingOptions(beam_size=3, num_captions=3)  # a page shows alternatives
    assert {name: float(each["value"]) for name, each in found.items()} == defaults.to_dict()
    # Those that bound others are out of their way.
    others = {"beam_size": found["beam_size"]["max"], "num_captions": "1", "max_length": found["max_length"]["max"]}
    for name, each in found.items():
        least, most = int(each["min"]), int(each["max"])
        for value, status in ((least, 200), (most, 200), (least - 1, 422), (most + 1, 422)):
            data = {"image": (io.BytesIO(picture), "a.png"), "min_length": "0", **others, name: str(value)}
            answer = client.post("/", data=data)
            assert answer.status_code == status, (name, value)
            # Whether it was right or wrong, the page keeps what was chosen.
            assert inputs(answer.get_data(as_text=True))[name]["value"] == str(value)


def test_the_script_knows_which_part_the_model_sees(captioner: FakeCaptioner) -> None:
    client = create_app(captioner, Settings()).test_client()
    assert "data-seen-share" not in client.get("/").get_data(as_text=True)
    geometry = Geometry(resize="shortest_side", size=192, resize_size=256)
    captioner.manifest["preprocessing"] = {"geometry": geometry.to_dict()}
    assert 'data-seen-share="0.75"' in client.get("/").get_data(as_text=True)


def test_where_a_key_is_needed_the_page_asks_for_it_and_says_nothing_of_the_model(
    captioner: FakeCaptioner, picture: bytes, tmp_path: Path
) -> None:
    file = tmp_path / "captioner.keys"
    file.write_text(hashlib.sha256(b"secret").hexdigest())
    client = create_app(captioner, Settings(keys_file=file)).test_client()
    empty = client.get("/")
    assert empty.status_code == 200
    assert "data-needs-key" in empty.get_data(as_text=True)
    assert "fake" not in empty.get_data(as_text=True)
    for path in ("/family.css", "/static/page.js"):
        with client.get(path) as response:
            assert response.status_code == 200
    # Without JavaScript the browser asks, and sends the form again.
    accept = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
    refused = client.post("/", data={"image": (io.BytesIO(picture), "a.png")}, headers=accept)
    assert refused.status_code == 401
    assert refused.headers["WWW-Authenticate"] == 'Basic realm="captioner"'
    assert captioner.captioned == 0
    answer = client.post("/", data={"image": (io.BytesIO(picture), "a.png")}, headers=accept, auth=("me", "secret"))
    assert answer.status_code == 200
    assert "runs on grass" in answer.get_data(as_text=True)
    assert "fake" in answer.get_data(as_text=True)


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
    options = captioner.asked[0]
    assert options is not None
    assert (options.beam_size, options.num_captions) == (5, 3)


def test_the_camera_of_a_phone_may_send_nothing(client: FlaskClient, picture: bytes) -> None:
    data = {"image": [(io.BytesIO(picture), "good.png"), (io.BytesIO(b""), "")]}
    html = client.post("/", data=data).get_data(as_text=True)
    assert len(re.findall(r'<article class="card" data-state="result" aria-label="[^"]', html)) == 1


def test_a_bad_picture_among_good_ones(client: FlaskClient, picture: bytes) -> None:
    data = {"image": [(io.BytesIO(picture), "good.png"), (io.BytesIO(b"bad"), "bad.png")]}
    response = client.post("/", data=data)
    assert response.status_code == 200
    html = response.get_data(as_text=True)
    assert "runs on grass" in html
    assert re.search(r'data-state="failure" aria-label="bad.png">.*The file holds no picture', html, re.DOTALL)


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
    assert re.search(r'class="failure banner" role="alert">[^<]+<|data-slot="note">[^<]+<', html)
    assert "<script>" not in html


def test_another_kind_of_form(client: FlaskClient) -> None:
    assert client.post("/", data=b"image=x", content_type="application/x-www-form-urlencoded").status_code == 415


def test_a_claimed_svg_is_not_shown(client: FlaskClient, picture: bytes) -> None:
    response = client.post("/", data={"image": (io.BytesIO(picture), "a.svg", "image/svg+xml")})
    assert response.status_code == 200
    assert "data:image" not in response.get_data(as_text=True)
