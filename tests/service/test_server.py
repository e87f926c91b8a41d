"""The real server in a real process: it drains, and slow clients stop nobody."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from captioner.errors import ConfigurationError
from captioner.images import ImageLimits, ImageSource
from service.app import create_app
from service.batching import Pixels
from service.channels import Channel, Room
from service.server import Server, listen, serve
from service.settings import Settings
from tests.service.fake_captioner import FakeCaptioner

ROOT = Path(__file__).parents[2]
HANGING_SECONDS = 600.0  # many times what anything takes, on a machine that has much else to do as well
# Whoever is waited for until the time to drain is over holds up the end for longer than a test waits.
PATIENT = ("--drain-timeout-seconds", str(2 * HANGING_SECONDS))


class Running:
    """A server process around a captioner that takes some seconds a request."""

    def __init__(self, seconds: float, *options: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.service.serve_fake", str(seconds), *options],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self._lines = self.process.stdout
        said = [self.line(), self.line()]  # the pictures that warm it up, before anyone hears the address
        if said[0] != "arrived":
            self.close()
            pytest.fail(f"the server said {said}")
        self.address = urlsplit(said[1])

    def line(self) -> str:
        """The next line that the process prints."""
        return self._lines.readline().strip()

    def connect(self) -> http.client.HTTPConnection:
        """A new connection."""
        return http.client.HTTPConnection(self.address.hostname or "", self.address.port, timeout=120)

    def close(self) -> None:
        """End the process, whatever it does."""
        self.process.kill()
        self.process.wait(10)
        self._lines.close()


@contextlib.contextmanager
def running(seconds: float, *options: str) -> Iterator[Running]:
    """A `Running` that is closed in the end."""
    server = Running(seconds, *options)
    try:
        yield server
    finally:
        server.close()


def wait_until_it_listens_no_more(server: Running) -> None:
    """It has heard of the signal."""
    deadline = time.monotonic() + HANGING_SECONDS
    while True:
        with contextlib.closing(server.connect()) as connection:
            try:
                connection.connect()
            except ConnectionRefusedError:
                return
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_requests_in_flight_are_answered(picture: bytes, number: signal.Signals, tmp_path: Path) -> None:
    answers: list[tuple[int, str | None]] = []

    def ask(server: Running) -> None:
        with contextlib.closing(server.connect()) as connection:
            connection.request("POST", "/v1/captions", picture, {"Content-Type": "image/png"})
            response = connection.getresponse()
            assert json.loads(response.read())["captions"]
            answers.append((response.status, response.headers["Connection"]))

    gate = tmp_path / "gate"
    with running(0, "--until", str(gate), *PATIENT) as server, contextlib.closing(server.connect()) as idle:
        idle.request("GET", "/readyz")
        idle.getresponse().read()  # and the connection stays open
        asking = [threading.Thread(target=ask, args=(server,)) for _ in range(6)]
        for thread in asking:
            thread.start()
        for _ in asking:
            assert server.line() == "arrived"
        os.kill(server.process.pid, number)
        wait_until_it_listens_no_more(server)
        assert answers == []  # the signal came while all six were inside
        gate.touch()
        for thread in asking:
            thread.join(120)
        assert answers == [(200, "close")] * 6
        assert server.process.wait(HANGING_SECONDS) == 0
        assert server.line() == "stopped"


def test_a_second_request_on_the_same_connection_is_answered(picture: bytes, tmp_path: Path) -> None:
    """Sent before the answer to the first one, which the server gives after it was told to stop."""
    request = b"POST /v1/captions HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n%b"
    gate = tmp_path / "gate"
    with running(0, "--until", str(gate), *PATIENT) as server, contextlib.closing(server.connect()) as connection:
        connection.connect()
        connection.sock.sendall(2 * (request % (len(picture), picture)))
        assert server.line() == "arrived"
        server.process.terminate()
        wait_until_it_listens_no_more(server)
        gate.touch()
        with connection.sock.makefile("rb") as answers:
            received = answers.read()  # until the server closes the connection
        assert received.count(b"HTTP/1.1 200 OK") == 2
        assert received.count(b"Connection: close") == 1
        assert server.process.wait(HANGING_SECONDS) == 0


def test_a_connection_that_waits_in_the_kernel_is_answered(picture: bytes) -> None:
    """Connected and sent, but not accepted yet, when the server is told to stop: no thread runs before `run`."""
    app = create_app(FakeCaptioner(), Settings())
    settings = Settings(port=0)
    server = Server(app, settings, listen(settings))
    address = urlsplit(server.url)
    connections = [http.client.HTTPConnection(address.hostname or "", address.port, timeout=120) for _ in range(5)]
    for connection in connections:
        connection.request("POST", "/v1/captions", picture, {"Content-Type": "image/png"})
    server.stop()
    server.run()
    for connection in connections:
        assert connection.getresponse().status == 200
        connection.close()


def test_the_log_says_when_it_begins_to_stop(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="service")
    inside, gate = threading.Event(), threading.Event()

    def app(_environ: dict[str, object], start_response: Callable[..., object]) -> list[bytes]:
        inside.set()
        assert gate.wait(120)
        start_response("200 OK", [("Content-Length", "0")])
        return []

    settings = Settings(port=0)
    server = Server(app, settings, listen(settings))
    thread = threading.Thread(target=server.run)
    thread.start()
    address = urlsplit(server.url)
    with contextlib.closing(http.client.HTTPConnection(address.hostname or "", address.port, timeout=120)) as client:
        client.request("GET", "/")
        assert inside.wait(120)
        server.stop()
        deadline = time.monotonic() + 120
        while not caplog.messages and time.monotonic() < deadline:
            time.sleep(0.01)
        gate.set()
        assert client.getresponse().status == 200
    thread.join(120)
    assert caplog.messages == ["Stopping; 1 request is being answered."]


def test_slow_clients_do_not_block_the_others() -> None:
    head = b"POST /v1/captions HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 1000\r\n"
    with running(0, *PATIENT) as server, contextlib.ExitStack() as stack:
        slow: list[socket.socket] = []
        for number in range(120):
            client = stack.enter_context(
                socket.create_connection((server.address.hostname or "", server.address.port or 0), timeout=120)
            )
            client.sendall(head if number % 2 else head + b"\r\n" + bytes(100))
            slow.append(client)
        with contextlib.closing(server.connect()) as connection:
            connection.request("GET", "/healthz")
            assert connection.getresponse().status == 200
        for client in slow:  # the server still waits for each of them: none was answered or given up before
            client.setblocking(False)
            with pytest.raises(BlockingIOError):
                client.recv(1)
        server.process.terminate()
        assert server.process.wait(HANGING_SECONDS) == 0  # nor do they hold up the end


def test_a_model_that_hangs_does_not_keep_the_process(picture: bytes) -> None:
    with running(600, "--drain-timeout-seconds", "0.5") as server, contextlib.closing(server.connect()) as connection:
        connection.request("POST", "/v1/captions", picture, {"Content-Type": "image/png"})
        assert server.line() == "arrived"
        server.process.terminate()
        assert server.process.wait(30) == 0
        assert server.line() == "stopped"


def test_what_is_held_is_not_counted_for_every_byte() -> None:
    counted = 0

    def channels() -> list[Channel]:
        nonlocal counted
        counted += 1
        return []

    room = Room(100_000, channels)
    assert all(room.takes(1) for _ in range(100_000))
    assert counted < 10_000
    small = Room(100, channels)
    assert small.takes(100)
    assert small.takes(1)  # what was there has gone, so there is room again
    assert not small.takes(101)


def test_what_is_held_is_bounded() -> None:
    settings = Settings(port=0, max_held_bytes=1500, max_body_bytes=1000, limits=ImageLimits(max_bytes=1000))
    head = b"POST /v1/captions HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 1000\r\n\r\n"
    server = Server(create_app(FakeCaptioner(), settings), settings, listen(settings))
    address = urlsplit(server.url)
    thread = threading.Thread(target=server.run)
    thread.start()

    def send(data: bytes) -> socket.socket:
        connection = socket.create_connection((address.hostname or "", address.port or 0), timeout=120)
        connection.sendall(head)
        time.sleep(0.2)  # so that the body is read by itself
        connection.sendall(data)
        time.sleep(0.2)
        return connection

    def answer(connection: socket.socket) -> http.client.HTTPResponse:
        response = http.client.HTTPResponse(connection)
        response.begin()
        return response

    try:
        with send(bytes(900)) as slow:
            with send(bytes(900)) as refused:
                response = answer(refused)
                assert response.status == 503
                assert response.headers["Retry-After"] == "1"
                assert response.headers["Content-Type"] == "application/problem+json"
                assert "try again" in json.loads(response.read())["detail"]
            slow.sendall(bytes(100))  # the refused body takes no room any more
            assert answer(slow).status == 422  # whole, but no picture
        with send(bytes(1000)) as later:
            assert answer(later).status == 422
    finally:
        server.stop()
        thread.join(120)


def test_a_model_that_captions_nothing_is_one_sentence() -> None:
    class Blind(FakeCaptioner):
        def read(self, source: ImageSource) -> Future[Pixels]:
            return super().read(b"no picture")

    announced: list[str] = []
    with pytest.raises(ConfigurationError, match="own small picture: The file holds no picture"):
        serve(lambda: contextlib.nullcontext(Blind()), Settings(port=0), announce=announced.append)
    assert announced == []


def test_waitress_refuses_with_problems() -> None:
    requests = {
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 20_000 + b"\r\n\r\n": 431,
        b"POST /v1/captions HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n": 413,
        b"nonsense\r\n\r\n": 400,
    }
    with running(seconds=0) as server:
        for data, status in requests.items():
            with contextlib.closing(server.connect()) as connection:
                connection.connect()
                connection.sock.sendall(data)
                response = http.client.HTTPResponse(connection.sock)
                response.begin()
                assert response.status == status
                assert response.headers["Content-Type"] == "application/problem+json"
                assert response.headers["X-Content-Type-Options"] == "nosniff"
                body = response.read()
                assert json.loads(body)["status"] == status
                assert body.endswith(b"}\n")
                assert (b"send fewer or shorter" in body) == (status == 431)
                assert (f"more than {Settings().max_body_bytes:,} bytes".encode() in body) == (status == 413)


@pytest.mark.parametrize("origin", ["https://photos.example", "https://other.example", None])
@pytest.mark.parametrize(
    ("status", "head", "more"),
    [
        (400, b"POST / HTTP/1.1\r\nHost: x\r\n%bContent-Length: many\r\n\r\n", b""),
        (400, b"POST / HTTP/1.1\r\n%bthis is no header\r\n\r\n", b""),
        (413, b"POST / HTTP/1.1\r\nHost: x\r\n%bContent-Length: 99999999\r\n\r\n", b""),
        (
            413,
            b"POST / HTTP/1.1\r\nHost: x\r\n%bTransfer-Encoding: chunked\r\n\r\n",
            b"7d1\r\n" + bytes(2001) + b"\r\n",
        ),
        (431, b"POST / HTTP/1.1\r\nHost: x\r\n%bX: " + b"x" * 20_000 + b"\r\n\r\n", b""),
        (431, b"POST / HTTP/1.1\r\nHost: x\r\nX: " + b"x" * 20_000 + b"\r\n%b\r\n", b""),
        (501, b"POST / HTTP/1.1\r\nHost: x\r\n%bTransfer-Encoding: gzip\r\n\r\n", b""),
        (503, b"POST / HTTP/1.1\r\nHost: x\r\n%bContent-Length: 2000\r\n\r\n", bytes(1800)),
    ],
)
def test_a_page_of_a_named_origin_can_read_why_the_server_refused(
    origin: str | None, status: int, head: bytes, more: bytes
) -> None:
    settings = Settings(
        port=0,
        max_held_bytes=3000,
        max_body_bytes=2000,
        limits=ImageLimits(max_bytes=1000),
        cors_origins=("https://photos.example",),
    )
    server = Server(create_app(FakeCaptioner(), settings), settings, listen(settings))
    address = urlsplit(server.url)
    thread = threading.Thread(target=server.run)
    thread.start()

    def connect() -> socket.socket:
        return socket.create_connection((address.hostname or "", address.port or 0), timeout=120)

    try:
        with connect() as slow, connect() as connection:
            if status == 503:  # another one's body takes the room
                slow.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\n\r\n" + bytes(1500))
                time.sleep(0.3)
            connection.sendall(head % (f"oRIGIN: \t{origin} \r\n".encode() if origin else b"") + more)
            response = http.client.HTTPResponse(connection)
            response.begin()
            response.read()
    finally:
        server.stop()
        thread.join(120)
    assert response.status == status
    assert response.headers.get_all("Vary") == ["Origin"]
    named = origin == "https://photos.example"
    assert response.headers["Access-Control-Allow-Origin"] == (origin if named else None)
    assert (response.headers["Access-Control-Expose-Headers"] or "").startswith("Retry-After" if named else "")


def test_without_named_origins_no_refusal_speaks_of_them() -> None:
    with running(seconds=0) as server, contextlib.closing(server.connect()) as connection:
        connection.connect()
        connection.sock.sendall(
            b"GET / HTTP/1.1\r\nOrigin: https://photos.example\r\nX: " + b"a" * 20_000 + b"\r\n\r\n"
        )
        response = http.client.HTTPResponse(connection.sock)
        response.begin()
        assert response.status == 431
        assert "Vary" not in response.headers
        assert not [name for name in response.headers if name.startswith("Access-Control")]


def test_a_busy_port_is_one_sentence() -> None:
    with contextlib.closing(listen(Settings(port=0))) as taken:
        taken.listen()
        with pytest.raises(ConfigurationError, match="choose another port"):
            listen(Settings(port=taken.getsockname()[1]))


def test_an_unknown_host_is_one_sentence() -> None:
    with pytest.raises(ConfigurationError, match="no address"):
        listen(Settings(host="no such host", no_auth=True))
