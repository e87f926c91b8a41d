"""What the service may be told: where it listens, and how much it accepts."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

from captioner.errors import ConfigurationError
from captioner.images import DEFAULT_LIMITS, ImageLimits


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of the service; contradictions raise `ConfigurationError`.

    `max_waiting` requests at most are in captioning at once and every one of them holds a thread, so `threads` is
    larger: the threads that remain answer the health checks and say 503 to the rest.

    A body is received whole before any thread sees it, so slow senders are bounded by other means: `max_held_bytes`
    is what all bodies and unsent answers may take together, in memory or in the folder for temporary files. Past it,
    whoever sends more hears 503. Answers are written all the same, so that folder needs room for some 200 MB more. A
    connection that neither sends nor takes anything for `channel_timeout_seconds` is closed.
    """

    host: str = "127.0.0.1"
    port: int = 8000  # 0: any free port
    threads: int = 16
    max_waiting: int = 8
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
    limits: ImageLimits = DEFAULT_LIMITS

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ConfigurationError(f"port is {self.port}; choose one from 0 to 65535.")
        for name in ("max_waiting", "retry_after_seconds", "max_files", "max_beam_size", "max_words"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name} is {getattr(self, name)}; it must be at least 1.")
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

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the service."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False
