"""How many pieces a file is made of, counted before a decoder sees it.

A decoder works for every piece, however small. A JPEG of 0.1 MB whose 300 scans each go over the whole picture, or a
file of a few megabytes of empty segments, chunks or strips, takes longer than a hundred honest photos. The walk follows
the lengths that the container states, as the decoders do: what lies inside a segment or in entropy-coded data cannot
fool it. A container that is broken is left to its decoder.
"""

from __future__ import annotations

import re
from typing import Literal

from captioner.errors import UnreadableImage

# Honest progressive pictures have about 10 scans. libtiff stops at 100 as well (tif_jpeg.c,
# LIBTIFF_JPEG_MAX_ALLOWED_SCAN_NUMBER); so many of them over 50 million pixels take about 4 s of processor time.
MAX_SCANS = 100
# Segments, chunks or strips: 20 MB in chunks of 8 KB are 2,500, and Pillow takes up to 5 microseconds for each.
MAX_PIECES = 100_000

# ISO/IEC 10918-1, B.1.1: in entropy-coded data FF is followed by 00, by the number of a restart (D0 to D7), or by
# another FF, which fills. 01 and the restarts have no length.
_JPEG_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd7\xff])")
_START_OF_SCAN = b"\xda"
_END_OF_IMAGE = b"\xd9"
_STRIP_OFFSETS, _TILE_OFFSETS = 273, 324  # TIFF 6.0, sections 8 and 15


def check_pieces(data: bytes, format_name: str) -> None:
    """Refuse a file of too many pieces.

    Args:
        data: the file.
        format_name: as `formats.recognise` names it. Of those that are not named here 20 MB in the smallest pieces
            take 0.1 s (WebP) to 5 s (BMP in runs) of processor time.

    Raises:
        UnreadableImage: more than MAX_SCANS scans or MAX_PIECES other pieces.
    """
    if format_name == "JPEG":
        _check_jpeg(data)
    elif format_name == "PNG":
        _check_png(data)
    elif format_name == "TIFF":
        _check_tiff(data)


def _check_jpeg(data: bytes) -> None:
    """Of the first picture: those behind its end are not read."""
    position, scans, pieces = 2, 0, 0
    while pieces <= MAX_PIECES:
        marker = _JPEG_MARKER.search(data, position)
        if scans == 0:  # Pillow goes through what lies between two segments byte by byte
            pieces += (len(data) if marker is None else marker.start()) - position
        if marker is None or marker[1] == _END_OF_IMAGE:
            break
        pieces += 1
        scans += marker[1] == _START_OF_SCAN
        if scans > MAX_SCANS:
            raise _too_many("JPEG", f"{MAX_SCANS} scans")
        position = marker.end() + _number(data, marker.end(), 2)
    if pieces > MAX_PIECES:
        raise _too_many("JPEG", f"{MAX_PIECES:,} segments")


def _check_png(data: bytes) -> None:
    """PNG, 5.3: the length of what a chunk holds, its name, that, and four bytes of a checksum."""
    position = 8
    for _ in range(MAX_PIECES + 1):
        if position >= len(data) or data[position + 4 : position + 8] == b"IEND":
            return
        position += 12 + _number(data, position, 4)
    raise _too_many("PNG", f"{MAX_PIECES:,} chunks")


def _check_tiff(data: bytes) -> None:
    """Of the first page: its directory, and how many strips or tiles that tells of. TIFF 6.0, section 2; BigTIFF."""
    order: Literal["little", "big"] = "little" if data.startswith(b"II") else "big"
    is_big = _number(data, 2, 2, order) == 43
    word, head = (8, 8) if is_big else (4, 2)  # bytes of an offset, and of the number of entries
    directory = _number(data, 8 if is_big else 4, word, order)
    entries = _number(data, directory, head, order)
    if entries > MAX_PIECES:
        raise _too_many("TIFF", f"{MAX_PIECES:,} entries")
    for entry in range(entries):
        # Tag and type, 2 bytes each, how many values, and these or where they are.
        start = directory + head + entry * (4 + 2 * word)
        tag = _number(data, start, 2, order)
        if tag in (_STRIP_OFFSETS, _TILE_OFFSETS) and _number(data, start + 4, word, order) > MAX_PIECES:
            raise _too_many("TIFF", f"{MAX_PIECES:,} strips or tiles")


def _number(data: bytes, start: int, length: int, order: Literal["little", "big"] = "big") -> int:
    """So many bytes as a whole number; bytes beyond the end of the file count as absent."""
    return int.from_bytes(data[start : start + length], order)


def _too_many(format_name: str, most: str) -> UnreadableImage:
    return UnreadableImage(
        f"The {format_name} picture is made of more than {most}, which takes too long to read: save it again."
    )
