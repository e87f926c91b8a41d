"""What the service may be told: where it listens, who may use it, and how much it accepts."""

from __future__ import annotations

import dataclasses
import difflib
import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, get_type_hints

from captioner.decoding.options import BOUNDS
from captioner.errors import ConfigurationError
from captioner.images import DEFAULT_LIMITS, ImageLimits

PREFIX = "CAPTIONER_"
# Variables that options of `captioner serve` read, and that are no settings of the service.
OTHER_VARIABLES = ("CAPTIONER_BUNDLE", "CAPTIONER_DEVICE", "CAPTIONER_PROCESSES")

# At least one of each.
_COUNTS = (
    "max_waiting",
    "max_queued_pictures",
    "max_batch",
    "retry_after_seconds",
    "max_files",
    "max_header_bytes",
    "max_beam_size",
    "max_words",
    "connection_limit",
    "channel_timeout_seconds",
)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of the service; contradictions raise `ConfigurationError`. docs/service.md explains every one.

    `max_waiting` requests at most are in captioning at once and every one of them holds a thread, so `threads` is
    larger: the threads that remain answer the health checks and say 503 to the rest.

    A body is received whole before any thread sees it, so slow senders are bounded by other means: `max_held_bytes`
    is what all bodies and unsent answers may take together, in memory or in the folder for temporary files. Past it,
    whoever sends more hears 503. Answers are written all the same, and a page holds its pictures again in base64, so
    that folder needs room for two and a half times as much. A connection that neither sends nor takes anything for
    `channel_timeout_seconds` is closed.

    `keys_file` holds the digests of API keys; with it, every route but the health checks asks for one. Whoever listens
    on an address that other machines reach must give it or say `no_auth`.
    """

    host: str = "127.0.0.1"
    port: int = 8000  # 0: any free port
    threads: int = 48
    max_waiting: int = 32
    max_queued_pictures: int = 64
    max_batch: int = 32
    deadline_seconds: float = 10.0
    retry_after_seconds: int = 1
    max_body_bytes: int = 32 * 2**20
    max_held_bytes: int = 256 * 2**20
    max_files: int = 32
    max_header_bytes: int = 16 * 2**10
    max_beam_size: int = 16
    max_words: int = 64
    connection_limit: int = 1000
    channel_timeout_seconds: int = 20
    drain_timeout_seconds: float = 30.0
    keys_file: Path | None = None
    no_auth: bool = False
    requests_per_minute: int = 0  # of one key; 0: as many as it likes
    cors_origins: tuple[str, ...] = ()
    limits: ImageLimits = DEFAULT_LIMITS

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ConfigurationError(f"port is {self.port}; choose one from 0 to 65535.")
        for name in _COUNTS:
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if self.deadline_seconds <= 0:
            raise ConfigurationError(f"deadline_seconds is {self.deadline_seconds}; it must be more than 0.")
        if self.threads <= self.max_waiting:
            raise ConfigurationError(
                f"threads ({self.threads}) must be larger than max_waiting ({self.max_waiting}), "
                "or waiting requests would leave no thread for the health checks."
            )
        if self.max_body_bytes < self.limits.max_bytes:
            raise ConfigurationError(
                f"max_body_bytes ({self.max_body_bytes}) is smaller than one picture may be ({self.limits.max_bytes}); "
                "raise the first or lower the second."
            )
        if self.max_held_bytes < self.max_body_bytes:
            raise ConfigurationError(
                f"max_held_bytes ({self.max_held_bytes}) is smaller than one body may be ({self.max_body_bytes}); "
                "raise the first or lower the second."
            )

        self._check_access()

    def _check_access(self) -> None:
        if self.keys_file is not None and self.no_auth:
            raise ConfigurationError("keys_file and no_auth contradict each other; give one of them.")
        if self.requests_per_minute < 0:
            raise ConfigurationError(f"requests_per_minute is {self.requests_per_minute}; it must be 0 or more.")
        if self.requests_per_minute and self.keys_file is None:
            raise ConfigurationError("requests_per_minute counts what each key asks for; give keys_file as well.")
        for origin in self.cors_origins:
            if not re.fullmatch(r"https?://[^/\s,*?#@]+", origin):
                raise ConfigurationError(
                    f"{origin!r} in cors_origins is no origin; write it as a browser sends it: https://example.org."
                )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], **chosen: Any) -> Self:
        """The settings that the variables `CAPTIONER_<FIELD>` of `environment` give, under those `chosen` by name.

        Without a `max_waiting`, two thirds of the `threads` may wait, as by default.

        Raises:
            ConfigurationError: a variable that is no setting, a value that cannot be read, or a contradiction.
        """
        known = variables()
        for name in environment:
            if name.startswith(PREFIX) and name not in known and name not in OTHER_VARIABLES:
                words = [variable.removeprefix(PREFIX) for variable in (*known, *OTHER_VARIABLES)]
                near = difflib.get_close_matches(name.removeprefix(PREFIX), words, n=1)
                hint = f"did you mean {PREFIX}{near[0]}?" if near else "docs/service.md lists the settings."
                raise ConfigurationError(f"The environment holds {name}, which is no setting; {hint}")
        given: dict[str, Any] = {}
        limits: dict[str, Any] = {}
        for name, (field, kind) in known.items():
            if name not in environment:
                continue
            read, expected = _READERS[kind]
            try:
                value = read(environment[name])
            except ValueError:
                raise ConfigurationError(f"{name} is {environment[name]!r}; it must be {expected}.") from None
            group, _, inner = field.rpartition(".")
            (limits if group else given)[inner] = value
        if limits:
            given["limits"] = dataclasses.replace(DEFAULT_LIMITS, **limits)
        given |= chosen
        if "threads" in given:
            given.setdefault("max_waiting", 2 * given["threads"] // 3)
        return cls(**given)

    @property
    def option_bounds(self) -> dict[str, tuple[int, int]]:
        """The least and the most of each decoding option here: the library's, some of them lowered."""
        most = dict.fromkeys(("beam_size", "num_captions"), self.max_beam_size)
        most |= dict.fromkeys(("min_length", "max_length"), self.max_words)
        return {name: (least, min(largest, most.get(name, largest))) for name, (least, largest) in BOUNDS.items()}

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the service."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


def variables() -> dict[str, tuple[str, Any]]:
    """Each variable of the environment that is a setting: the field that it sets, `limits.` before those of the limits,
    and the field's type (a type or a union, hence `Any`)."""
    own = {name: kind for name, kind in get_type_hints(Settings).items() if kind is not ImageLimits}
    limits = {f"limits.{name}": kind for name, kind in get_type_hints(ImageLimits).items()}
    return {PREFIX + name.replace(".", "_").upper(): (name, kind) for name, kind in (own | limits).items()}


def _whole(text: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,12}", text):
        raise ValueError(text)
    return int(text)


def _number(text: str) -> float:
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", text):
        raise ValueError(text)
    return float(text)


def _switch(text: str) -> bool:
    if text.lower() not in ("1", "true", "yes", "0", "false", "no", ""):
        raise ValueError(text)
    return text.lower() in ("1", "true", "yes")


def _list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


# One for each type of a field, and what to say of a text that it refuses. A type may be a union, hence `Any`.
_READERS: dict[Any, tuple[Callable[[str], Any], str]] = {
    str: (str, "text"),
    int: (_whole, "a whole number of at most 12 digits"),
    float: (_number, "a number of at most 9 digits, and 9 behind the point"),
    bool: (_switch, "1 or 0"),
    tuple[str, ...]: (_list, "a list with commas"),
    Path | None: (lambda text: Path(text) if text else None, "a path"),
}
