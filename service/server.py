"""The server: waitress, which reads whole requests before a thread sees them, and an end that loses no request.

Waitress alone cuts the requests in flight when it is told to stop. `Server.run` stops accepting first and keeps the
event loop turning until every accepted request is answered. It uses waitress's own channels, so its version is
pinned (>=3.0.2,<4) and tests/service/test_server.py holds the promise.

SIGTERM and SIGINT stop the service; SIGHUP has it load its model and its keys again (succession.py).
"""

from __future__ import annotations

import contextlib
import functools
import logging
import signal
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from types import FrameType
from typing import Any

from flask import Flask
from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.server import TcpWSGIServer

from captioner.errors import ConfigurationError
from service.app import create_app
from service.captioning import Engine
from service.channels import Channel, Room
from service.handshakes import begin_no_more
from service.keys import read_keys
from service.loading import in_a_thread_that_ends
from service.logs import refusal
from service.memory import give_back, share_one_heap
from service.metrics import Metrics
from service.settings import Settings
from service.succession import Reloader, Succession

# While the server drains, a connection that was active so lately may still be sending what it has begun.
QUIET_SECONDS = 0.5
# So long before, no new connection could begin, and those that had begun could be completed.
HANDSHAKE_SECONDS = 0.25
POLL_SECONDS = 0.05
# A signal that comes in the moment before the event loop waits does not end the wait, so the wait is short.
EVENT_SECONDS = 0.1
RECEIVE_BYTES = 64 * 2**10  # at a time

logger = logging.getLogger(__name__)


class Server:
    """One listening socket, one event loop and `settings.threads` worker threads around a WSGI application."""

    def __init__(
        self,
        app: Callable[..., Iterable[bytes]],
        settings: Settings,
        listener: socket.socket,
        *,
        on_refusal: Callable[[int], str] = lambda _status: uuid.uuid4().hex,
    ) -> None:
        """Listen on `listener`, a bound socket that now belongs to the server.

        Args:
            app: a WSGI application.
            on_refusal: is told the status of a refusal that `app` never saw, and names the request.

        Raises `ConfigurationError` when another program took the address in the meantime.
        """
        self._settings = settings
        self._stopping = threading.Event()
        try:
            self._server = TcpWSGIServer(
                app,
                map={},
                _sock=listener,
                bind_socket=False,
                adj=_adjustments(settings, listener),
                sockinfo=(listener.family, listener.type, listener.proto, listener.getsockname()),
            )
        except OSError as error:
            raise _unavailable(settings, error) from error
        room = Room(settings.max_held_bytes, self._channels)
        self._server.channel_class = functools.partial(Channel, settings=settings, room=room, on_refusal=on_refusal)
        host, port = listener.getsockname()[:2]
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def run(self) -> None:
        """Serve until `stop` is called, then answer what was accepted, and return."""
        while not self._stopping.is_set():
            self._turn(EVENT_SECONDS)
        inside = self._unanswered()
        logger.info("Stopping; %d %s being answered.", inside, "request is" if inside == 1 else "requests are")
        if begin_no_more(self._server.socket):
            accepted = time.monotonic() + HANDSHAKE_SECONDS
            while time.monotonic() < accepted:
                self._turn(POLL_SECONDS)
        self._stop_accepting()
        deadline = time.monotonic() + self._settings.drain_timeout_seconds
        while self._busy() and time.monotonic() < deadline:
            self._turn(POLL_SECONDS)
        if unanswered := self._unanswered():
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

    def _channels(self) -> list[Channel]:
        return list(self._server.active_channels.values())

    def _unanswered(self) -> int:
        return sum(len(channel.requests) for channel in self._channels())

    def _busy(self) -> bool:
        recently = time.time() - QUIET_SECONDS  # waitress stamps channels with time.time()
        return any(
            channel.requests or channel.total_outbufs_len or channel.last_activity > recently
            for channel in self._channels()
        )


def listen(settings: Settings) -> socket.socket:
    """A socket bound to the address of `settings`, not listening yet.

    Raises `ConfigurationError` when that fails, and for an address that other machines reach while nobody said who may
    use the service.
    """
    if not (settings.is_local or settings.keys_file is not None or settings.no_auth):
        raise ConfigurationError(
            f"{settings.host} can be reached from other machines: give API keys with --keys-file (--new-key makes "
            "one), or say --no-auth if whoever reaches it may use it."
        )
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
    """Serve until SIGTERM or SIGINT, then finish the accepted requests and return. SIGHUP calls `open_captioner` again.

    `open_captioner` opens the model, which takes seconds, so the port is claimed first: a busy one fails at once.
    `announce` gets the URL when the service answers, after a first caption of its own: until then connections are
    refused. Raises `ConfigurationError` for an address that cannot be used or a model that captions nothing, and what
    `open_captioner` raises. Call it from the main thread: signals arrive nowhere else.
    """
    share_one_heap()
    stopping = threading.Event()
    metrics = Metrics()

    def start() -> tuple[Flask, Callable[[], None]]:
        """An application around a model of its own, and what closes that."""
        with contextlib.ExitStack() as stack:
            captioner = stack.enter_context(in_a_thread_that_ends(open_captioner))
            app = create_app(captioner, settings, ready=lambda: not stopping.is_set(), metrics=metrics)
            captioning = app.extensions["captioner"]
            stack.callback(captioning.close)
            captioning.warm_up()
            return app, stack.pop_all().close

    with contextlib.closing(listen(settings)) as listener:
        if settings.keys_file is not None:
            read_keys(settings.keys_file)  # a mistake in it is told before the model loads
        with contextlib.closing(Succession(*start())) as succession:
            give_back()
            _allow_connections(settings.connection_limit)
            server = Server(succession, settings, listener, on_refusal=refusal(metrics))

            def stop() -> None:
                stopping.set()
                server.stop()

            with (
                contextlib.closing(Reloader(succession, start, metrics)) as reloader,
                _on_signals(stop, reloader.ask),
            ):
                announce(server.url)
                server.run()


@contextlib.contextmanager
def _on_signals(stop: Callable[[], None], reload: Callable[[], None]) -> Iterator[None]:
    """Call `stop` at the first SIGTERM or SIGINT, the second one acts as if nobody listened; `reload` at SIGHUP."""
    ends = (signal.SIGTERM, signal.SIGINT)

    def handle(_number: int, _frame: FrameType | None) -> None:
        for number in ends:
            signal.signal(number, signal.SIG_DFL)
        stop()

    handlers: dict[int, Any] = dict.fromkeys(ends, handle)
    if sys.platform != "win32":
        handlers[signal.SIGHUP] = lambda _number, _frame: reload()
    before = {number: signal.getsignal(number) for number in handlers}
    for number, handler in handlers.items():
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
        # Reading on while a request is answered is how the server learns that its client has gone.
        channel_request_lookahead=1,
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
