"""Errors as RFC 9457 problem details (application/problem+json), without a word about the inside of the service."""

from __future__ import annotations

import json
import logging
import re
import traceback
import uuid
from collections.abc import Mapping
from http import HTTPStatus

from flask import Flask, Response
from werkzeug.exceptions import HTTPException

from captioner.errors import (
    BundleError,
    CaptionerError,
    ConfigurationError,
    DatasetError,
    DecodingError,
    ImageTooLarge,
    LedgerError,
    OutputError,
    SourceError,
    UnreadableImage,
    UnsupportedFormat,
)

MEDIA_TYPE = "application/problem+json"

STATUS: dict[type[CaptionerError], int] = {
    UnreadableImage: 422,
    UnsupportedFormat: 415,
    ImageTooLarge: 413,
    DecodingError: 422,
    # These are never the sender's fault.
    BundleError: 500,
    DatasetError: 500,
    LedgerError: 500,
    OutputError: 500,
    SourceError: 500,
    ConfigurationError: 500,
}

DETAILS = {
    400: "The request could not be understood.",
    404: "There is nothing at this address.",
    405: "This address does not answer that method.",
    413: "The request is too large: send fewer or smaller pictures.",
    431: "The headers of the request are too large.",
    500: "Something went wrong inside the service; the picture was not at fault as far as we know.",
    503: "The service holds as much as it can; try again in a moment.",
}

logger = logging.getLogger(__name__)


class Problem(Exception):
    """A request that cannot be answered, with its status and one sentence for its sender."""

    def __init__(self, status: int, detail: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})


def problem_body(status: int, detail: str, *, kind: str = "about:blank", instance: str | None = None) -> bytes:
    """The JSON of one problem, UTF-8."""
    body = {"type": kind, "title": HTTPStatus(status).phrase, "status": status, "detail": detail}
    if instance is not None:
        body["instance"] = instance
    return json.dumps(body, ensure_ascii=False).encode()


def status_of(error: CaptionerError) -> int:
    """The HTTP status of one of our errors: that of its nearest ancestor in `STATUS`, or 500."""
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)


def as_problem(error: CaptionerError | Problem | HTTPException) -> Problem:
    """What a sender may read about an expected error; the page shows the same sentence as the API."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, HTTPException):
        status = error.code or 500
        # Allow and Retry-After belong to the answer; werkzeug's Content-Type does not.
        headers = {name: value for name, value in error.get_headers() if name.lower() != "content-type"}
        return Problem(status, DETAILS.get(status, HTTPStatus(status).description or error.name), headers=headers)
    status = status_of(error)
    return Problem(status, str(error) if status < 500 else DETAILS[500])


def register(app: Flask) -> None:
    """Answer every error of `app` with a problem."""
    app.register_error_handler(HTTPException, lambda error: _answer(as_problem(error)))
    app.register_error_handler(Problem, _answer)
    app.register_error_handler(CaptionerError, _captioner_error)
    app.register_error_handler(Exception, _unexpected)


def _answer(problem: Problem, *, kind: str = "about:blank", instance: str | None = None) -> Response:
    body = problem_body(problem.status, problem.detail, kind=kind, instance=instance)
    return Response(body, problem.status, problem.headers, content_type=MEDIA_TYPE)


def _captioner_error(error: CaptionerError) -> Response:
    if status_of(error) >= 500:
        return _unexpected(error)
    name = re.sub(r"(?<!^)(?=[A-Z])", "-", type(error).__name__).lower()
    return _answer(as_problem(error), kind=f"urn:captioner:problem:{name}")


def _unexpected(error: Exception) -> Response:
    return _answer(Problem(500, DETAILS[500]), instance=report(error))


def report(error: Exception) -> str:
    """Log where `error` came from under a new number, and return the number as a URN.

    Its message stays out of the log: it may quote a file name or a caption.
    """
    instance = uuid.uuid4().urn
    frames = traceback.extract_tb(error.__traceback__)
    where = " < ".join(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in reversed(frames))
    logger.error("%s: %s at %s", instance, type(error).__name__, where)
    return instance
