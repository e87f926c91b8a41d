"""The real WSGI application around the fake captioner, asked whatever schemathesis makes of its OpenAPI document."""

from __future__ import annotations

import base64
import contextlib
import copy
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import schemathesis
from flask import Flask
from hypothesis import strategies as st
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema
from schemathesis.schemas import BaseSchema
from werkzeug.wsgi import ClosingIterator

from service.bodies import ANY_IMAGE, FORM
from tests.service.fake_captioner import make_picture

KINDS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
# Left out, because the document cannot say it: that the bytes of a string are a picture, that num_captions is at most
# beam_size, and that a parameter stands in the query or in the body but not in both. So valid data may be refused, and
# a picture that is none may be generated where one is wanted.
CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
)
REJECTION = "negative_data_rejection"
# What breaks the document and is not to be seen in a form, which has nothing but texts: a number or null is as good a
# sentence as any, a list of one is that one, and an empty list is nothing.
LOST_IN_FORMS = re.compile(r"sentence: Incorrect type|`type` at /properties/(sentence|\w+ \(was \w+, became array\))")


@dataclass
class Findings:
    """What came of a run.

    Attributes:
        cases: requests sent.
        answers: how many of them each operation answered with each status: `POST /v1/captions 200`.
        failures: what was wrong, by check and operation, each with a command that repeats one case.
        failed: how many cases of each.
        errors: what schemathesis could not do.
    """

    cases: int = 0
    answers: Counter[str] = field(default_factory=Counter)
    failures: dict[str, str] = field(default_factory=dict)
    failed: Counter[str] = field(default_factory=Counter)
    errors: list[str] = field(default_factory=list)


