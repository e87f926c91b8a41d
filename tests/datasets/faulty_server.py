"""A small HTTP server for the tests of downloads: it serves a folder with ranges, and does wrong what it is told to."""

from __future__ import annotations

import hashlib
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Faults:
    """What the server does wrong, and what it was asked for.

    Attributes:
        cut_after: cut each connection after so many bytes of a body; None: never.
        extra_length: by how much the announced length is too large.
        lengths: whether the length of a body is announced.
        ranges: whether ranges are known.
        validators: whether an ETag is sent.
        statuses: the next answers, in place of the file.
        requests: the method, the path and the Range of each request.
    """

    cut_after: int | None = None
    extra_length: int = 0
    lengths: bool = True
    ranges: bool = True
    validators: bool = True
    statuses: list[int] = field(default_factory=list)
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)

    @property
    def ranges_asked(self) -> list[str | None]:
        """The Range of each GET."""
        return [asked for method, _, asked in self.requests if method == "GET"]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    folder: Path
    faults: Faults

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Nothing."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        faults, file = self.faults, self.folder / self.path.lstrip("/")
        faults.requests.append((self.command, self.path, self.headers.get("Range")))
        status = faults.statuses.pop(0) if faults.statuses else 200 if file.is_file() else 404
        if status != 200:
            self._send(status, b"", {})
            return
        content = file.read_bytes()
        tag = f'"{hashlib.sha256(content).hexdigest()}"'
        headers = {"ETag": tag} if faults.validators else {}
        total = len(content) + faults.extra_length
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        if asked is None or not faults.ranges or self.headers.get("If-Range") not in (None, tag):
            self._send(200, content, headers)
        elif (start := int(asked[1])) < len(content):
            self._send(206, content[start:], {**headers, "Content-Range": f"bytes {start}-{total - 1}/{total}"})
        else:
            self._send(416, b"", {"Content-Range": f"bytes */{total}"})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        faults = self.faults
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        extra = faults.extra_length if content else 0
        if faults.lengths or not content:
            self.send_header("Content-Length", str(len(content) + extra))
        self.end_headers()
        if self.command == "HEAD" or not content:
            return
        kept = content[: faults.cut_after]
        self.wfile.write(kept)
        if not faults.lengths or extra or len(kept) < len(content):
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True


@contextmanager
def serve(folder: Path, faults: Faults) -> Iterator[str]:
    """The address of a server of `folder` on this machine."""
    handler = type("Handler", (_Handler,), {"folder": folder, "faults": faults})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
