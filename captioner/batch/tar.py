"""Where the members of a tar lie: their headers are read, their contents are passed over.

The formats are POSIX ustar and pax (IEEE Std 1003.1, pax, "ustar Interchange Format") and GNU's. The standard
library's tarfile keeps an object of a kilobyte for each member and reads ten times as long.
"""

from __future__ import annotations

import os
import zlib
from dataclasses import dataclass, field
from typing import Protocol

_BLOCK = 512
_MAX_HEADER_BYTES = 2**20  # of a long name or of pax records: a path has 4,096 bytes at most
_WITHOUT_CONTENTS = b"123456"  # types: hard link, symbolic link, two kinds of device, folder, pipe
_NOT_A_TAR = "The file is no tar archive that can be read, or a damaged one: use an intact copy."
_INCOMPLETE = "The archive breaks off or is damaged, and members may be missing: use an intact copy."


class RandomAccess(Protocol):
    """A file of bytes that are read anywhere in it."""

    def read_at(self, offset: int, size: int) -> bytes:
        """`size` bytes from `offset` on, fewer at the end of the file."""

    def holds(self, end: int) -> bool:
        """Whether the file has at least `end` bytes."""

    def read_to_end(self) -> None:
        """Reads what is left, if that shows damage that is not seen otherwise."""

    def close(self) -> None:
        """Ends the use of the file."""


