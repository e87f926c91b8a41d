"""One reading process as its parent sees it: start it, talk with it before a deadline, and leave nothing behind.

The pixels come over the same socket as the question: for a picture of 224 x 224 that costs less than 0.1 ms, so shared
memory, which needs names and someone to tidy them up, would gain nothing. Unix only: the socket and the limits are.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from captioner.errors import CaptionerError
from captioner.geometry import Geometry
from captioner.images import ImageSource
from captioner.reader_child import BYTES, ERRORS, HEADER, PATH, PATH_ENCODING, PIXELS, READY, SHAPE

Pixels = NDArray[np.uint8]

_START_SECONDS = 60.0  # starting takes 0.1 s on an idle machine; this only ends what will never start
_MAX_MESSAGE_BYTES = 2**16  # a longer sentence does not come from a healthy child
_DYING_SECONDS = 1.0  # from the end of its stream to the end of a process

# -I and -S keep the environment, the working directory and .pth files out; the parent's path says where all lies.
_BOOTSTRAP = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
    "from captioner.reader_child import main; main(sys.argv[2])"
)


class ChildLost(Exception):
    """The child crashed, was late or talked nonsense, and is dead now; the text says which."""


class Child:
    """One reading process and our end of its socket; used by one thread, save for `kill` and `pid`."""

    def __init__(self, configuration: str) -> None:
        path = [str(Path(entry).absolute()) for entry in sys.path if entry]
        path.append(str(Path(__file__).resolve().parent.parent))
        # The same file name encoding as here, whatever the environment says.
        command = [sys.executable, "-I", "-S", "-X", f"utf8={sys.flags.utf8_mode}", "-c", _BOOTSTRAP]
        with ExitStack() as undo:
            try:
                self._socket, theirs = socket.socketpair()
                undo.enter_context(self._socket)
                with theirs:
                    self._process = subprocess.Popen(
                        [*command, json.dumps(path), configuration],
                        stdin=theirs.fileno(),
                        stdout=subprocess.DEVNULL,
                        stderr=subprocess.DEVNULL,  # decoders print what a stranger's file says
                        cwd="/",
                        process_group=0,  # out of reach of the terminal's Ctrl-C even before it can ignore it
                    )
            except OSError as error:
                raise CaptionerError(f"A reading process cannot be started ({error}): free some resources.") from error
            undo.pop_all()  # started: nothing to undo
        self._ready = False

    @property
    def pid(self) -> int:
        return self._process.pid

    def is_alive(self) -> bool:
        return self._process.poll() is None

    def kill(self) -> None:
        self._process.kill()

    def stop(self) -> None:
        """Kill it if it lives, and leave nothing behind."""
        self._process.kill()
        self._process.wait()
        self._socket.close()

    def wait_until_ready(self) -> None:
        """Return once the child listens; ChildLost if it never will."""
        if not self._ready:
            with self._losing(_START_SECONDS) as deadline:
                kind, _ = self._header(deadline)
                if kind != READY:
                    raise ChildLost("its process gave a wrong answer")
            self._ready = True

    def read(self, source: ImageSource, geometry: Geometry, max_bytes: int, timeout_seconds: float) -> Pixels:
        """uint8 (H, W, 3); an ImageError of the picture; or ChildLost, and then this child is of no more use."""
        with self._losing(timeout_seconds) as deadline:
            self._send(source, max_bytes, deadline)
            kind, length = self._header(deadline)
            # A hostile file may own the child: believe nothing.
            if kind == PIXELS:
                shape = bytearray(SHAPE.size)
                self._receive_into(memoryview(shape), deadline)
                width, height = SHAPE.unpack(shape)
                if not geometry.may_give(width, height) or length != SHAPE.size + width * height * 3:
                    raise ChildLost("its process gave a wrong answer")
                pixels = np.empty((height, width, 3), dtype=np.uint8)
                self._receive_into(pixels.data.cast("B"), deadline)
                return pixels
            if kind not in ERRORS or length > _MAX_MESSAGE_BYTES:
                raise ChildLost("its process gave a wrong answer")
            message = bytearray(length)
            self._receive_into(memoryview(message), deadline)
        raise ERRORS[kind](message.decode("utf-8", "replace"))

    @contextmanager
    def _losing(self, timeout_seconds: float) -> Iterator[float]:
        """Gives the deadline of a conversation; if it fails, in whatever way, the child is dead afterwards."""
        try:
            yield time.monotonic() + timeout_seconds
        except TimeoutError:
            self.stop()
            raise ChildLost(f"it took longer than {timeout_seconds:g} seconds") from None
        except OSError:  # the connection broke: the child is dead, or about to be
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_DYING_SECONDS)
            self.stop()
            code = self._process.returncode
            cause = signal.strsignal(-code) if code < 0 else f"exit code {code}"
            raise ChildLost(f"its process ended: {cause}") from None
        except BaseException:
            self.stop()
            raise

    def _send(self, source: ImageSource, max_bytes: int, deadline: float) -> None:
        if isinstance(source, bytes):
            # One byte too many is enough for the child to refuse the picture.
            kind, payload = BYTES, memoryview(source)[: max_bytes + 1]
        else:
            kind, payload = PATH, memoryview(os.fsdecode(source).encode(*PATH_ENCODING))
        for part in (HEADER.pack(kind, len(payload)), payload):
            self._socket.settimeout(_left(deadline))
            self._socket.sendall(part)

    def _header(self, deadline: float) -> tuple[bytes, int]:
        header = bytearray(HEADER.size)
        self._receive_into(memoryview(header), deadline)
        kind, length = HEADER.unpack(header)
        return kind, length

    def _receive_into(self, view: memoryview, deadline: float) -> None:
        while view:
            self._socket.settimeout(_left(deadline))
            count = self._socket.recv_into(view)
            if count == 0:
                raise ConnectionResetError
            view = view[count:]


def _left(deadline: float) -> float:
    """The seconds until then; TimeoutError if there are none (a socket takes 0 for: do not wait at all)."""
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
