"""Pages of other origins that may call the service from a browser (CORS): none, but those that the settings name."""

from __future__ import annotations

from flask import Flask, Response, request

from service.settings import Settings

# What a page may send and read beside what every page may.
SENT_HEADERS = "Authorization, Content-Type, X-API-Key, X-Request-ID, traceparent"
READ_HEADERS = "Retry-After, X-Request-ID"
METHODS = "GET, POST"
PREFLIGHT_SECONDS = 600


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
        if request.origin in allowed:
            response.headers["Access-Control-Allow-Origin"] = request.origin
            response.headers["Access-Control-Expose-Headers"] = READ_HEADERS
            if request.method == "OPTIONS":
                response.headers["Access-Control-Allow-Methods"] = METHODS
                response.headers["Access-Control-Allow-Headers"] = SENT_HEADERS
                response.headers["Access-Control-Max-Age"] = str(PREFLIGHT_SECONDS)
        return response

    app.before_request(preflight)
    app.after_request(allow)
