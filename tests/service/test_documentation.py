"""/docs shows the whole OpenAPI document, and commands that are right for whoever reads it."""

from __future__ import annotations

from html import unescape
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from service.app import create_app
from service.keys import new_key
from service.problems import TYPES
from service.settings import Settings
from tests.service.fake_captioner import FakeCaptioner


def test_every_route_command_member_and_problem_is_on_it(client: FlaskClient) -> None:
    page = unescape(client.get("/docs").get_data(as_text=True))
    specification = client.get("/openapi.json").get_json()
    for path, operations in specification["paths"].items():
        for operation in operations.values():
            assert f'<article class="card" id="{operation["operationId"]}"' in page
            assert f"<code>{path}</code>" in page
            for sample in operation["x-codeSamples"]:
                assert sample["source"].replace("$URL", "http://localhost") in page
    for name in TYPES:
        assert f'id="problem-{name}"' in page
    for name, schema in specification["components"]["schemas"].items():
        if name not in TYPES and schema["properties"]:
            assert f'id="object-{name}"' in page
            for member, told in schema["properties"].items():
                assert f"<code>{member}</code>" in page
                assert told.get("description", "") in page
    assert "{url}" not in page
    assert "$URL" not in page


def test_commands_bring_a_key_where_one_is_needed(client: FlaskClient, tmp_path: Path) -> None:
    key, line = new_key()
    (tmp_path / "keys").write_text(f"{line}\n")
    guarded = create_app(FakeCaptioner(), Settings(keys_file=tmp_path / "keys")).test_client()
    assert guarded.get("/docs").status_code == 401
    page = unescape(guarded.get("/docs", headers={"X-API-Key": key}).get_data(as_text=True))
    assert 'curl -H "X-API-Key: $KEY" http://localhost/v1/model' in page
    assert "curl http://localhost/healthz" in page  # open to everyone
    assert key not in page
    assert "$KEY" not in client.get("/docs").get_data(as_text=True)


def test_commands_have_the_address_that_was_asked(client: FlaskClient) -> None:
    behind_proxy = client.get("/docs", headers={"Host": "photos.example:8443", "X-Forwarded-Proto": "https"})
    assert "curl https://photos.example:8443/v1/model" in behind_proxy.get_data(as_text=True)


@pytest.mark.parametrize("host", ["<script>alert(1)</script>", "a.example/'\"><img src=x>", ""])
def test_nothing_of_a_request_is_markup_on_it(client: FlaskClient, host: str) -> None:
    answer = client.get("/docs", headers={"Host": host})
    assert answer.status_code in (200, 400)
    assert "<script>alert" not in answer.get_data(as_text=True)
    assert "<img" not in answer.get_data(as_text=True)
