"""The content of a picture: what the reader is given, and the digest by which it is known."""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self

from captioner.batch.items import Item
from captioner.images import ImageSource
from captioner.ledger import Entry

_IN_MEMORY_BYTES = 2**20  # a larger file is read by a child of the reader, so that few are held here


class Content(NamedTuple):
    """A picture that is ready to be captioned.

    Attributes:
        entry: as it was planned, with the fingerprint of what was read.
        source: its content or its path.
        digest: of its content.
        status: of a file that is given by its path, before its digest was made; None: it could not be looked at.
    """

    entry: Entry
    source: ImageSource
    digest: bytes
    status: os.stat_result | None

    @classmethod
    def of(cls, item: Item, entry: Entry, max_bytes: int) -> Self:
        """The content of a picture of a job.

        A small file is read here, once, so that what is captioned is what has this digest even if the file changes; of
        a large one the path is given, and `is_still` says afterwards whether it was the same.

        Raises:
            ImageError: the picture cannot be read, or is too large.
        """
        source = item.load(max_bytes)
        if isinstance(source, bytes):
            return cls(entry, source, _digest(source), None)
        # Of what cannot be read the reader says why; no content has the path for its digest.
        unread = cls(entry, source, os.fsencode(source), None)
        try:
            descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe would wait for a writer
            with open(descriptor, "rb", buffering=0) as file:  # noqa: PTH123 (a descriptor)
                # Before it is read: of a file that is changed meanwhile, the next run then sees that it was.
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode):
                    return unread
                # One byte more than there should be: to make room for a megabyte takes longer than the reading does.
                content = file.read(min(status.st_size, _IN_MEMORY_BYTES) + 1)
                while len(content) != status.st_size and len(content) <= _IN_MEMORY_BYTES:
                    more = file.read(_IN_MEMORY_BYTES + 1 - len(content))
                    if not more:
                        break
                    content += more  # some file systems give less than they are asked for, or do not know the size
                if (status.st_size, status.st_mtime_ns) != entry[4:]:
                    entry = entry._replace(size=status.st_size, mtime_ns=status.st_mtime_ns)
                if len(content) <= _IN_MEMORY_BYTES:
                    return cls(entry, content, _digest(content), None)
                digest = hashlib.blake2b(content, digest_size=20)
                while content := file.read(_IN_MEMORY_BYTES):
                    digest.update(content)
        except (OSError, ValueError):
            return unread
        return cls(entry, source, digest.digest(), status)

    def is_still(self) -> bool:
        """Whether what the reader was given is what has the digest: nobody has written to the file since."""
        if isinstance(self.source, bytes):
            return True
        with suppress(OSError):
            now = Path(os.fspath(self.source)).stat()
            if self.status is not None and stat.S_ISREG(now.st_mode):
                return all(
                    getattr(now, name) == getattr(self.status, name)
                    for name in ("st_dev", "st_ino", "st_size", "st_mtime_ns", "st_ctime_ns")
                )
        return False


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=20).digest()
