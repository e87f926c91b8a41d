"""Output files that are whole or absent: written beside their place and renamed when they are complete."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from captioner.errors import OutputError

# What UTF-8 cannot hold (an undecodable byte of a file name) is written as the escape that JSON has for it.
UNENCODABLE = "backslashreplace"

_MAX_NAME_BYTES = 240  # of a file's name, so that the name of its partial file stays within the usual 255
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)
_NO_FOLDER_SYNC = (errno.EACCES, errno.EBADF, errno.EINVAL, errno.ENOTSUP)


class WholeBinaryFile:
    """A file that appears at its path when the `with` block ends well; until then, what was there stays.

    If the block raises (Ctrl-C included), nothing is left behind. If the process is killed, its partial file stays
    (`.NAME.part`) until somebody writes to the same path, which begins it anew. The content is on the disk before the
    name, and the name before the block has ended. The permissions of a file that is replaced are kept; a link stays and
    the file that it names is replaced; a device or a pipe is written directly.
    Every method raises OutputError, with one sentence, if the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        """Open the file beside `path`, so that a folder that cannot be written is noticed before any work is done."""
        self._path = path
        self._target = Path(os.path.realpath(path))
        # /dev/stdout may lead to a file, which is open in other hands and must not be replaced.
        self._direct = path.is_relative_to("/dev") or (self._target.exists() and not self._target.is_file())
        self._partial = partial_path(self._target)
        with _refusals(path):
            if self._direct:
                self._file: BinaryIO = os.fdopen(_device(path), "wb", 0)  # unbuffered: somebody may be reading along
            else:
                self._file = os.fdopen(_claim(self._partial, path), "wb")

    def write(self, data: bytes) -> int:
        """Append `data`; returns its length, as a file does."""
        with _refusals(self._path):
            rest = memoryview(data)
            while rest:  # a pipe may take less than it is given
                rest = rest[self._file.write(rest) :]
        return len(data)

    def flush(self) -> None:
        """Nothing: writers of formats ask for it, and what is flushed early is not complete yet."""

    @property
    def closed(self) -> bool:
        """Whether the block has ended."""
        return self._file.closed

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with _refusals(self._path):
            if self._direct:
                self._file.close()
                return
            published = False
            try:
                if kind is None:
                    self._file.flush()
                    publish(self._partial, self._target)
                    published = True
            finally:
                self._discard(published)

    def _discard(self, published: bool) -> None:
        """Close, which may fail again on a full disk, and remove what was not published while it is still locked."""
        try:
            if not published:
                self._partial.unlink(missing_ok=True)
        finally:
            self._file.close()


class WholeTextFile(WholeBinaryFile):
    """The same for text: UTF-8, lines end as they are given, UNENCODABLE for what cannot be encoded."""

    def write(self, text: str) -> int:  # type: ignore[override]  # a text file takes text, as in the standard library
        """Append `text`; returns the number of its characters."""
        super().write(text.encode("utf-8", UNENCODABLE))
        return len(text)


def write_whole(path: Path, data: bytes) -> None:
    """Put `data` at `path`, whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    with WholeBinaryFile(path) as file:
        file.write(data)


def partial_path(target: Path) -> Path:
    """Where a file is written that will be `target`: hidden, in the same folder, and the same for every attempt."""
    name = target.name
    if len(os.fsencode(name)) > _MAX_NAME_BYTES:
        name = sha256(os.fsencode(name)).hexdigest()
    return target.with_name(f".{name}.part")


def publish(partial: Path, target: Path) -> None:
    """Give a complete file its name, with the permissions of the one that it replaces; all of it reaches the disk.

    Raises:
        OSError: it cannot.
    """
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    if target.exists():
        shutil.copymode(target, partial)
    partial.replace(target)
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Names that were given or taken away in `folder` reach the disk, on file systems that can promise it.

    Raises:
        OSError: the disk failed.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise


def _device(path: Path) -> int:
    """A descriptor of a device or a pipe. What it leads to is never emptied: that is whoever redirected it to decide.

    One that this process has open already is not opened anew, which would begin at the start of what others wrote.
    """
    name = str(path)
    number = {"/dev/stdout": 1, "/dev/stderr": 2}.get(name)
    if number is None and (match := re.fullmatch(r"/dev/fd/([0-9]+)", name)):
        number = int(match[1])
    return os.open(path, os.O_WRONLY) if number is None else os.dup(number)


def _claim(partial: Path, path: Path) -> int:
    """A descriptor of the partial file, empty and locked: two processes must not write one file at a time."""
    while True:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            _lock(descriptor, path)
            # Between opening and locking, another process may have given the file its name and let go of it.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), partial.lstat()):
                    os.ftruncate(descriptor, 0)
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise OutputError(f"{path} is being written by somebody else: wait, or write to another file.") from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:  # some network file systems have none
            raise


@contextmanager
def _refusals(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path} could not be written: {error.strerror or error}.") from error
