"""The application: every door of the service around one captioner."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import IO

from flask import Flask, Request, Response, request
from flask.json.provider import DefaultJSONProvider

from service import api, cross_origin, documentation, keys, logs, page, problems
from service.captioning import Engine
from service.compatibility import huggingface, max_caption_generator, ollama, openai_chat, photoprism
from service.encoded import shown
from service.intake import OPTIONS
from service.metrics import MeasuredCaptioning, Metrics
from service.problems import Problem
from service.scoring import MAX_SENTENCES
from service.settings import Settings

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",  # blob: the chosen photo; data: the same photo in the page without JavaScript
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
SECURITY_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class _Json(DefaultJSONProvider):
    """Rows in the order that the documents show, and captions in their own letters."""

    sort_keys = False
    ensure_ascii = False


class _Request(Request):
    """Keeps the pictures of a form in memory, where the captioner needs them; the server has spooled the body once."""

    def _get_file_stream(
        self,
        total_content_length: int | None,
        content_type: str | None,
        filename: str | None = None,
        content_length: int | None = None,
    ) -> IO[bytes]:
        return io.BytesIO()


def create_app(
    captioner: Engine,
    settings: Settings,
    *,
    ready: Callable[[], bool] = lambda: True,
    metrics: Metrics | None = None,
) -> Flask:
    """The WSGI application. `ready` says whether /readyz answers 200; a server that drains makes it false.

    `metrics` are those of the application before this one, when this one replaces it.

    `captioner` must apply `settings.limits` to the pictures; the rest of the bounds are kept here.
    """
    app = Flask("service")
    app.json = _Json(app)
    app.request_class = _Request
    app.config.update(
        MAX_CONTENT_LENGTH=settings.max_body_bytes,
        # Room for a few files too many, so that the sender hears how many are allowed.
        MAX_FORM_PARTS=2 * (settings.max_files + MAX_SENTENCES) + len(OPTIONS),
        # Of the fields that are no files. The parser reads 64 KiB at a time and holds a few bytes of the last piece
        # back, so a limit near that would refuse photos for what they happen to hold.
        MAX_FORM_MEMORY_SIZE=256 * 2**10,
    )
    metrics = metrics or Metrics()
    # Before all others: what it sees is what they have made of a request. The origins before the keys, which no browser
    # sends with its question whether it may.
    logs.register(app, metrics)
    cross_origin.register(app, settings)
    keys.register(app, settings)
    metrics.register(app)
    app.before_request(_refuse_encoded_bodies)
    captioning = MeasuredCaptioning(captioner, settings, metrics)
    app.extensions["captioner"] = captioning
    app.register_blueprint(api.create_blueprint(captioning, settings, ready))
    app.register_blueprint(page.create_blueprint(captioning, settings))
    for adapter in (huggingface, max_caption_generator, ollama, openai_chat, photoprism):
        app.register_blueprint(adapter.create_blueprint(captioning, settings))
    app.register_blueprint(documentation.create_blueprint(captioner.options, settings))
    problems.register(app)
    app.after_request(_secure)
    return app


def _refuse_encoded_bodies() -> None:
    """A compressed body would be read as if it were not, and a small one may unfold to gigabytes."""
    encoding = request.headers.get("Content-Encoding", "").strip().lower()
    if request.method == "POST" and encoding not in ("", "identity"):
        raise Problem(
            415,
            f"The body is encoded ({shown(encoding)}), which is not read here: send it uncompressed, without "
            "Content-Encoding.",
            headers={"Accept-Encoding": "identity"},  # RFC 9110, 15.5.16
        )


def _secure(response: Response) -> Response:
    response.headers.update(SECURITY_HEADERS)
    # Captions and uploaded photos stay out of every cache; the style sheet and the script keep Flask's own rules.
    if response.mimetype in ("text/html", "application/json", problems.MEDIA_TYPE):
        response.headers["Cache-Control"] = "no-store"
    return response
