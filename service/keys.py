"""Who may use the service: API keys, of which only digests are kept, and how often each may ask.

A key is 32 random bytes, so a plain SHA-256 of it cannot be guessed back, and no slow hash is needed.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import re
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from flask import Flask, Request, g, request

from captioner.errors import ConfigurationError
from service.problems import Problem
from service.settings import Settings

OPEN_ROUTES = frozenset({"/healthz", "/readyz"})
# The page as it comes, which asks its person for the key; it captions nothing without one.
OPEN_PAGE = frozenset({"/", "/static/<path:filename>", "/family.css"})
# Of the methods that our routes answer, those that only look at what is there.
_FREE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_LINE = re.compile(r"([0-9a-f]{64})(?:\s+([A-Za-z0-9._-]{1,64}))?")


@dataclass(frozen=True)
class Key:
    """One key that is accepted: the name that the log shows, and the SHA-256 of the key."""

    name: str
    digest: bytes


def new_key() -> tuple[str, str]:
    """A new key, and the line for it in a file of keys."""
    key = f"cap_{secrets.token_urlsafe(32)}"
    return key, _digest(key).hex()


def read_keys(path: Path) -> tuple[Key, ...]:
    """The keys of a file: a line each, 64 hexadecimal digits and perhaps a name; # begins a line of comment.

    Raises:
        ConfigurationError: the file cannot be read, holds no key, or holds a line that is none. No line is quoted:
            somebody may have put the key itself there.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise ConfigurationError(
            f"The file of keys {path} cannot be read: {reason}; check --keys-file or CAPTIONER_KEYS_FILE."
        ) from error
    keys: list[Key] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        if match is None:
            raise ConfigurationError(
                f"Line {number} of {path} is no key; `captioner serve --new-key` makes a key and its line."
            )
        keys.append(Key(match[2] or f"key-{number}", bytes.fromhex(match[1])))
    if not keys:
        raise ConfigurationError(f"{path} holds no key; `captioner serve --new-key` makes a key and its line.")
    return tuple(keys)


def find(keys: Iterable[Key], given: str) -> Key | None:
    """The key that was `given`, or None. It takes as long for every answer."""
    digest = _digest(given)
    found = None
    for key in keys:
        if hmac.compare_digest(key.digest, digest):
            found = key
    return found


class Buckets:
    """A token bucket a key: it holds a minute's worth of requests and fills evenly."""

    def __init__(self, requests_per_minute: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._size = float(requests_per_minute)
        self._clock = clock
        self._lock = threading.Lock()
        self._filled: dict[str, tuple[float, float]] = {}  # of each key: what was in the bucket, and when

    def take(self, name: str) -> float:
        """Take one request's worth: 0, or the seconds until there will be one."""
        per_second = self._size / 60
        with self._lock:
            now = self._clock()
            left, then = self._filled.get(name, (self._size, now))
            left = min(self._size, left + (now - then) * per_second)
            enough = left >= 1
            self._filled[name] = (left - 1 if enough else left, now)
        return 0.0 if enough else (1 - left) / per_second


def register(app: Flask, settings: Settings) -> None:
    """Ask every request of `app` but the health checks for a key, if the settings name a file of keys."""
    if settings.keys_file is None:
        return
    keys = read_keys(settings.keys_file)
    buckets = Buckets(settings.requests_per_minute) if settings.requests_per_minute else None

    def admit() -> None:
        rule = request.url_rule.rule if request.url_rule is not None else None
        if rule in OPEN_ROUTES:
            return
        given = given_key(request)
        key = find(keys, given) if given is not None else None
        if key is None:
            if rule in OPEN_PAGE and request.method in _FREE_METHODS:
                return
            raise Problem(
                401,
                "Send an API key that this service knows: Authorization: Bearer KEY or X-API-Key: KEY.",
                headers=_challenge(request),
            )
        g.key_name = key.name
        if buckets is not None and request.method not in _FREE_METHODS and (wait := buckets.take(key.name)):
            raise Problem(
                429,
                f"This key may ask {settings.requests_per_minute} times a minute; try again later.",
                headers={"Retry-After": str(math.ceil(wait))},
            )

    app.before_request(admit)


def given_key(request: Request) -> str | None:
    """The key that a request brings: a bearer's, in X-API-Key, or the password that a browser asked a person for."""
    if (key := request.headers.get("X-API-Key")) is not None:
        return key
    authorization = request.authorization
    if authorization is None:
        return None
    if authorization.type == "bearer":
        return authorization.token
    return authorization.password if authorization.type == "basic" else None


def _challenge(request: Request) -> dict[str, str]:
    # Only a browser that opens a page shall ask its person; a program's own library might answer by itself.
    wants_page = request.accept_mimetypes.best_match(["application/json", "text/html"]) == "text/html"
    return {"WWW-Authenticate": f'{"Basic" if wants_page else "Bearer"} realm="captioner"'}


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
