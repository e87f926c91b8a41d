"""Twelve small files that would be enormous, or endless, if they were believed; all of them must be refused."""

from __future__ import annotations

import io
import struct
import zlib

from PIL import Image


def bombs() -> dict[str, bytes]:
    """Each under a name that says what it does."""
    return {
        "PNG of 169 million pixels in 1 bit": _png(13_000, 13_000, 1, 0, _zeros(13_000 * (1 + 13_000 // 8 + 1))),
        "PNG of 88 million pixels in 32 bits": _png(9_400, 9_400, 8, 6, _zeros(9_400 * (1 + 4 * 9_400))),
        "PNG of 2147483647 pixels squared": _png(2**31 - 1, 2**31 - 1, 8, 6, zlib.compress(b"")),
        "PNG with 1 GB of text": _png(
            64, 64, 8, 2, _zeros(64 * 193), before=[(b"zTXt", b"Comment\0\0" + _zeros(10**9))]
        ),
        "PNG with 1 GB of colour profile": _png(
            64, 64, 8, 2, _zeros(64 * 193), before=[(b"iCCP", b"profile\0\0" + _zeros(10**9))]
        ),
        "APNG of 100000 frames of 169 million pixels": _apng(13_000, 100_000),
        "GIF of 65535 pixels squared in 20000 frames": _gif(65_535, 20_000),
        "BMP of a billion pixels": _bmp(32_000),
        "TIFF of a billion pixels in one strip": _tiff(32_000),
        "WebP of 16383 pixels squared": _webp(16_383),
        "JPEG of 65500 pixels squared": _jpeg(65_500),
        "ICO that says 1 and holds 169 million pixels": _ico(13_000),
    }


def _zeros(length: int) -> bytes:
    """So many zeros, compressed. RFC 1950 and 1951: blocks that refer to nothing before them may be repeated."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = compressor.compress(bytes(2**20)) + compressor.flush(zlib.Z_FULL_FLUSH)
    rest = compressor.compress(bytes(length % 2**20)) + compressor.flush()
    adler32 = (length % 65521) << 16 | 1
    return b"\x78\xda" + block * (length // 2**20) + rest + struct.pack(">I", adler32)


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def _png(
    width: int, height: int, depth: int, colour: int, data: bytes, before: list[tuple[bytes, bytes]] | None = None
) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), *(before or []), (b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)


def _apng(side: int, frames: int) -> bytes:
    row = _zeros(side * (1 + side // 8 + 1))
    control = [
        (b"acTL", struct.pack(">II", frames, 0)),
        (b"fcTL", struct.pack(">IIIIIHHBB", 0, side, side, 0, 0, 1, 100, 0, 0)),
    ]
    return _png(side, side, 1, 0, row, before=control)


def _gif(side: int, frames: int) -> bytes:
    frame = b"\x21\xf9\x04\x00\x00\x00\x00\x00," + struct.pack("<HHHHB", 0, 0, side, side, 0) + b"\x02\x02\x4c\x01\x00"
    palette = bytes(3) + b"\xff\xff\xff"
    return b"GIF89a" + struct.pack("<HHBBB", side, side, 0x80, 0, 0) + palette + frame * frames + b";"


def _bmp(side: int) -> bytes:
    return b"BM" + struct.pack("<IIIIiiHHIIiiII", 58, 0, 54, 40, side, side, 1, 24, 0, 0, 0, 0, 0, 0)


def _tiff(side: int) -> bytes:
    strip = _zeros(2**20)
    # Tag, type (3 short, 4 long), count, value: size, bits, deflate, black is zero, where the strip is, one strip.
    entries = [
        (256, 4, side),
        (257, 4, side),
        (258, 3, 8),
        (259, 3, 8),
        (262, 3, 1),
        (273, 4, 8),
        (277, 3, 1),
        (278, 4, side),
        (279, 4, len(strip)),
    ]
    directory = struct.pack("<H", len(entries))
    directory += b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(strip)) + strip + directory


def _webp(side: int) -> bytes:
    size = struct.pack("<I", side - 1)[:3]
    content = b"WEBPVP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + 2 * size + b"ANIM" + struct.pack("<I", 6) + bytes(6)
    return b"RIFF" + struct.pack("<I", len(content)) + content


def _jpeg(side: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, "JPEG")
    return file.getvalue().replace(struct.pack(">HH", 64, 64), struct.pack(">HH", side, side), 1)


def _ico(side: int) -> bytes:
    picture = _png(side, side, 1, 0, _zeros(side * (1 + side // 8 + 1)))
    return struct.pack("<HHH", 0, 1, 1) + struct.pack("<BBBBHHII", 1, 1, 0, 0, 1, 1, len(picture), 22) + picture
