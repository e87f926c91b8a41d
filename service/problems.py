"""Errors as RFC 9457 problem details (application/problem+json), without a word about the inside of the service.

`TYPES` is the one table of all problem types. A `type` is a promise: programs may compare it, so it never changes its
meaning; the title and the detail are for people.
"""

from __future__ import annotations

import json
import logging
import traceback
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from flask import Flask, Response, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

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
URN_PREFIX = "urn:captioner:problem:"


@dataclass(frozen=True, kw_only=True)
class ProblemType:
    """A kind of problem: its name (the URN's last part), HTTP status, title, and when it happens."""

    name: str
    status: int
    title: str
    meaning: str

    @property
    def uri(self) -> str:
        """The `type` member of the answer."""
        return URN_PREFIX + self.name


TYPES: dict[str, ProblemType] = {
    name: ProblemType(name=name, status=status, title=title, meaning=meaning)
    for name, status, title, meaning in (
        ("bad-request", 400, "Bad request", "The request breaks HTTP, or its form breaks multipart."),
        ("invalid-json", 400, "Invalid JSON", "The body is no JSON object, or one too deep or with too many values."),
        ("unauthorized", 401, "Key needed", "The service wants an API key and the request has none that is valid."),
        ("not-found", 404, "Not found", "There is nothing at this address."),
        ("method-not-allowed", 405, "Method not allowed", "The address answers other methods; see the Allow header."),
        ("length-required", 411, "Length required", "The body has no Content-Length."),
        ("request-too-large", 413, "Request too large", "The body or its form is larger than the service allows."),
        ("too-many-pictures", 413, "Too many pictures", "There are more pictures than one request may hold."),
        ("too-many-sentences", 413, "Too many sentences", "There are more or longer sentences than one may send."),
        ("image-too-large", 413, "Picture too large", "The picture has more bytes or pixels than the limits allow."),
        ("unsupported-media-type", 415, "Unsupported media type", "The address takes no body of this kind or coding."),
        ("unsupported-format", 415, "Unsupported format", "The picture is in a format that is not read here."),
        ("range-not-satisfiable", 416, "Range not satisfiable", "A static file has no such range of bytes."),
        ("invalid-field", 422, "Invalid field", "A field or a parameter is unknown, missing, doubled or of no use."),
        ("unreadable-image", 422, "Unreadable picture", "The bytes are no picture, are damaged, or took too long."),
        ("no-picture", 422, "No picture", "The request holds no picture."),
        ("invalid-picture", 422, "Invalid picture", "A picture in JSON is no base64 and no data: URL with base64."),
        ("remote-picture", 422, "Remote picture", "The request names a picture by address; nothing is ever fetched."),
        ("decoding-error", 422, "Invalid option", "A decoding option is out of range or contradicts another."),
        ("too-many-requests", 429, "Too many requests", "This client asks more often than it may; see Retry-After."),
        ("headers-too-large", 431, "Headers too large", "The headers of the request are too large."),
        ("internal-error", 500, "Internal error", "Something failed inside; `instance` is in the log with the cause."),
        ("not-implemented", 501, "Not implemented", "The request asks for something that this service never does."),
        ("unavailable", 503, "Unavailable", "The service is full or stopping; Retry-After says when to ask again."),
    )
}

# What a problem is when nobody says more than its status: the first of that status in the table.
_BY_STATUS: dict[int, ProblemType] = {kind.status: kind for kind in reversed(TYPES.values())}

# The type of every leaf of the tree in captioner/errors.py.
ERRORS: dict[type[CaptionerError], ProblemType] = {
    UnreadableImage: TYPES["unreadable-image"],
    UnsupportedFormat: TYPES["unsupported-format"],
    ImageTooLarge: TYPES["image-too-large"],
    DecodingError: TYPES["decoding-error"],
    # These are never the sender's fault.
    BundleError: TYPES["internal-error"],
    DatasetError: TYPES["internal-error"],
    LedgerError: TYPES["internal-error"],
    OutputError: TYPES["internal-error"],
    SourceError: TYPES["internal-error"],
    ConfigurationError: TYPES["internal-error"],
}

