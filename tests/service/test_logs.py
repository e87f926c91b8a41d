"""One line of JSON a request, and nothing in it that a sender sent or a model said."""

from __future__ import annotations

import io
import json
import logging
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from captioner.errors import BundleError
from service import logs
from service.app import create_app
from service.keys import new_key
from service.logs import JsonFormatter, refusal
from service.metrics import Metrics
from service.settings import Settings
from tests.service.fake_captioner import WORDS, FakeCaptioner, make_picture

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
# Each appears in one place of a request, and must appear in no log.
CANARIES = ("canaryname", "canaryquery", "canaryfield", "canarypath", "canarybody", "canaryheader", "canaryerror")


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What a configured process writes."""
    stream = io.StringIO()
    root = logging.getLogger()
    before = root.handlers[:], root.level, threading.excepthook
    logs.configure(stream)
    yield stream
    root.handlers[:], threading.excepthook = before[0], before[2]
    root.setLevel(before[1])
    for name in ("service", "waitress.queue"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    logging.captureWarnings(False)


def parsed(stream: io.StringIO) -> list[dict[str, Any]]:
    """The lines so far."""
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_a_request(client: FlaskClient, picture: bytes, lines: io.StringIO) -> None:
    response = client.post(
        "/v1/captions?beam_size=2",
        data=picture,
        content_type="image/png",
        headers={"X-Request-ID": "abc-1.2_3", "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"},
    )
    assert response.headers["X-Request-ID"] == "abc-1.2_3"
    (line,) = parsed(lines)
    assert line.pop("seconds") >= 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", line.pop("time"))
    assert line == {
        "level": "info",
        "logger": "service.logs",
        "event": "request",
        "request_id": "abc-1.2_3",
        "trace_id": TRACE,
        "route": "/v1/captions",
        "method": "POST",
        "status": 200,
        "received_bytes": len(picture),
        "sent_bytes": len(response.data),
    }


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, "é", 'a"b', "{}", "a\tb"])
def test_another_request_id_is_made(client: FlaskClient, given: str) -> None:
    made = client.get("/healthz", headers={"X-Request-ID": given}).headers["X-Request-ID"]
    assert re.fullmatch(r"[0-9a-f]{32}", made)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (f"00-{TRACE}-00f067aa0ba902b7-00", True),
        (f"01-{TRACE}-00f067aa0ba902b7-00-more", True),  # a later version may say more
        (f"ff-{TRACE}-00f067aa0ba902b7-00", False),
        (f"00-{'0' * 32}-00f067aa0ba902b7-00", False),
        (f"00-{TRACE}-{'0' * 16}-00", False),
        (f"00-{TRACE.upper()}-00f067aa0ba902b7-00", False),
        ("canary", False),
    ],
)
def test_only_a_trace_is_a_trace(client: FlaskClient, lines: io.StringIO, given: str, kept: bool) -> None:
    client.get("/healthz", headers={"traceparent": given})
    assert parsed(lines)[0].get("trace_id") == (TRACE if kept else None)


def requests_of(rule: str) -> Iterator[dict[str, Any]]:
    """Requests to a route with a canary in every place, and broken in many ways."""
    path = re.sub(r"<[^>]*>", "canarypath", rule)
    picture = make_picture()
    text = {"canaryfield": "canaryfield", "prompt": "canaryfield", "model": "canaryfield", "messages": ["canaryfield"]}
    bodies: list[dict[str, Any]] = [
        {},
        {"data": picture, "content_type": "image/png"},
        {"data": b"canarybody", "content_type": "image/png"},
        {"data": b"canarybody", "content_type": "canaryheader/x"},
        {"data": b"{canarybody", "content_type": "application/json"},
        {"json": text},
        {"json": {**text, "images": ["canarybody"], "image": "canarybody", "inputs": "canarybody"}},
        {"data": {"image": (io.BytesIO(picture), "canaryname.png")}},
        {"data": {"image": (io.BytesIO(b"canarybody"), "canaryname.png"), "beam_size": "canaryfield"}},
        {"data": {"canaryfield": "canaryfield", "image": (io.BytesIO(picture), "canaryname.png")}},
        {"data": b"--canarybody", "content_type": "multipart/form-data; boundary=canaryheader"},
    ]
    for body in bodies:
        for query in ("", "?beam_size=canaryquery&canaryquery=1"):
            yield {"path": path + query, **body}


@pytest.mark.parametrize("failure", [None, BundleError("canaryerror.png"), RuntimeError("canaryerror a red hat")])
@pytest.mark.parametrize("keyed", [False, True])
def test_no_log_says_what_was_sent_or_answered(
    tmp_path: Path, lines: io.StringIO, failure: Exception | None, keyed: bool
) -> None:
    logging.getLogger().setLevel(logging.DEBUG)  # every library at its most talkative
    key, line = new_key()
    (tmp_path / "keys").write_text(f"{line} album\n")
    captioner = FakeCaptioner()
    captioner.failure = failure
    app = create_app(captioner, Settings(keys_file=tmp_path / "keys" if keyed else None))
    client = app.test_client()
    headers = {"User-Agent": "canaryheader", "Cookie": "canaryheader=1", "Referer": "http://canaryheader/"}
    headers |= {"X-Request-ID": "canary header", "traceparent": "canaryheader", "Origin": "http://canaryheader"}
    count = 0
    for rule in [*(rule.rule for rule in app.url_map.iter_rules()), "/canarypath"]:
        for arguments in requests_of(rule):
            for given in (key, "canaryheader") if keyed else (key,):
                method = "GET" if len(arguments) == 1 else "POST"
                with client.open(method=method, headers={**headers, "X-API-Key": given}, **_again(arguments)) as answer:
                    assert answer.headers["X-Request-ID"]
                count += 1
    text = lines.getvalue()
    assert sum(each["event"] == "request" for each in parsed(lines)) == count
    for secret in (*CANARIES, key, *(word for word, _ in WORDS if len(word) > 3), "red hat", line.split()[0]):
        assert secret not in text, secret
    assert ('"key_name": "album"' in text) is keyed
    if failure is not None:
        assert type(failure).__name__ in text


def _again(arguments: dict[str, Any]) -> dict[str, Any]:
    """The same request once more: the client closes the files of a form."""
    data = arguments.get("data")
    if not isinstance(data, dict):
        return arguments
    copied = {
        name: (io.BytesIO(value[0].getvalue()), value[1]) if isinstance(value, tuple) else value
        for name, value in data.items()
    }
    return {**arguments, "data": copied}


def test_an_inner_error_and_its_request_share_an_id(
    client: FlaskClient, captioner: FakeCaptioner, picture: bytes, lines: io.StringIO
) -> None:
    captioner.failure = RuntimeError("x")
    client.post("/v1/captions", data=picture, content_type="image/png")
    error, request = parsed(lines)
    assert error["level"] == "error"
    assert error["request_id"] == request["request_id"]
    assert request["status"] == 500


def test_libraries_say_where_and_not_what(lines: io.StringIO) -> None:
    try:
        raise ValueError("canaryerror")
    except ValueError:
        logging.getLogger("waitress").exception("Exception while serving %s", "/canarypath")
    logging.getLogger("some.library").warning("canarybody")
    first, second = parsed(lines)
    assert first["error"] == "ValueError"
    assert "test_logs.py" in first["trace"][0]
    assert "test_logs.py" in second["where"]
    assert "canary" not in lines.getvalue()


def test_a_thread_that_dies_is_a_line(lines: io.StringIO) -> None:
    def fail() -> None:
        raise RuntimeError("canaryerror")

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    (line,) = parsed(lines)
    assert (line["event"], line["error"]) == ("a thread died", "RuntimeError")
    assert "canary" not in lines.getvalue()


def test_a_refusal_of_the_server_is_a_line(lines: io.StringIO) -> None:
    metrics = Metrics()
    request_id = refusal(metrics)(503)
    (line,) = parsed(lines)
    assert (line["route"], line["status"], line["request_id"]) == ("refused", 503, request_id)
    assert metrics.registry.get_sample_value("captioner_shed_total", {"reason": "held"}) == 1


def test_a_line_is_one_line() -> None:
    record = logging.LogRecord("service.x", logging.INFO, __file__, 1, "two\nlines", None, None)
    assert "\n" not in JsonFormatter().format(record)