def pictures() -> st.SearchStrategy[bytes]:
    """Small pictures in every format that is read, some of them broken, and other bytes."""
    whole = [make_picture("teal", kind) for kind in KINDS]
    broken = [data[: len(data) // 2] for data in whole]
    foreign = [b"", b"\x00\x00\x00\x18ftypheic" + bytes(64), b"GIF89a", b"not a picture"]
    return st.one_of(st.sampled_from(whole), st.sampled_from(whole), st.sampled_from(broken + foreign), st.binary())


def picture_urls() -> st.SearchStrategy[str]:
    """The same as data: URLs, and other addresses."""
    urls = pictures().map(lambda data: f"data:image/png;base64,{base64.b64encode(data).decode()}")
    return st.one_of(urls, urls, urls, st.sampled_from(["https://a.example/b.png", "file:///etc/passwd", "data:,x"]))


def picture_texts() -> st.SearchStrategy[str]:
    """The same in base64 or as a URL, and what is neither."""
    texts = pictures().map(lambda data: base64.b64encode(data).decode())
    return st.one_of(texts, texts, picture_urls(), st.sampled_from(["AAAA=", "A", "//a/b"]), st.text(max_size=40))


def fuzz(
    app: Flask,
    *,
    max_examples: int,
    seed: int,
    only: Sequence[str] = (),
    headers: Mapping[str, str] | None = None,
    key: str | None = None,
) -> Findings:
    """Every operation of the document of `app`, or those of `only` some paths: boundaries, then random cases.

    A member of an answer that the document does not name counts as a difference. A parameter may stand in the query or
    in the body but not in both, which the document cannot say: what takes both is tried without its query first, then
    without the parameters in its body.

    Args:
        max_examples: random cases of each operation, at most.
        headers: sent with each case; without a key among them, schemathesis makes keys up.
        key: opens the document.
    """
    schemathesis.openapi.format("binary", pictures())
    schemathesis.openapi.format("picture-text", picture_texts())
    schemathesis.openapi.format("picture-url", picture_urls())
    for media_type in (ANY_IMAGE, "application/octet-stream"):
        schemathesis.openapi.media_type(media_type, pictures())
    given = {} if key is None else {"X-API-Key": key}
    document = app.test_client().get("/openapi.json", headers=given).get_json()
    if only:
        document["paths"] = {path: document["paths"][path] for path in only}
    findings = Findings()
    for prepared in (_without_query(document), _with_query_only(document)):
        if not prepared["paths"]:
            continue
        _prepare(prepared)
        loaded = schemathesis.openapi.from_dict(prepared, config=_config(max_examples, seed, headers or {}))
        loaded.app = _closing(app)
        _run(loaded, findings)
    return findings


def _run(loaded: BaseSchema, findings: Findings) -> None:
    for event in from_schema(loaded).execute():
        if isinstance(event, events.ScenarioFinished):
            _record(findings, event)
        elif isinstance(event, events.NonFatalError):
            findings.errors.append(f"{event.label}: {event.value!r}")
        elif isinstance(event, events.FatalError):
            raise event.exception


def _record(findings: Findings, event: events.ScenarioFinished) -> None:
    recorder = event.recorder
    for case_id, node in recorder.cases.items():
        findings.cases += 1
        interaction = recorder.interactions.get(case_id)
        status = interaction.response.status_code if interaction and interaction.response else "no answer"
        findings.answers[f"{node.value.operation.label} {status}"] += 1
        for check in recorder.checks.get(case_id, ()):
            found = check.failure_info
            if found is None or (node.value.media_type == FORM and LOST_IN_FORMS.search(found.failure.message)):
                continue
            name = f"{check.name} of {recorder.label}"
            findings.failed[name] += 1
            findings.failures[name] = f"{found.failure.title}: {found.failure.message}\n{found.code_sample}"


def _config(max_examples: int, seed: int, headers: Mapping[str, str]) -> SchemathesisConfig:
    # With no key, no length, and too much of anything among them.
    refusals = {"enabled": True, "expected-statuses": ["400", "401", "404", "405", "411", "413", "415", "422"]}
    return SchemathesisConfig.from_dict(
        {
            "seed": seed,
            "continue-on-failure": True,
            "headers": dict(headers),
            "generation": {"max-examples": max_examples, "mode": "all", "no-shrink": True, "database": "none"},
            "checks": {"enabled": False, **{name: {"enabled": True} for name in CHECKS}, REJECTION: refusals},
            "phases": {"stateful": {"enabled": False}},
        }
    )


def _closing(app: Flask) -> Callable[[dict[str, Any], Any], list[bytes]]:
    """`app` for a caller that does not close what it reads."""

    def closing(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        with contextlib.closing(ClosingIterator(app(environ, start_response))) as body:
            return list(body)

    return closing


def _without_query(document: dict[str, Any]) -> dict[str, Any]:
    made = copy.deepcopy(document)
    for operation in _operations(made):
        operation["parameters"] = [each for each in operation.get("parameters", ()) if each["in"] == "path"]
    return made


def _with_query_only(document: dict[str, Any]) -> dict[str, Any]:
    """The operations with a query, which are all that is left, without the parameters in their bodies."""
    made = copy.deepcopy(document)
    made["paths"] = {
        path: operations
        for path, operations in made["paths"].items()
        if any(each["in"] == "query" for operation in operations.values() for each in operation.get("parameters", ()))
    }
    for operation in _operations(made):
        names = {each["name"] for each in operation["parameters"]}
        for content in operation["requestBody"]["content"].values():
            members = content["schema"].get("properties", {})
            for name in names & set(members):
                del members[name]
    return made


def _operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in document["paths"].values():
        yield from path.values()


def _prepare(document: dict[str, Any]) -> None:
    """Name pictures by formats that this machinery knows, and allow answers no members but their own."""
    for operation in _operations(document):
        _name_pictures(operation.get("requestBody", {}))
    for schema in document["components"]["schemas"].values():
        if "properties" in schema:
            schema["additionalProperties"] = False


def _name_pictures(schema: Any) -> None:
    if isinstance(schema, list):
        for each in schema:
            _name_pictures(each)
    elif isinstance(schema, dict):
        if schema.pop("contentMediaType", None):
            encoded = schema.pop("contentEncoding", None) is not None
            schema["format"] = "picture-url" if "format" in schema else "picture-text" if encoded else "binary"
        for each in schema.values():
            _name_pictures(each)
