"""The service's own documentation: GET /openapi.json for programs, and GET /docs, made from it, for people."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response, current_app, jsonify, make_response, render_template, request

from captioner.decoding.options import DecodingOptions
from service.api import OPERATIONS
from service.openapi import ADDRESS, document
from service.operations import JSON, Operation, documented
from service.problems import TYPES, URN_PREFIX
from service.settings import Settings

METHODS = ("get", "post")
WORDS = {
    "any": "anything",
    "array": "list",
    "boolean": "true or false",
    "integer": "whole number",
    "null": "null",
    "number": "number",
    "object": "object",
    "string": "text",
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """A line of a table: a parameter, a field of a form, or a member of a JSON object."""

    name: str
    kind: str
    required: bool
    text: str


@dataclass(frozen=True, kw_only=True)
class Content:
    """A body or an answer in one media type: what it is as a whole, its members, and an example."""

    media_type: str
    kind: str
    text: str
    rows: tuple[Row, ...]
    sample: str | None


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A status and the problem types that have it on a route."""

    status: str
    media_types: tuple[str, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Route:
    """One method of one path, as the page shows it."""

    anchor: str
    method: str
    path: str
    summary: str
    description: str
    commands: tuple[str, ...]
    parameters: tuple[Row, ...]
    bodies: tuple[Content, ...]
    answers: tuple[Content, ...]
    failures: tuple[Failure, ...]
    is_open: bool


def create_blueprint(defaults: DecodingOptions, settings: Settings) -> Blueprint:
    """GET /openapi.json and GET /docs of the application that it is registered with."""
    documentation = Blueprint("documentation", __name__)

    # When the first one asks: all routes are there then.
    @functools.cache
    def specification() -> dict[str, Any]:
        return document(current_app, defaults, settings)

    @functools.cache
    def groups() -> list[tuple[str, str, list[Route]]]:
        return list(_groups(specification()))

    @functools.cache
    def objects() -> list[tuple[str, str, tuple[Row, ...]]]:
        return list(_objects(specification()))

    @documentation.get("/openapi.json")
    @documented(Operation(tag=OPERATIONS, answer={JSON: dict[str, Any]}, examples=("curl {url}/openapi.json",)))
    def openapi() -> Response:
        """This description of the service, as OpenAPI 3.1."""
        return jsonify(specification())

    @documentation.get("/docs")
    @documented(Operation(tag="Pages", answer={"text/html": str}, examples=("curl {url}/docs",)))
    def docs() -> Response:
        """The same for people, as one page that loads nothing from elsewhere."""
        page = render_template(
            "docs.html",
            specification=specification(),
            groups=groups(),
            objects=objects(),
            names={name for name, *_ in objects()},
            problems=TYPES.values(),
            urn=URN_PREFIX,
            keys_needed=settings.keys_file is not None,
            address=_address(),
            placeholder=ADDRESS,
        )
        return make_response(page)

    return documentation


def _address() -> str:
    """Where the reader reached the service, for commands to be copied; a proxy says whether that was by TLS."""
    scheme = "https" if request.headers.get("X-Forwarded-Proto") == "https" else request.scheme
    return f"{scheme}://{request.host}"


def _groups(specification: Mapping[str, Any]) -> Iterator[tuple[str, str, list[Route]]]:
    """Each tag's name, text and routes."""
    for tag in specification["tags"]:
        routes = [
            _route(specification, path, method, operations[method])
            for path, operations in specification["paths"].items()
            for method in METHODS
            if method in operations and tag["name"] in operations[method]["tags"]
        ]
        yield tag["name"], tag["description"], routes


def _objects(specification: Mapping[str, Any]) -> Iterator[tuple[str, str, tuple[Row, ...]]]:
    """The name, text and members of each object that answers are made of, but for the problems."""
    for name, schema in specification["components"]["schemas"].items():
        if name not in TYPES and schema.get("properties"):
            yield name, schema["description"], _rows(specification, schema)


def _route(specification: Mapping[str, Any], path: str, method: str, operation: Mapping[str, Any]) -> Route:
    responses = operation["responses"]
    return Route(
        anchor=operation["operationId"],
        method=method.upper(),
        path=path,
        summary=operation["summary"],
        description=operation.get("description", ""),
        commands=tuple(sample["source"] for sample in operation.get("x-codeSamples", ())),
        parameters=tuple(
            _row(specification, each["name"], each["schema"], each["required"], each.get("description", ""))
            for each in operation.get("parameters", ())
        ),
        bodies=_contents(specification, operation.get("requestBody", {}).get("content", {})),
        answers=_contents(specification, responses["200"]["content"]),
        failures=tuple(
            Failure(
                status=status,
                media_types=tuple(response["content"]),
                problems=tuple(response["x-problem-types"]),
            )
            for status, response in responses.items()
            if "x-problem-types" in response
        ),
        is_open=operation.get("security") == [],
    )


def _contents(specification: Mapping[str, Any], content: Mapping[str, Any]) -> tuple[Content, ...]:
    found = []
    for media_type, each in content.items():
        schema = each["schema"]
        sample = each.get("example")
        found.append(
            Content(
                media_type=media_type,
                kind=_kind(schema),
                text=schema.get("description", ""),
                rows=_rows(specification, schema),
                sample=_shown(sample) if sample is not None else None,
            )
        )
    return tuple(found)


def _shown(sample: Any) -> str:
    """JSON over several lines, small objects on one each."""
    text = json.dumps(sample, indent=2, ensure_ascii=False)
    return re.sub(r"\{[^{}\[\]]{0,120}\}", lambda found: " ".join(found[0].split()), text)


def _rows(specification: Mapping[str, Any], schema: Mapping[str, Any]) -> tuple[Row, ...]:
    """The members of an object."""
    required = schema.get("required", ())
    return tuple(
        _row(specification, name, member, name in required) for name, member in schema.get("properties", {}).items()
    )


def _row(
    specification: Mapping[str, Any], name: str, schema: Mapping[str, Any], required: bool, text: str | None = None
) -> Row:
    if text is None:
        text = schema.get("description") or _resolved(specification, schema).get("description", "")
    return Row(name=name, kind=_kind(schema), required=required, text=text)


def _kind(schema: Mapping[str, Any]) -> str:
    """A schema in a few words, such as `whole number, 1 to 16, else 3`. The name of another schema stands for it."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return " or ".join(schema["enum"])
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(map(_kind, schema["anyOf"])))
    if "items" in schema:
        return _list_kind(schema)
    if "contentMediaType" in schema:
        return "picture in base64" if "contentEncoding" in schema else "picture"
    return _plain_kind(schema)


def _plain_kind(schema: Mapping[str, Any]) -> str:
    kinds = schema.get("type", "any")
    parts = [" or ".join(WORDS[kind] for kind in (kinds if isinstance(kinds, list) else [kinds]))]
    if "maximum" in schema:
        parts.append(f"{schema['minimum']} to {schema['maximum']}")
    if "maxLength" in schema:
        parts.append(f"at most {schema['maxLength']} characters")
    if "default" in schema:
        parts.append(f"else {json.dumps(schema['default'])}")
    return ", ".join(parts)


def _list_kind(schema: Mapping[str, Any]) -> str:
    inner = _kind(schema["items"])
    if schema.get("maxItems") == 1:
        return f"list of one {inner}"
    return f"list of {inner}" + (f", at most {schema['maxItems']}" if "maxItems" in schema else "")


def _resolved(specification: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema that `schema` refers to, or itself."""
    if "$ref" not in schema:
        return schema
    found: Mapping[str, Any] = specification["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return found
