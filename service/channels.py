"""Waitress's connections, with our answers: problems for refusals, and a bound on all that they hold together.

Waitress receives a whole body before a worker thread sees the request, and spools it into a temporary file when it is
large. A limit per body alone would let a thousand slow senders fill the disk.
"""

from __future__ import annotations

import functools
import socket
from collections.abc import Callable
from typing import Any

from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask, WSGITask
from waitress.utilities import Error

from service.app import SECURITY_HEADERS
from service.problems import DETAILS, MEDIA_TYPE, problem_body
from service.settings import Settings


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
        body = problem_body(status, DETAILS.get(status, DETAILS[400]))
        self.status = f"{status} {self.request.error.reason}"
        request_id = self.channel.on_refusal(status)
        self.response_headers = [("Content-Type", MEDIA_TYPE), ("X-Request-ID", request_id), *SECURITY_HEADERS.items()]
        if status == 503:
            self.response_headers.append(("Retry-After", str(self.channel.retry_after_seconds)))
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class _Full(Error):  # type: ignore[misc]
    code = 503
    reason = "Service Unavailable"


class _Parser(HTTPRequestParser):  # type: ignore[misc]
    """Refuses the rest of a body for which there is no room."""

    completed: bool

    def __init__(self, adjustments: Adjustments, *, has_room: Callable[[int], bool]) -> None:
        super().__init__(adjustments)
        self._has_room = has_room

    def received(self, data: bytes) -> int:
        if self.body_rcv is not None and not self.completed and not self._has_room(len(data)):
            self.error = _Full("")
            self.completed = True
            return len(data)
        consumed: int = super().received(data)
        return consumed


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
        on_refusal: Callable[[int], str],
    ) -> None:
        """As waitress calls it, and `settings`, and what is told of a refusal's status and names the request."""
        super().__init__(server, connection, address, adjustments, map=map)
        self.retry_after_seconds = settings.retry_after_seconds
        self.on_refusal = on_refusal
        self.parser_class = functools.partial(
            _Parser, has_room=lambda more: held_bytes(server) + more <= settings.max_held_bytes
        )

    @property
    def held_bytes(self) -> int:
        """What its bodies and its unsent answers take, in memory or in temporary files."""
        # A refused body is as good as gone; counted, it would cost its neighbours theirs.
        requests = [request for request in (self.request, *self.requests) if request is not None and not request.error]
        held: int = self.total_outbufs_len + sum(request.body_bytes_received for request in requests)
        return held


def held_bytes(server: TcpWSGIServer) -> int:
    """What all connections of `server` hold together."""
    return sum(channel.held_bytes for channel in list(server.active_channels.values()))
