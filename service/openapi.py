"""The OpenAPI 3.1 document of the service, made from its routes and from what these tell of themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from apispec import APISpec
from flask import Flask

import captioner
from captioner.decoding.options import DecodingOptions
from service.keys import OPEN_PAGE, OPEN_ROUTES
from service.operations import PROBLEMS, Operation, ProblemDetails, Schema, operation_of
from service.pages import page_operations
from service.problems import MEDIA_TYPE, TYPES, ProblemType
from service.schemas import answer_schemas, problem_schema
from service.settings import Settings

VERSION = "3.1.0"
ADDRESS = "$URL"  # what stands for the service's address in the commands
TAGS = {
    "Captions and scores": "Pictures in, sentences or scores out.",
    "For other clients": "Other services' interfaces, so that programs that people already run can be pointed here. "
    "Each takes one picture a request, ignores prompts, and answers errors in the form that its clients expect.",
    "Operations": "Health, metrics, and the OpenAPI document.",
    "Pages": "For people.",
}
DESCRIPTION = f"""\
Captions for pictures. Pictures are told by their content, never by their claimed type; nothing is ever fetched.

Errors are RFC 9457 problems ({MEDIA_TYPE}): `type` is a promise, `detail` one sentence for people. What the server \
itself refuses has this form on every route. Every answer has an X-Request-ID: the sender's own, if it is 1 to 64 \
letters, digits, dots, dashes and underscores. GET routes answer HEAD as well, and all answer OPTIONS.
"""
# Problems that any request may meet, and those of a request with a body.
EVERYWHERE = ("bad-request", "headers-too-large", "internal-error", "not-implemented")
WITH_BODY = ("request-too-large", "unsupported-media-type", "too-many-requests", "unavailable")
# What the server says before a route is found, so in its own form.
BY_SERVER = ("bad-request", "request-too-large", "headers-too-large", "not-implemented", "unavailable")
ONLY_BY_SERVER = ("headers-too-large", "not-implemented")
SECURITY_SCHEMES: Mapping[str, dict[str, str]] = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "An API key."},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key."},
    "browser": {"type": "http", "scheme": "basic", "description": "Any name, and an API key as the password."},
}
HEADERS: Mapping[str, Schema] = {
    "X-Request-ID": {"description": "Names the request in the log.", "schema": {"type": "string"}},
    "Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer", "minimum": 1}},
    "WWW-Authenticate": {"description": "How to send a key.", "schema": {"type": "string"}},
}
_HEADERS_BY_STATUS = {401: ("WWW-Authenticate",), 429: ("Retry-After",), 503: ("Retry-After",)}


def document(app: Flask, defaults: DecodingOptions, settings: Settings) -> dict[str, Any]:
    """The document as JSON values. `defaults` are the decoding options of the model.

    Raises `LookupError` for a route that tells nothing of itself.
    """
    operations = list(_operations(app, page_operations(defaults, settings)))
    schemas, named = _answers([operation for *_, operation in operations])
    schemes: list[dict[str, list[str]]] = [{name: []} for name in SECURITY_SCHEMES]
    specification = APISpec(
        title="captioner",
        version=captioner.__version__,
        openapi_version=VERSION,
        info={"description": DESCRIPTION, "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"}},
        servers=[{"url": "/"}],
        # Without a file of keys nobody needs one, but a client may be made for a service that has one.
        security=schemes if settings.keys_file is not None else [{}, *schemes],
        tags=[{"name": name, "description": text} for name, text in TAGS.items()],
    )
    for name, schema in named.items():
        specification.components.schema(name, schema)
    for kind in TYPES.values():
        specification.components.schema(kind.name, problem_schema(kind))
    for name, scheme in SECURITY_SCHEMES.items():
        specification.components.security_scheme(name, scheme)
    for name, header in HEADERS.items():
        specification.components.header(name, {"required": True, **header})
    paths: dict[str, dict[str, Any]] = {}
    for rule, method, endpoint, operation in operations:
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule)
        paths.setdefault(path, {})[method] = _operation(operation, rule, method, endpoint, schemas)
    for path, methods in paths.items():
        specification.path(path, operations=methods)
    made: dict[str, Any] = specification.to_dict()
    return made


def _operations(app: Flask, pages: Mapping[str, Operation]) -> Iterator[tuple[str, str, str, Operation]]:
    """Every route of `app` but for its answers to HEAD and OPTIONS: rule, method, endpoint, and what it tells."""
    for rule in app.url_map.iter_rules():
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            told = operation_of(app.view_functions[rule.endpoint]) or pages.get(rule.endpoint)
            if told is None:
                raise LookupError(f"{method} {rule.rule} ({rule.endpoint}) has no @documented.")
            yield rule.rule, method.lower(), rule.endpoint, told


def _answers(operations: list[Operation]) -> tuple[Mapping[Any, Schema], Mapping[str, Schema]]:
    """The schemas of all answers and errors, and the named ones among them."""
    kinds = [kind for each in operations for kind in (*each.answer.values(), *each.errors.content.values())]
    return answer_schemas(tuple(dict.fromkeys(kinds)))


def _operation(
    operation: Operation, rule: str, method: str, endpoint: str, schemas: Mapping[Any, Schema]
) -> dict[str, Any]:
    made: dict[str, Any] = {
        "operationId": endpoint.replace(".", "_"),
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": operation.description,
        "parameters": [
            *(_parameter(name, "path", schema) for name, schema in operation.path.items()),
            *(_parameter(name, "query", schema) for name, schema in operation.query.items()),
        ],
    }
    if operation.body:
        content = {media_type: {"schema": schema} for media_type, schema in operation.body.items()}
        made["requestBody"] = {"required": True, "content": content}
    made["responses"] = _successes(operation, schemas) | _failures(operation, rule, method, schemas)
    if _is_open(rule, method):
        made["security"] = []
    if operation.examples:
        commands = [text.replace("{url}", ADDRESS) for text in operation.examples]
        made["x-codeSamples"] = [{"lang": "Shell", "source": command} for command in commands]
    return {name: value for name, value in made.items() if value or name == "security"}


def _is_open(rule: str, method: str) -> bool:
    """Whether nobody is asked for a key."""
    return rule in OPEN_ROUTES or (rule in OPEN_PAGE and method == "get")


def _parameter(name: str, place: str, schema: Schema) -> dict[str, Any]:
    bare = {key: value for key, value in schema.items() if key != "description"}
    found = {"name": name, "in": place, "required": place == "path", "schema": bare}
    return found | ({"description": schema["description"]} if "description" in schema else {})


def _successes(operation: Operation, schemas: Mapping[Any, Schema]) -> dict[str, Any]:
    content: dict[str, Any] = {media_type: {"schema": schemas[kind]} for media_type, kind in operation.answer.items()}
    if operation.sample is not None:
        next(iter(content.values()))["example"] = operation.sample
    found = {"200": {"description": "The answer.", "headers": _headers(200), "content": content}}
    for status, meaning in operation.others.items():
        found[str(status)] = {"description": meaning, "headers": _headers(status)}
        if status != 304:
            found[str(status)]["content"] = content
    return found


def _failures(operation: Operation, rule: str, method: str, schemas: Mapping[Any, Schema]) -> dict[str, Any]:
    """The responses of all problems of a route, by status."""
    names = [*operation.problems, *EVERYWHERE]
    names += WITH_BODY if method == "post" else ()
    names += () if _is_open(rule, method) else ("unauthorized",)
    kinds = [kind for kind in TYPES.values() if kind.name in names]
    form = operation.errors
    found: dict[int, list[ProblemType]] = {}
    for kind in kinds:
        own = kind.name not in ONLY_BY_SERVER
        statuses = {form.statuses.get(kind.status, kind.status)} if own else set()
        for status in statuses | ({kind.status} if kind.name in BY_SERVER else set()):
            found.setdefault(status, []).append(kind)
    return {str(status): _failure(operation, status, found[status], schemas) for status in sorted(found)}


def _failure(
    operation: Operation, status: int, kinds: list[ProblemType], schemas: Mapping[Any, Schema]
) -> dict[str, Any]:
    by_server = [kind for kind in kinds if kind.name in BY_SERVER]
    content: dict[str, Any] = {}
    if any(kind.name not in ONLY_BY_SERVER for kind in kinds):
        for media_type, kind in operation.errors.content.items():
            schema = _one_of(kinds) if kind is ProblemDetails else schemas[kind]
            content[media_type] = {"schema": schema}
    if by_server and operation.errors is not PROBLEMS:
        content.setdefault(MEDIA_TYPE, {"schema": _one_of(by_server)})
    elif by_server:
        content = {MEDIA_TYPE: {"schema": _one_of(kinds)}}
    return {
        "description": "\n".join(f"- `{kind.name}`: {kind.meaning}" for kind in kinds),
        "headers": _headers(status),
        "content": content,
        "x-problem-types": [kind.name for kind in kinds],
    }


def _headers(status: int) -> dict[str, str]:
    # apispec makes references of names.
    return {name: name for name in ("X-Request-ID", *_HEADERS_BY_STATUS.get(status, ()))}


def _one_of(kinds: list[ProblemType]) -> Schema:
    references = [{"$ref": f"#/components/schemas/{kind.name}"} for kind in kinds]
    return references[0] if len(references) == 1 else {"oneOf": references}
