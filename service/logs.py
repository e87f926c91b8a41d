"""One line of JSON for each request and each event, without a word of what was sent or answered.

A line says which route a request took, never its path or query; which error something was, never its message, which may
quote a file name. Lines of other libraries keep their place in the source and lose their text for the same reason.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import IO, Any

from flask import Flask, Response, g, has_request_context, request

from service.metrics import Metrics

OWN = ("service", "captioner")
UNMATCHED = "unmatched"
REFUSED = "refused"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# https://www.w3.org/TR/trace-context/#traceparent-header: version, trace id, parent id, flags; later versions may add.
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?")

logger = logging.getLogger(__name__)


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        if record.name.split(".")[0] in OWN:
            line["event"] = record.getMessage()
        else:
            line["event"] = "message of a library"
            line["where"] = f"{record.pathname}:{record.lineno} {record.funcName}"
        line |= getattr(record, "fields", {})
        if has_request_context() and "request_id" in g:
            line.setdefault("request_id", g.request_id)
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            frames = traceback.extract_tb(record.exc_info[2])
            line["trace"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
        return json.dumps(line, ensure_ascii=False)


def configure(stream: IO[str] | None = None) -> None:
    """Send what this process logs to `stream`, by default standard error, as lines of JSON."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("service").setLevel(logging.INFO)
    logging.captureWarnings(True)
    # Its warnings only say that threads are busy, which our own bound makes harmless.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    threading.excepthook = _thread_died


def register(app: Flask, metrics: Metrics) -> None:
    """Log and count every request of `app`. Register it first, so that it sees what the others have made of it."""

    def begin() -> None:
        g.began = time.monotonic()
        given = request.headers.get("X-Request-ID", "")
        g.request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        trace = _TRACEPARENT.fullmatch(request.headers.get("traceparent", ""))
        g.trace_id = trace[1] if trace is not None else None

    def end(response: Response) -> Response:
        seconds = time.monotonic() - g.began
        response.headers["X-Request-ID"] = g.request_id
        rule = request.url_rule
        # A method is a sender's own word until a route has taken it.
        route, method = (UNMATCHED, "-") if rule is None else (rule.rule, request.method)
        metrics.answered(route, method, response.status_code, seconds)
        if response.status_code == 429:
            metrics.shed("rate")
        log_request(
            request_id=g.request_id,
            trace_id=g.trace_id,
            route=route,
            method=method,
            status=response.status_code,
            seconds=round(seconds, 4),
            received_bytes=request.content_length or 0,
            sent_bytes=response.content_length,
            key_name=g.get("key_name"),
        )
        return response

    app.before_request(begin)
    app.after_request(end)


def log_request(**fields: str | int | float | None) -> None:
    """The line of one request; docs/service.md explains the fields. Those that are None are left out."""
    kept = {name: value for name, value in fields.items() if value is not None}
    logger.info("request", extra={"fields": kept})


def refusal(metrics: Metrics) -> Callable[[int], str]:
    """What logs and counts a request that the server refused before any route saw it, and names it."""

    def refused(status: int) -> str:
        request_id = uuid.uuid4().hex
        metrics.answered(REFUSED, "-", status, 0.0)
        if status == 503:
            metrics.shed("held")
        log_request(request_id=request_id, route=REFUSED, method="-", status=status)
        return request_id

    return refused


def _thread_died(arguments: threading.ExceptHookArgs) -> None:
    logger.error("a thread died", exc_info=(arguments.exc_type, arguments.exc_value, arguments.exc_traceback))  # type: ignore[arg-type]