class PlainFile:
    """A file on the disk."""

    def __init__(self, path: str) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._size = os.fstat(self._descriptor).st_size

    def read_at(self, offset: int, size: int) -> bytes:
        data = os.pread(self._descriptor, size, offset)
        while 0 < len(data) < size:  # a network file system may return less
            more = os.pread(self._descriptor, size - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def holds(self, end: int) -> bool:
        return end <= self._size

    def read_to_end(self) -> None:
        pass  # a tar has no check sum of contents

    def close(self) -> None:
        os.close(self._descriptor)


@dataclass(kw_only=True)
class TarIndex:
    """Attributes:
    members: of each regular file its name, the offset of its contents and its size; a negative offset for a member
        that is stored with holes. A hard link has the place of what it links to. In the order of the archive.
    links, repeated, problem: as in `Listing`.
    """

    members: dict[str, tuple[int, int]] = field(default_factory=dict)
    links: int = 0
    repeated: int = 0
    problem: str | None = None


def read_index(file: RandomAccess) -> TarIndex:
    """Where the members of the tar `file` lie. Damage ends the reading and is told in `problem`; nothing is raised."""
    index = TarIndex()
    try:
        _read_headers(file, index)
    except (_DamagedError, OSError, zlib.error):
        index.problem = _INCOMPLETE if index.members else _NOT_A_TAR
    return index


class _DamagedError(Exception):
    """This is no header of a tar, or the file breaks off."""


def _read_headers(file: RandomAccess, index: TarIndex) -> None:
    offset = 0
    common: dict[str, bytes] = {}  # pax records for all members that follow
    own: dict[str, bytes] = {}  # pax records and long names for the next member
    while True:
        header = file.read_at(offset, _BLOCK)
        if header == bytes(_BLOCK):
            file.read_to_end()
            return
        # Without a mark of its end, a tar that was cut between two members looks like a whole one.
        if len(header) < _BLOCK or not _is_header(header):
            raise _DamagedError
        kind, size, offset = header[156:157], _number(header[124:136]), offset + _BLOCK
        if kind in (b"x", b"X", b"g", b"L", b"K"):
            contents = _contents(file, offset, size)
            if kind in (b"L", b"K"):
                own["path" if kind == b"L" else "linkpath"] = contents.split(b"\0", 1)[0]
            else:
                (common if kind == b"g" else own).update(_pax_records(contents))
            offset += _padded(size)
            continue
        records = {**common, **own} if own or common else own
        own = {}
        size = _decimal(records["size"]) if "size" in records else size
        stored = 0 if kind in _WITHOUT_CONTENTS else size
        if stored and not file.holds(offset + stored):
            raise _DamagedError
        if kind == b"S" and header[482]:
            offset += _more_sparse_headers(file, offset)
        _add(index, header, records, offset, size)
        offset += _padded(stored)


def _add(index: TarIndex, header: bytes, records: dict[str, bytes], offset: int, size: int) -> None:
    kind = header[156:157]
    name = records["path"] if "path" in records else _name(header)
    if kind == b"2":
        index.links += 1
        return
    if kind == b"1":
        target = _text(records.get("linkpath", header[157:257].split(b"\0", 1)[0]))
        if target not in index.members:
            index.links += 1
            return
        place = index.members[target]
    elif kind == b"S":
        place = (-1, _number(header[483:495]))
    elif any(key.startswith("GNU.sparse.") for key in records):
        place = (-1, _decimal(records.get("GNU.sparse.realsize", records.get("GNU.sparse.size", b"0"))))
    # a program that does not know a type treats it as a regular file, says the standard; but a name that ends with a
    # slash is that of a folder, in tars older than the type for folders
    elif kind not in _WITHOUT_CONTENTS and not name.endswith(b"/"):
        place = (offset, size)
    else:
        return
    text = _text(records.get("GNU.sparse.name", name))
    if text in index.members:
        index.repeated += 1
    index.members[text] = place


def _is_header(header: bytes) -> bool:
    """Whether the check sum, of signed or unsigned bytes with its own field blank, is right."""
    declared = _number(header[148:156])
    unsigned = sum(header) - sum(header[148:156]) + 8 * ord(" ")
    if declared == unsigned:
        return True
    high = sum(byte > 127 for byte in header[:148]) + sum(byte > 127 for byte in header[156:])
    return declared == unsigned - 256 * high


def _number(field_: bytes) -> int:
    """A number of a header: octal digits, or GNU's base 256 after a byte 0x80 (positive; negative is refused)."""
    if field_[0] == 0x80:
        return int.from_bytes(field_[1:], "big")
    digits = field_.split(b"\0", 1)[0].strip()
    if digits.translate(None, b"01234567"):
        raise _DamagedError
    return int(digits or b"0", 8)


def _name(header: bytes) -> bytes:
    name = header[:100].split(b"\0", 1)[0]
    if header[257:263] == b"ustar\0":  # GNU's own format has other things in the place of the prefix
        prefix = header[345:500].split(b"\0", 1)[0]
        return prefix + b"/" + name if prefix else name
    return name


def _contents(file: RandomAccess, offset: int, size: int) -> bytes:
    if size > _MAX_HEADER_BYTES:
        raise _DamagedError
    contents = file.read_at(offset, size)
    if len(contents) < size:
        raise _DamagedError
    return contents


def _pax_records(contents: bytes) -> dict[str, bytes]:
    """Of records "LENGTH KEY=VALUE\\n", the value of each key; the length counts the whole record."""
    records: dict[str, bytes] = {}
    while contents.strip(b"\0"):
        length, blank, _ = contents.partition(b" ")
        end = _decimal(length)
        key, equals, value = contents[len(length) + 1 : end - 1].partition(b"=")
        if not blank or not equals or end > len(contents) or contents[end - 1 : end] != b"\n":
            raise _DamagedError
        records[_text(key)] = value
        contents = contents[end:]
    return records


def _decimal(digits: bytes) -> int:
    if not digits.isdigit() or len(digits) > 20:
        raise _DamagedError
    return int(digits)


def _more_sparse_headers(file: RandomAccess, offset: int) -> int:
    """How many bytes of further headers follow that of a sparse member in GNU's old format."""
    length = 0
    while True:
        header = file.read_at(offset + length, _BLOCK)
        if len(header) < _BLOCK:
            raise _DamagedError
        length += _BLOCK
        if not header[504]:
            return length


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")
