"""What the service answers is what its OpenAPI document says, whatever it is asked: a few hundred cases.

The long form is tests/benchmarks/bench_fuzz.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from flask import Response, make_response

from service.app import create_app
from service.keys import new_key
from service.operations import JSON, Operation, documented
from service.settings import Settings
from tests.service.fake_captioner import FakeCaptioner
from tests.service.fuzzing import fuzz


def test_every_answer_is_what_the_document_says() -> None:
    findings = fuzz(create_app(FakeCaptioner(), Settings()), max_examples=8, seed=1)
    assert findings.errors == []
    assert findings.failures == {}
    assert findings.cases > 500
    # Enough of it reaches the model: most of what is random is refused.
    for route in (
        "/v1/captions",
        "/v1/score",
        "/api/generate",
        "/api/chat",
        "/v1/chat/completions",
        "/huggingface",
        "/",
    ):
        assert findings.answers[f"POST {route} 200"] >= 3, route


@pytest.mark.parametrize("known", [True, False])
def test_with_keys(tmp_path: Path, known: bool) -> None:
    key, line = new_key()
    keys = tmp_path / "keys"
    keys.write_text(f"{line}\n")
    app = create_app(FakeCaptioner(), Settings(keys_file=keys, max_files=2))
    paths = ("/huggingface", "/v1/score")  # errors in a client's form and in ours
    headers = {"Authorization": f"Bearer {key}"} if known else None
    findings = fuzz(app, max_examples=4, seed=1, only=paths, headers=headers, key=key)
    assert findings.errors == []
    assert findings.failures == {}
    for path in paths:
        assert (findings.answers[f"POST {path} 200"] > 0) == known
        assert findings.answers[f"POST {path} 401"] > 0


@pytest.mark.parametrize(
    ("said", "status", "check"),
    [
        ({"status": "ok"}, 500, "not_a_server_error"),
        ({"status": "ok"}, 418, "status_code_conformance"),
        ({"status": 1}, 200, "response_schema_conformance"),
        ("ok", 200, "content_type_conformance"),
    ],
)
def test_a_route_that_does_something_else_is_found(said: str | dict[str, object], status: int, check: str) -> None:
    app = create_app(FakeCaptioner(), Settings())

    def view() -> Response:
        return make_response(said, status)

    told = Operation(tag="Operations", answer={JSON: dict[str, str]}, summary="Planted")
    app.view_functions["api.healthz"] = documented(told)(view)
    findings = fuzz(app, max_examples=1, seed=1, only=["/healthz"])
    assert f"{check} of GET /healthz" in findings.failures
