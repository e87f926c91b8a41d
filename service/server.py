"""The server: waitress, which reads whole requests before a thread sees them, and an end that loses no request.

Waitress alone cuts the requests in flight when it is told to stop. `Server.run` stops accepting first and keeps the
event loop turning until every accepted request is answered. It uses waitress's own channels, so its version is
pinned (>=3.0.2,<4) and tests/service/test_server.py holds the promise.
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType

from flask import Flask
from PIL import Image
from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.server import TcpWSGIServer

from captioner.errors import ConfigurationError
from service.app import create_app
from service.captioning import Engine
from service.channels import Channel
from service.settings import Settings

# While the server drains, a connection that was active so lately may still be sending what it has begun.
QUIET_SECONDS = 0.5
POLL_SECONDS = 0.05
# A signal that comes in the moment before the event loop waits does not end the wait, so the wait is short.
EVENT_SECONDS = 0.1
RECEIVE_BYTES = 64 * 2**10  # at a time

logger = logging.getLogger(__name__)


class Server:
    """One listening socket, one event loop and `settings.threads` worker threads around a WSGI application."""

    def __init__(self, app: Flask, settings: Settings, listener: socket.socket) -> None:
        """Listen on `listener`, a bound socket that now belongs to the server.

        Raises `ConfigurationError` when another program took the address in the meantime.
        """
        self._settings = settings
        self._stopping = threading.Event()
        try:
            self._server = TcpWSGIServer(
                app.wsgi_app,
                map={},
                _sock=listener,
                bind_socket=False,
                adj=_adjustments(settings, listener),
                sockinfo=(listener.family, listener.type, listener.proto, listener.getsockname()),
            )
        except OSError as error:
            raise _unavailable(settings, error) from error
        self._server.channel_class = functools.partial(Channel, settings=settings)
        host, port = listener.getsockname()[:2]
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def run(self) -> None:
        """Serve until `stop` is called, then answer what was accepted, and return."""
        while not self._stopping.is_set():
            self._turn(EVENT_SECONDS)
        self._stop_accepting()
        deadline = time.monotonic() + self._settings.drain_timeout_seconds
        while self._busy() and time.monotonic() < deadline:
            self._turn(POLL_SECONDS)
        if unanswered := sum(len(channel.requests) for channel in self._channels()):
            logger.warning("Stopped with %d requests unanswered after the time to drain.", unanswered)
        self._server.task_dispatcher.shutdown(timeout=1)
        wasyncore.close_all(self._server._map)

    def stop(self) -> None:
        """Make `run` drain and return. Safe in a signal handler and from any thread, any number of times."""
        self._stopping.set()
        self._server.pull_trigger()

    def _turn(self, seconds: float) -> None:
        """Let the event loop read, write and accept once, waiting `seconds` at most for something to do."""
        wasyncore.loop(seconds, use_poll=True, map=self._server._map, count=1)

    def _stop_accepting(self) -> None:
        # The kernel has completed connections that we have not seen; their clients count as accepted.
        waiting = -1
        while waiting != len(self._channels()):
            waiting = len(self._channels())
            self._server.handle_accept()
        self._server.del_channel()
        self._server.socket.close()
        self._server.accepting = False

    def _channels(self) -> list[HTTPChannel]:
        return list(self._server.active_channels.values())

    def _busy(self) -> bool:
        recently = time.time() - QUIET_SECONDS  # waitress stamps channels with time.time()
        return any(
            channel.requests or channel.total_outbufs_len or channel.last_activity > recently
            for channel in self._channels()
        )


def listen(settings: Settings) -> socket.socket:
    """A socket bound to the address of `settings`, not listening yet; `ConfigurationError` when that fails."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise ConfigurationError(f"The host {settings.host!r} has no address here; choose another.") from error
    listener = socket.socket(family, kind, protocol)
    try:
        if sys.platform != "win32":  # there the option would let two programs share the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise _unavailable(settings, error) from error
    return listener


def serve(
    open_captioner: Callable[[], contextlib.AbstractContextManager[Engine]],
    settings: Settings,
    *,
    announce: Callable[[str], None] = print,
) -> None:
    """Serve until SIGTERM or SIGINT, then finish the accepted requests and return.

    `open_captioner` opens the model, which takes seconds, so the port is claimed first: a busy one fails at once.
    `announce` gets the URL when the service answers, after a first caption of its own: until then connections are
    refused. Raises `ConfigurationError` for an address that cannot be used or a model that captions nothing, and what
    `open_captioner` raises. Call it from the main thread: signals arrive nowhere else.
    """
    with contextlib.closing(listen(settings)) as listener, open_captioner() as captioner:
        _warm_up(captioner, settings.max_waiting)
        stopping = threading.Event()
        app = create_app(captioner, settings, ready=lambda: not stopping.is_set())
        _allow_connections(settings.connection_limit)
        # Its warnings only say that threads are busy, which our own bound makes harmless.
        logging.getLogger("waitress.queue").setLevel(logging.ERROR)
        server = Server(app, settings, listener)

        def stop() -> None:
            stopping.set()
            server.stop()

        with _on_signals(stop):
            announce(server.url)
            server.run()


def _warm_up(captioner: Engine, pictures: int) -> None:
    """Caption so many small pictures at once: what starts at the first caption shall not make its sender wait."""
    picture = io.BytesIO()
    Image.new("RGB", (64, 64), "grey").save(picture, "PNG")
    for outcome in captioner.stream([picture.getvalue()] * pictures):
        if outcome.error is not None:
            raise ConfigurationError(f"The service cannot caption its own small picture: {outcome.error}")


@contextlib.contextmanager
def _on_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` at the first SIGTERM or SIGINT; the second one acts as if nobody listened."""
    signals = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in signals}

    def handle(_number: int, _frame: FrameType | None) -> None:
        for number in signals:
            signal.signal(number, signal.SIG_DFL)
        stop()

    for number in signals:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in signals:
            signal.signal(number, before[number])


def _adjustments(settings: Settings, listener: socket.socket) -> Adjustments:
    return Adjustments(
        sockets=[listener],
        threads=settings.threads,
        connection_limit=settings.connection_limit,
        channel_timeout=settings.channel_timeout_seconds,
        cleanup_interval=max(1, settings.channel_timeout_seconds // 4),
        # Waitress refuses from its limit on; Flask refuses above its own.
        max_request_body_size=settings.max_body_bytes + 1,
        max_request_header_size=settings.max_header_bytes,
        # select() stops at descriptor 1023.
        asyncore_use_poll=True,
        recv_bytes=RECEIVE_BYTES,
        ident="captioner",
    )


def _allow_connections(connections: int) -> None:
    """Raise this process's limit of open files, where it may: a connection holds up to three."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 3 * connections + 256
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard))


def _unavailable(settings: Settings, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"Cannot listen on {settings.host} port {settings.port} ({error.strerror}); "
        "stop the program that uses it or choose another port."
    )