DETAILS = {
    400: "The request could not be understood.",
    404: "There is nothing at this address; /docs lists all.",
    405: "This address does not answer that method.",
    413: "The form has too many parts or too much text: send fewer parts or less text.",
    431: "The headers of the request are too large: send fewer or shorter ones, such as fewer cookies.",
    500: "Something went wrong inside the service; the picture was not at fault as far as we know.",
    503: "The service holds as much as it can; try again in a moment.",
}

logger = logging.getLogger(__name__)


class Problem(Exception):
    """A request that cannot be answered: its status, one sentence for its sender, and its type.

    Args:
        kind: a name of `TYPES`; by default the general type of the status.
        instance: a URN that the log knows, for what went wrong inside.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        kind: str | None = None,
        instance: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})
        general = _BY_STATUS.get(status)
        self.kind = kind or (general.name if general is not None else None)
        self.instance = instance


def body_too_large(max_bytes: int) -> str:
    """What the sender of a longer body hears."""
    return f"The request has more than {max_bytes:,} bytes, the most allowed: send fewer or smaller pictures."


def problem_body(status: int, detail: str, *, kind: str | None = None, instance: str | None = None) -> bytes:
    """The JSON of one problem, UTF-8, as compact as every other answer.

    `kind` is a name of `TYPES`; by default the general type of the status.
    """
    found = TYPES[kind] if kind is not None else _BY_STATUS.get(status)
    body = {
        "type": found.uri if found is not None else "about:blank",  # RFC 9457: as much as the status says, no more
        "title": found.title if found is not None else HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if instance is not None:
        body["instance"] = instance
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def type_of(error: CaptionerError) -> ProblemType:
    """The type of one of our errors: that of its nearest ancestor in `ERRORS`, or an internal error."""
    return next((ERRORS[kind] for kind in type(error).__mro__ if kind in ERRORS), TYPES["internal-error"])


def as_problem(error: CaptionerError | Problem | HTTPException) -> Problem:
    """What a sender may read about an expected error; the page shows the same sentence as the API."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, HTTPException):
        status = error.code or 500
        # Allow and Retry-After belong to the answer; werkzeug's Content-Type does not.
        headers = {name: value for name, value in error.get_headers() if name.lower() != "content-type"}
        detail = DETAILS.get(status, HTTPStatus(status).description or error.name)
        most = request.max_content_length
        if status == 413 and most is not None and (request.content_length or 0) > most:
            detail = body_too_large(most)
        if isinstance(error, MethodNotAllowed) and (methods := set(error.valid_methods or ()) - {"HEAD", "OPTIONS"}):
            detail += f" Use {' or '.join(sorted(methods))}."
        return Problem(status, detail, headers=headers)
    kind = type_of(error)
    return Problem(kind.status, str(error) if kind.status < 500 else DETAILS[500], kind=kind.name)


def reported(error: Exception) -> Problem:
    """The problem of any error at all; what is not the sender's fault is logged, and the problem has its number."""
    if isinstance(error, Problem | HTTPException):
        return as_problem(error)
    if isinstance(error, CaptionerError) and type_of(error).status < 500:
        return as_problem(error)
    return Problem(500, DETAILS[500], instance=report(error))


def register(app: Flask) -> None:
    """Answer every error of `app` with a problem."""
    for kind in (HTTPException, Exception):
        app.register_error_handler(kind, _answer)


def _answer(error: Exception) -> Response:
    problem = reported(error)
    body = problem_body(problem.status, problem.detail, kind=problem.kind, instance=problem.instance)
    return Response(body, problem.status, problem.headers, content_type=MEDIA_TYPE)


def report(error: Exception) -> str:
    """Log where `error` came from under a new number, and return the number as a URN.

    Its message stays out of the log: it may quote a file name or a caption.
    """
    instance = uuid.uuid4().urn
    frames = traceback.extract_tb(error.__traceback__)
    where = " < ".join(f"{frame.filename}:{frame.lineno} {frame.name}" for frame in reversed(frames))
    logger.error("%s: %s at %s", instance, type(error).__name__, where)
    return instance
