"""Pages of other origins that may call the service from a browser (CORS): none, but those that the settings name."""

from __future__ import annotations

from collections.abc import Collection

from flask import Flask, Response, request

from service.settings import Settings

# What a page may send and read beside what every page may.
SENT_HEADERS = "Authorization, Content-Type, X-API-Key, X-Request-ID, traceparent"
READ_HEADERS = "Retry-After, X-Request-ID"
METHODS = "GET, POST"
PREFLIGHT_SECONDS = 600


def readable(origin: str | None, allowed: Collection[str]) -> dict[str, str]:
    """The headers with which a browser lets a page of `origin` read an answer; none for an origin not `allowed`."""
    if origin is None or origin not in allowed:
        return {}
    return {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": READ_HEADERS}


def register(app: Flask, settings: Settings) -> None:
    """Allow `settings.cors_origins`, exactly as written there. Register it before the keys: a preflight brings none."""
    allowed = frozenset(settings.cors_origins)
    if not allowed:
        return

    def preflight() -> Response | None:
        asks = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
        return Response(status=204) if asks and request.origin in allowed else None

    def allow(response: Response) -> Response:
        response.vary.add("Origin")
        response.headers.update(readable(request.origin, allowed))
        if request.origin in allowed and request.method == "OPTIONS":
            response.headers["Access-Control-Allow-Methods"] = METHODS
            response.headers["Access-Control-Allow-Headers"] = SENT_HEADERS
            response.headers["Access-Control-Max-Age"] = str(PREFLIGHT_SECONDS)
        return response

    app.before_request(preflight)
    app.after_request(allow)
