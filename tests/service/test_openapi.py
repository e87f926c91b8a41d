"""The OpenAPI document is valid and complete, and says what the code does."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_type_hints
from urllib.parse import urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from captioner.decoding.options import BOUNDS, DecodingOptions
from service.app import create_app
from service.keys import new_key
from service.openapi import document
from service.problems import TYPES
from service.settings import Settings
from tests.service.fake_captioner import FakeCaptioner, make_picture
from tests.service.real_server import serving


@pytest.fixture
def specification(client: FlaskClient) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/openapi.json").get_json()
    return found


def operations(specification: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """`POST /v1/captions` and its operation."""
    for path, methods in specification["paths"].items():
        for method, operation in methods.items():
            yield f"{method.upper()} {path}", operation


def test_it_is_valid_openapi_3_1(specification: dict[str, Any]) -> None:
    assert specification["openapi"] == "3.1.0"
    assert [error.message for error in OpenAPIV31SpecValidator(specification).iter_errors()] == []
    del specification["paths"]["/healthz"]["get"]["responses"]["200"]["description"]
    assert not OpenAPIV31SpecValidator(specification).is_valid()  # it does look


def test_every_route_is_in_it_and_no_other(specification: dict[str, Any]) -> None:
    rules = create_app(FakeCaptioner(), Settings()).url_map.iter_rules()
    routes = {
        f"{method} {rule.rule.replace('<path:filename>', '{filename}')}"
        for rule in rules
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert {name for name, _ in operations(specification)} == routes


def test_a_route_that_tells_nothing_of_itself_is_an_error() -> None:
    app = Flask("service")
    app.add_url_rule("/new", "new", lambda: "")
    with pytest.raises(LookupError, match="GET /new"):
        document(app, DecodingOptions(), Settings())


def test_every_operation_can_be_read(specification: dict[str, Any]) -> None:
    found = list(operations(specification))
    identities = [operation["operationId"] for _, operation in found]
    assert len(set(identities)) == len(identities)
    tags = {tag["name"] for tag in specification["tags"]}
    for name, operation in found:
        assert operation["summary"], name
        assert set(operation["tags"]) <= tags, name
        assert operation["x-codeSamples"], name
        assert ("requestBody" in operation) == name.startswith("POST"), name


def test_every_problem_type_is_in_it_with_its_status(specification: dict[str, Any]) -> None:
    schemas = specification["components"]["schemas"]
    for name, kind in TYPES.items():
        assert schemas[name]["properties"]["type"] == {"const": kind.uri}
        assert schemas[name]["properties"]["status"] == {"const": kind.status}
    ours = {
        (problem, status)
        for name, operation in operations(specification)
        for status, response in operation["responses"].items()
        if list(response.get("content", {})) == ["application/problem+json"]
        for problem in response["x-problem-types"]
    }
    # Whoever meets these two has found no operation.
    elsewhere = {("method-not-allowed", "405")}
    assert ours | elsewhere == {(name, str(kind.status)) for name, kind in TYPES.items()}


@pytest.mark.parametrize(
    ("path", "statuses"),
    [
        ("/v1/captions", {"200", "400", "401", "411", "413", "415", "422", "429", "431", "500", "501", "503"}),
        ("/api/generate", {"200", "400", "401", "413", "429", "431", "500", "501", "503"}),
    ],
)
def test_the_statuses_of_a_route(specification: dict[str, Any], path: str, statuses: set[str]) -> None:
    responses = specification["paths"][path]["post"]["responses"]
    assert set(responses) == statuses
    for status in ("429", "503"):
        assert set(responses[status]["headers"]) == {"X-Request-ID", "Retry-After"}


def test_clients_of_others_read_errors_in_their_own_form(specification: dict[str, Any]) -> None:
    responses = specification["paths"]["/api/generate"]["post"]["responses"]
    assert responses["500"]["content"] == {"application/json": {"schema": {"$ref": "#/components/schemas/OllamaError"}}}
    # The server refuses what is too large before it looks for a route.
    assert set(responses["413"]["content"]) == {"application/json", "application/problem+json"}
    assert set(responses["431"]["content"]) == {"application/problem+json"}


@pytest.mark.parametrize(
    ("status", "head"),
    [
        (400, b"POST /api/generate HTTP/1.1\r\nHost: a\r\nContent-Length: many\r\n\r\n"),
        (413, b"POST /api/generate HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n\r\n"),
        (431, b"POST /api/generate HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 20_000 + b"\r\n\r\n"),
        (501, b"POST /api/generate HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n"),
    ],
    ids=["broken", "large body", "large headers", "foreign encoding"],
)
def test_what_the_server_itself_refuses_is_in_it(specification: dict[str, Any], status: int, head: bytes) -> None:
    with serving(FakeCaptioner()) as url:
        address = urlsplit(url)
        with socket.create_connection((address.hostname, address.port), timeout=120) as connection:
            connection.sendall(head)
            answer = http.client.HTTPResponse(connection)
            answer.begin()
            body = json.loads(answer.read())
    response = specification["paths"]["/api/generate"]["post"]["responses"][str(status)]
    assert answer.status == status
    assert all(name in answer.headers for name in response["headers"])
    content = response["content"][answer.headers["Content-Type"]]
    OAS31Validator({**content["schema"], "components": specification["components"]}).validate(body)


def test_the_options_are_those_of_the_code(specification: dict[str, Any]) -> None:
    operation = specification["paths"]["/v1/captions"]["post"]
    parameters = {each["name"]: each for each in operation["parameters"]}
    kinds = get_type_hints(DecodingOptions)
    assert set(parameters) == {*kinds, "attention"}
    defaults = DecodingOptions(beam_size=3).to_dict()  # the fake captioner's
    for name, kind in kinds.items():
        schema = parameters[name]["schema"]
        assert schema["type"] == {int: "integer", float: "number"}[kind]
        assert schema["default"] == defaults[name]
        assert schema["minimum"] == BOUNDS[name][0]
        assert parameters[name]["description"].endswith(".")
    content = operation["requestBody"]["content"]
    for members in (content[kind]["schema"]["properties"] for kind in ("multipart/form-data", "application/json")):
        for name, parameter in parameters.items():
            assert {key: value for key, value in members[name].items() if key != "description"} == parameter["schema"]


@pytest.mark.parametrize("name", BOUNDS)
def test_an_option_is_taken_up_to_its_bounds_and_no_further(
    client: FlaskClient, specification: dict[str, Any], name: str
) -> None:
    parameters = specification["paths"]["/v1/captions"]["post"]["parameters"]
    (schema,) = (each["schema"] for each in parameters if each["name"] == name)
    # What goes with each extreme without a contradiction.
    with_least = {"beam_size": {"num_captions": 1}, "max_length": {"min_length": 1}}.get(name, {})
    with_most = {"num_captions": {"beam_size": schema["maximum"]}, "min_length": {"max_length": schema["maximum"]}}
    for value, others, status in (
        (schema["minimum"], with_least, 200),
        (schema["maximum"], with_most.get(name, {}), 200),
        (schema["minimum"] - 1, with_least, 422),
        (schema["maximum"] + 1, with_most.get(name, {}), 422),
    ):
        query = {name: value, **others}
        answer = client.post("/v1/captions", query_string=query, data=make_picture(), content_type="image/png")
        assert answer.status_code == status, (query, answer.data)


def test_settings_that_bound_a_request_are_in_it() -> None:
    settings = Settings(max_files=7, max_beam_size=5, max_words=20)
    found = create_app(FakeCaptioner(), settings).test_client().get("/openapi.json").get_json()
    operation = found["paths"]["/v1/captions"]["post"]
    assert operation["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]["image"]["maxItems"] == 7
    most = {each["name"]: each["schema"].get("maximum") for each in operation["parameters"]}
    assert most | {"beam_size": 5, "num_captions": 5, "max_length": 20, "min_length": 20} == most


def test_keys(tmp_path: Path, specification: dict[str, Any]) -> None:
    key, line = new_key()
    (tmp_path / "keys").write_text(f"{line}\n")
    client = create_app(FakeCaptioner(), Settings(keys_file=tmp_path / "keys")).test_client()
    assert client.get("/openapi.json").status_code == 401
    with_keys = client.get("/openapi.json", headers={"X-API-Key": key}).get_json()
    assert {} in specification["security"]
    assert {} not in with_keys["security"]
    for found in (specification, with_keys):
        assert {"bearer": []} in found["security"]
        assert found["components"]["securitySchemes"]["header"]["name"] == "X-API-Key"
    for name, operation in operations(with_keys):
        method, path = name.split()
        without = client.open(path.replace("{filename}", "page.css"), method=method)
        assert (without.status_code == 401) == ("401" in operation["responses"]), name
        assert ("401" in operation["responses"]) == (operation.get("security") is None), name
        without.close()


def test_samples_are_answers(specification: dict[str, Any]) -> None:
    samples = [
        (name, content)
        for name, operation in operations(specification)
        for content in operation["responses"]["200"]["content"].values()
        if "example" in content
    ]
    assert len(samples) > 7
    for name, content in samples:
        schema = {**content["schema"], "components": specification["components"]}
        assert [error.message for error in OAS31Validator(schema).iter_errors(content["example"])] == [], name


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine")
def test_every_command_works(specification: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(make_picture("red", "JPEG"))
    (tmp_path / "other.png").write_bytes(make_picture())
    commands = [
        (operation, sample["source"])
        for _, operation in operations(specification)
        for sample in operation["x-codeSamples"]
    ]
    assert len(commands) > 25
    with serving(FakeCaptioner()) as url:
        for operation, command in commands:
            checked = command.replace("curl ", "curl --silent --fail-with-body --show-error ").replace("$URL", url)
            done = subprocess.run(["bash", "-c", checked], cwd=tmp_path, capture_output=True, text=True, timeout=30)
            assert done.returncode == 0, (checked, done.stdout, done.stderr)
            (media_type, content), *_ = operation["responses"]["200"]["content"].items()
            if media_type == "application/json" and content["schema"]:
                schema = {**content["schema"], "components": specification["components"]}
                OAS31Validator(schema).validate(json.loads(done.stdout))
