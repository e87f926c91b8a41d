"""zip and tar files, read in place: nothing is unpacked to the disk, and names of members are only names here.

Members are listed without reading their contents and read by name, in any order. A few archives stay open between
reads, each with the names and places of its members in memory. Archives inside archives are not opened.

    .zip              stored and deflated members, not encrypted
    .tar              read at a member's place
    .tar.gz and .tgz  unpacked in memory from the start or from one of the marks set on the way (see gzip_file.py)
"""

from __future__ import annotations

import atexit
import stat
import struct
import threading
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from captioner.batch.gzip_file import GzipFile
from captioner.batch.tar import PlainFile, read_index
from captioner.errors import ImageTooLarge, UnreadableImage

ARCHIVE_EXTENSIONS = (".zip", ".tar", ".tar.gz", ".tgz")

_OPEN = 4  # how many archives stay open: a job reads one at a time, and the next is listed meanwhile

# What zipfile raises on damaged files, beside its own: it trusts offsets and lengths.
_ZIP_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    LookupError,
    NotImplementedError,
    OverflowError,
    RuntimeError,
    ValueError,
)


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What an archive holds.

    Attributes:
        members: name and size of each file in it, in the archive's order; each name once.
        links: how many symbolic links are in it.
        repeated: how many members a later one of the same name replaces.
        problem: a sentence on why there may be more members than these; None: these are all.
    """

    members: list[tuple[str, int]]
    links: int
    repeated: int
    problem: str | None


def is_archive(name: str) -> bool:
    """Whether a file is called as archives are."""
    return name.lower().endswith(ARCHIVE_EXTENSIONS)


def list_members(path: str) -> Listing:
    """What the archive at `path` holds; no contents are read, but for those of a .tar.gz, which are passed over.

    Raises:
        UnreadableImage: the archive is gone, may not be read, or is no archive.
    """
    with _opened(path) as archive:
        return archive.listing()


def read_member(path: str, name: str, max_bytes: int) -> bytes:
    """The contents of one member; no more than `max_bytes` are unpacked, whatever size is declared.

    Raises:
        ImageTooLarge: the member has more bytes; known before anything is read if its declared size is true.
        UnreadableImage: the archive or the member is gone, damaged, encrypted or packed in a way that is not read here.
    """
    with _opened(path) as archive:
        data = archive.read(name, max_bytes)
    if len(data) > max_bytes:
        raise _too_many_bytes(max_bytes)
    return data


class _Archive(Protocol):
    def listing(self) -> Listing: ...

    def read(self, name: str, max_bytes: int) -> bytes: ...

    def close(self) -> None: ...


class _Zip:
    def __init__(self, path: str) -> None:
        try:
            self._zip = zipfile.ZipFile(path)
        except _ZIP_DAMAGE as error:
            raise _damaged("zip") from error

    def listing(self) -> Listing:
        links, all_of_them = 0, 0
        members: dict[str, int] = {}
        for info in self._zip.infolist():
            if info.filename.endswith("/"):  # is_dir() fails on a member without a name
                continue
            if stat.S_ISLNK(info.external_attr >> 16):
                links += 1
                continue
            all_of_them += 1
            members[info.filename] = info.file_size
        return Listing(members=list(members.items()), links=links, repeated=all_of_them - len(members), problem=None)

    def read(self, name: str, max_bytes: int) -> bytes:
        try:
            info = self._zip.getinfo(name)
        except KeyError as error:
            raise _gone(name) from error
        if info.flag_bits & 1:
            raise UnreadableImage("The member is encrypted: unpack the archive with its password first.")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise UnreadableImage("The member is packed in a way that is not read here: pack it with deflate, or not.")
        if info.file_size > max_bytes:
            raise _too_many_bytes(max_bytes)
        try:
            with self._zip.open(info) as file:
                return file.read(max_bytes + 1)
        except (*_ZIP_DAMAGE, OSError) as error:
            raise _damaged_member() from error

    def close(self) -> None:
        self._zip.close()


class _Tar:
    def __init__(self, path: str) -> None:
        self._file = GzipFile(path) if path.lower().endswith("gz") else PlainFile(path)
        self._index = read_index(self._file)
        if self._index.problem is not None and not self._index.members:
            self._file.close()
            raise _damaged("tar")

    def listing(self) -> Listing:
        index = self._index
        return Listing(
            members=[(name, size) for name, (_, size) in index.members.items()],
            links=index.links,
            repeated=index.repeated,
            problem=index.problem,
        )

    def read(self, name: str, max_bytes: int) -> bytes:
        if name not in self._index.members:
            raise _gone(name)
        offset, size = self._index.members[name]
        if size > max_bytes:
            raise _too_many_bytes(max_bytes)
        if offset < 0:
            raise UnreadableImage("The member is stored with holes (sparse): make the archive without --sparse.")
        try:
            data = self._file.read_at(offset, size)
        except (OSError, zlib.error) as error:
            raise _damaged_member() from error
        if len(data) != size:
            raise _damaged_member()
        return data

    def close(self) -> None:
        self._file.close()


@dataclass
class _Entry:
    """An archive that may be open; `lock` lets one thread at a time use it."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    archive: _Archive | None = None
    users: int = 0


_Key = tuple[str, int, int, int]  # path, inode, size, time of change: an archive that was replaced is another one
_entries: OrderedDict[_Key, _Entry] = OrderedDict()  # the last one was used last
_entries_lock = threading.Lock()  # guards _entries and the users of each


@contextmanager
def _opened(path: str) -> Iterator[_Archive]:
    """The archive at `path` for this thread alone, opened if it is not open yet."""
    try:
        status = Path(path).stat()
        if not stat.S_ISREG(status.st_mode):  # opening a pipe would wait for a writer for ever
            raise UnreadableImage(f"The archive {path!r} is not a regular file: name an archive.")
        key = (path, status.st_ino, status.st_size, status.st_mtime_ns)
        with _entries_lock:
            entry = _entries.setdefault(key, _Entry())
            _entries.move_to_end(key)
            entry.users += 1
        try:
            with entry.lock:
                if entry.archive is None:
                    entry.archive = _Zip(path) if path.lower().endswith(".zip") else _Tar(path)
                yield entry.archive
        finally:
            with _entries_lock:
                entry.users -= 1
            close_archives(keep=_OPEN)
    except OSError as error:
        raise UnreadableImage(f"The archive {path!r} cannot be read ({error.strerror}): check the path.") from error


def close_archives(keep: int = 0) -> None:
    """Closes the archives that nobody reads at the moment, but for the `keep` that were used last."""
    with _entries_lock:
        idle = [key for key, entry in _entries.items() if entry.users == 0]
        closing = [_entries.pop(key) for key in idle[: max(0, len(idle) - keep)]]
    for entry in closing:
        if entry.archive is not None:
            entry.archive.close()


atexit.register(close_archives)


def _damaged(kind: str) -> UnreadableImage:
    return UnreadableImage(f"The file is no {kind} archive that can be read, or a damaged one: use an intact copy.")


def _damaged_member() -> UnreadableImage:
    return UnreadableImage("The member of the archive is damaged or incomplete: use an intact copy.")


def _gone(name: str) -> UnreadableImage:
    return UnreadableImage(f"The archive has no member {name!r}, or no longer: check the archive.")


def _too_many_bytes(max_bytes: int) -> ImageTooLarge:
    return ImageTooLarge(f"The member has more than {max_bytes:,} bytes, the most allowed: use a smaller one.")
