"""One picture of a job: what it is called, where it lies, and how one sees that it has changed."""

from __future__ import annotations

from typing import NamedTuple

from captioner.batch.archives import read_member
from captioner.images import DEFAULT_LIMITS, ImageSource


class Item(NamedTuple):
    """One picture. A tuple, as nothing else that is frozen is made as quickly: a job may have a million of them.

    Attributes:
        source: names it in every output and message: the path as found below the path that was named; of a member,
            the archive's path, a slash and the member's name without what leads out of a folder ("shard.tar/a/b.jpg").
            Bytes of a name that are no UTF-8 are surrogates, as everywhere in Python.
        path: the file to open; of a member the archive.
        member: the member's own name in the archive, None for a file.
        root: the folder or archive that was named and that it was found below. Of a file that was named itself its
            folder; of one in a list "." or "/", so that the list's folders are kept in a mirrored tree.
        size: bytes; of a member its own, unpacked.
        mtime_ns: when it was changed, in nanoseconds since 1970; of a member the archive's.

    size and mtime_ns are 0 for a file that could not be looked at (a link to nothing, a path in a list where nothing
    is): reading it then gives the reason.
    """

    source: str
    path: str
    member: str | None
    root: str
    size: int
    mtime_ns: int

    @property
    def relative(self) -> str:
        """The source below `root`: where a mirrored tree has it. It leads out of no folder."""
        if self.root == ".":
            return self.source
        return self.source[len(self.root) :].removeprefix("/")

    def load(self, max_bytes: int = DEFAULT_LIMITS.max_bytes) -> ImageSource:
        """What `read_image` and the reader take: the path of a file, the bytes of a member.

        Raises:
            ImageTooLarge: the member has more than `max_bytes`, as it says or as it turns out; no more are unpacked.
            UnreadableImage: the member or its archive is gone, damaged, encrypted or packed in a way not read here.
        """
        return self.path if self.member is None else read_member(self.path, self.member, max_bytes)
