"""What a reading process runs, and how it talks with its parent; no torch, no numpy, so that it starts in a moment.

The process has one socket, its standard input. A request is a kind (bytes or path), a length and that many bytes; the
answer is a kind (pixels or the class of an ImageError), a length and that many bytes. The end of the stream, which
comes as well when the parent is killed, ends the process.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import signal
import struct
import sys

from captioner.errors import ImageError, ImageTooLarge, UnreadableImage, UnsupportedFormat
from captioner.geometry import Geometry
from captioner.images import ImageLimits, read_image

HEADER = struct.Struct("=cQ")  # kind, then the length of what follows in bytes
SHAPE = struct.Struct("=II")  # what pixels begin with: width and height
READY = b"R"
BYTES = b"B"
PATH = b"P"
PATH_ENCODING = ("utf-8", "surrogatepass")  # every str passes, also one that no file can have as its path
PIXELS = b"X"
ERRORS: dict[bytes, type[ImageError]] = {b"U": UnreadableImage, b"F": UnsupportedFormat, b"L": ImageTooLarge}

_SOCKET = 0


def main(configuration: str) -> None:
    """Serve requests until the stream ends.

    Args:
        configuration: JSON with geometry, limits, max_memory_bytes and timeout_seconds.
    """
    # The parent decides when to stop: a terminal's Ctrl-C or an orchestrator's SIGTERM must not cost pictures.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    values = json.loads(configuration)
    geometry = Geometry.from_dict(values["geometry"])
    limits = ImageLimits(**values["limits"])
    _limit_resources(values["max_memory_bytes"])
    _send(READY, b"")
    while (header := _receive(HEADER.size)) is not None:
        kind, length = HEADER.unpack(header)
        payload = _receive(length)
        if payload is None:
            return
        # Should the parent be killed while this picture hangs, nobody is left to end us: the alarm, which has no
        # handler, then does.
        signal.setitimer(signal.ITIMER_REAL, 2 * values["timeout_seconds"])
        answer = _read(payload if kind == BYTES else payload.decode(*PATH_ENCODING), geometry, limits)
        signal.setitimer(signal.ITIMER_REAL, 0)
        _send(*answer)


def _limit_resources(max_memory_bytes: int) -> None:
    _lower(resource.RLIMIT_FSIZE, 0)
    _lower(resource.RLIMIT_CORE, 0)
    if sys.platform != "darwin":  # macOS refuses any limit below the address space that it has already mapped
        _lower(resource.RLIMIT_AS, max_memory_bytes)


def _lower(which: int, value: int) -> None:
    _, hard = resource.getrlimit(which)
    limit = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(which, (limit, limit))


def _read(source: bytes | str, geometry: Geometry, limits: ImageLimits) -> tuple[bytes, bytes]:
    """One answer: its kind, and the shape and pixels (3 bytes each, row by row) or the sentence of the error."""
    try:
        picture = geometry.apply(read_image(source, limits))
        return PIXELS, SHAPE.pack(picture.width, picture.height) + picture.tobytes()
    except ImageError as error:
        kind = next(kind for kind, error_class in ERRORS.items() if isinstance(error, error_class))
        return kind, str(error).encode("utf-8", "backslashreplace")
    except MemoryError:
        return b"U", b"The picture needs more memory than is allowed here: make it smaller."


def _receive(length: int) -> bytes | None:
    """Exactly so many bytes, or None at the end of the stream."""
    data = bytearray(length)
    view = memoryview(data)
    while view:
        count = os.readv(_SOCKET, [view])
        if count == 0:
            return None
        view = view[count:]
    return bytes(data)


def _send(kind: bytes, payload: bytes) -> None:
    view = memoryview(HEADER.pack(kind, len(payload)) + payload)
    while view:
        try:
            view = view[os.write(_SOCKET, view) :]
        except BrokenPipeError:  # the parent has gone; the next read sees the end of the stream
            return
