"""Files of very many pieces: small ones that a decoder would work on for long, and large ones of nothing."""

from __future__ import annotations

import io
import struct
import zlib

from PIL import Image


def progressive_jpeg(scans: int, side: int = 64) -> bytes:
    """A whole progressive JPEG with exactly so many scans, at least as many as Pillow writes (10)."""
    stream = io.BytesIO()
    Image.new("RGB", (side, side), "teal").save(stream, "JPEG", progressive=True)
    data = stream.getvalue()
    last, end = data.rindex(b"\xff\xda"), data.rindex(b"\xff\xd9")
    return data[:end] + data[last:end] * (scans - data.count(b"\xff\xda")) + data[end:]


def jpeg_with(segments: bytes) -> bytes:
    """A baseline JPEG that begins with these segments."""
    stream = io.BytesIO()
    Image.new("RGB", (64, 64), "teal").save(stream, "JPEG")
    data = stream.getvalue()
    return data[:2] + segments + data[2:]


def segment(content: bytes = b"", marker: int = 0xE5) -> bytes:
    """A segment of a JPEG, by default one of an application that nobody knows."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def chunk(name: bytes, content: bytes = b"") -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png_with(chunks: bytes, behind: bytes = b"") -> bytes:
    """A PNG with these chunks before its pixels, and `behind` its end."""
    stream = io.BytesIO()
    Image.new("RGB", (64, 64), "teal").save(stream, "PNG")
    data = stream.getvalue()
    return data[:33] + chunks + data[33:] + behind  # 8 bytes of signature and 25 of the header


def striped_tiff(rows: int, *, order: str = "<", big: bool = False) -> bytes:
    """A grey TIFF one pixel wide whose every row is a strip, all of them the same byte."""
    word, head = ("Q", 16) if big else ("I", 8)
    size = struct.calcsize(word)
    signature = {"<": b"II", ">": b"MM"}[order] + struct.pack(order + "H", 43 if big else 42)
    signature += struct.pack(order + "HHQ", 8, 0, head + size * rows) if big else b""
    signature += b"" if big else struct.pack(order + "I", head + size * rows)
    # Tag, type (3 short, 4 long, 16 long of BigTIFF), count, value: the strips' bytes and lengths are not packed.
    long = 16 if big else 4
    entries = [
        (256, long, 1, 1),
        (257, long, 1, rows),
        (258, long, 1, 8),
        (259, long, 1, 1),
        (262, long, 1, 1),
        (273, long, rows, head),
        (277, long, 1, 1),
        (278, long, 1, 1),
    ]
    directory = struct.pack(order + ("Q" if big else "H"), len(entries))
    directory += b"".join(struct.pack(f"{order}HH{word}{word}", *entry) for entry in entries) + bytes(size)
    return signature + struct.pack(order + word, head) * rows + directory
