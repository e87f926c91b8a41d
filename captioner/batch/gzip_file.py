"""A gzip file that is read anywhere in it without unpacking all of it again."""

from __future__ import annotations

import os
import zlib
from bisect import bisect_right
from dataclasses import dataclass
from typing import Protocol

_CHUNK = 16 * 2**10  # packed bytes at a time; deflate makes at most 1,032 times as many of them (zlib's documentation)
_MARKS = 256  # at 40 KiB each
_FIRST_SPACING = 2**20  # unpacked bytes from one mark to the next; doubled whenever there are too many marks
_GZIP = 16 + zlib.MAX_WBITS


class _Inflater(Protocol):
    """What zlib.decompressobj returns: its type has no public name."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, /) -> bytes: ...

    def copy(self) -> _Inflater: ...


@dataclass(frozen=True, slots=True)
class _Mark:
    """A place from which unpacking can go on."""

    unpacked: int  # how many bytes were unpacked before it
    packed: int  # where the packed bytes go on
    inflater: _Inflater | None  # zlib's state; None: a gzip member begins here


class GzipFile:
    """A gzip file on the disk, of one or several gzip members.

    Reading forward unpacks every byte once. On the way, zlib's state is copied every few megabytes, at most 256 times;
    reading backward goes on from the nearest copy. Nothing is written to the disk, and at most 40 MB are held.
    Every method raises zlib.error where the file is damaged and OSError where it breaks off or cannot be read.
    """

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._marks = [_Mark(0, 0, None)]
        self._spacing = _FIRST_SPACING
        self._go_to(self._marks[0])

    def read_at(self, offset: int, size: int) -> bytes:
        mark = self._marks[bisect_right(self._marks, offset, key=lambda mark: mark.unpacked) - 1]
        if offset < self._start or mark.unpacked > self._start + len(self._buffer):
            self._go_to(mark)
        parts = []
        while size > 0:
            begin = offset - self._start
            if begin < len(self._buffer):
                part = self._buffer[begin : begin + size]
                parts.append(part)
                offset += len(part)
                size -= len(part)
            elif not self._advance():
                break
        return b"".join(parts)

    def holds(self, end: int) -> bool:
        return end == 0 or len(self.read_at(end - 1, 1)) == 1

    def read_to_end(self) -> None:
        while self._advance():
            pass  # zlib compares the check sums

    def close(self) -> None:
        os.close(self._descriptor)

    def _go_to(self, mark: _Mark) -> None:
        self._start = mark.unpacked  # of the buffer, in the unpacked file
        self._buffer = b""
        self._packed = mark.packed
        self._inflater = None if mark.inflater is None else mark.inflater.copy()

    def _advance(self) -> bool:
        """Puts the bytes after the buffer into it; False at the end of the file."""
        self._start += len(self._buffer)
        self._buffer = b""
        self._set_mark()
        data = os.pread(self._descriptor, _CHUNK, self._packed)
        self._packed += len(data)
        if not data:
            if self._inflater is not None:
                raise OSError("The gzip file breaks off.")
            return False
        parts = []
        while data:
            if self._inflater is None:
                data = data.lstrip(b"\0")  # between and after members a file may be filled up with zeros
                if not data:
                    break
                self._inflater = zlib.decompressobj(_GZIP)
            parts.append(self._inflater.decompress(data))
            data = b""
            if self._inflater.eof:
                data, self._inflater = self._inflater.unused_data, None
        self._buffer = b"".join(parts)
        return True

    def _set_mark(self) -> None:
        if self._start < self._marks[-1].unpacked + self._spacing:
            return
        if len(self._marks) == _MARKS:
            self._marks = self._marks[::2]
            self._spacing *= 2
        copy = None if self._inflater is None else self._inflater.copy()
        self._marks.append(_Mark(self._start, self._packed, copy))
