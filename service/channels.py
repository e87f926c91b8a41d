"""Waitress's connections, with our answers: problems for refusals, and a bound on all that they hold together.

Waitress receives a whole body before a worker thread sees the request, and spools it into a temporary file when it is
large. A limit per body alone would let a thousand slow senders fill the disk.
"""

from __future__ import annotations

import functools
import math
import re
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any

from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask, WSGITask
from waitress.utilities import Error

from service.app import SECURITY_HEADERS
from service.cross_origin import readable
from service.problems import DETAILS, MEDIA_TYPE, body_too_large, problem_body
from service.settings import Settings

COUNT_SECONDS = 0.05
_ORIGIN = re.compile(rb"^origin:[ \t]*([^\r\n]*?)[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)


class _Answer(WSGITask):  # type: ignore[misc]  # waitress publishes no types
    """An answer that closes its connection once the server has stopped accepting."""

    def build_response_header(self) -> bytes:
        # A client may have sent its next request already; waitress would drop it with the connection.
        if not self.channel.server.accepting and len(self.channel.requests) <= 1:
            self.set_close_on_finish()
        header: bytes = super().build_response_header()
        return header


class _Refusal(ErrorTask):  # type: ignore[misc]
    """A refusal that no thread of ours saw (a broken request, a body or headers over the limits) as a problem."""

    def execute(self) -> None:
        status: int = self.request.error.code
        # Of a form's parts, the other reason for 413, waitress knows nothing.
        large = body_too_large(self.channel.max_body_bytes)
        body = problem_body(status, large if status == 413 else DETAILS.get(status, DETAILS[400]))
        self.status = f"{status} {self.request.error.reason}"
        request_id = self.channel.on_refusal(status)
        self.response_headers = [("Content-Type", MEDIA_TYPE), ("X-Request-ID", request_id), *SECURITY_HEADERS.items()]
        if origins := self.channel.cors_origins:  # a page shall be able to read why it was refused
            readers = readable(self.request.headers.get("ORIGIN"), origins)
            self.response_headers += [("Vary", "Origin"), *readers.items()]
        if status == 503:
            self.response_headers.append(("Retry-After", str(self.channel.retry_after_seconds)))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class _Full(Error):  # type: ignore[misc]
    code = 503
    reason = "Service Unavailable"


class _Parser(HTTPRequestParser):  # type: ignore[misc]
    """Refuses the rest of a body for which there is no room, and knows from which origin a refused request comes."""

    completed: bool

    def __init__(self, adjustments: Adjustments, *, has_room: Callable[[int], bool]) -> None:
        super().__init__(adjustments)
        self._has_room = has_room

    def received(self, data: bytes) -> int:
        if self.body_rcv is not None and not self.completed and not self._has_room(len(data)):
            self.error = _Full("")
            self.completed = True
            return len(data)
        head = self.header_plus + data if self.body_rcv is None else b""
        consumed: int = super().received(data)
        # Waitress gives up before it has read the headers of a request that is broken or too long in them.
        if self.error is not None and (found := _ORIGIN.search(head.partition(b"\r\n\r\n")[0])):
            self.headers["ORIGIN"] = found[1].decode("latin-1")
        return consumed


class Room:
    """What all connections of a server may hold together."""

    def __init__(self, most_bytes: int, channels: Callable[[], Iterable[Channel]]) -> None:
        """`channels` are those that are open at this moment."""
        self._most = most_bytes
        self._channels = channels
        self._held = 0
        self._counted = -math.inf

    def takes(self, more: int) -> bool:
        """Whether there is room for so many bytes more, which are then taken for held."""
        # Counting takes a while where thousands send a byte each, so it is done anew now and then, and before a no.
        now = time.monotonic()
        if now > self._counted + COUNT_SECONDS or self._held + more > self._most:
            self._held, self._counted = sum(channel.held_bytes for channel in self._channels()), now
        if self._held + more > self._most:
            return False
        self._held += more
        return True


class Channel(HTTPChannel):  # type: ignore[misc]
    """One connection."""

    task_class = _Answer
    error_task_class = _Refusal

    def __init__(
        self,
        server: TcpWSGIServer,
        connection: socket.socket,
        address: Any,  # it depends on the family of the socket
        adjustments: Adjustments,
        map: dict[int, Any] | None = None,  # noqa: A002  # waitress names it
        *,
        settings: Settings,
        room: Room,
        on_refusal: Callable[[int], str],
    ) -> None:
        """As waitress calls it, and `settings`, and what is told of a refusal's status and names the request.

        All connections of a server share one `room`.
        """
        super().__init__(server, connection, address, adjustments, map=map)
        self.max_body_bytes = settings.max_body_bytes
        self.retry_after_seconds = settings.retry_after_seconds
        self.cors_origins = settings.cors_origins
        self.on_refusal = on_refusal
        self.parser_class = functools.partial(_Parser, has_room=room.takes)

    @property
    def held_bytes(self) -> int:
        """What its bodies and its unsent answers take, in memory or in temporary files."""
        # A refused body is as good as gone; counted, it would cost its neighbours theirs.
        requests = [request for request in (self.request, *self.requests) if request is not None and not request.error]
        held: int = self.total_outbufs_len + sum(request.body_bytes_received for request in requests)
        return held
