"""What a search for pictures came across besides pictures, so that a summary can tell of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Skip = Literal["hidden", "excluded", "other_files", "archives", "links", "repeated"]


@dataclass(frozen=True, kw_only=True)
class SourceFailure:
    """A folder or an archive that could not be listed, or not to its end.

    Attributes:
        source: its path.
        reason: a sentence that says what was wrong and what to do.
    """

    source: str
    reason: str


@dataclass(kw_only=True)
class Survey:
    """Counts what a search leaves out; complete when the search has ended.

    Attributes:
        hidden: files and folders whose name begins with a full stop; nobody looks into such a folder.
        excluded: files and folders that an exclude pattern matches; nobody looks into such a folder.
        other_files: files without a picture's extension, or that no include pattern matches; pipes and devices.
        archives: zip and tar files in folders: one is read where it is named or where an include pattern matches it.
        links: links to folders that were not followed, and symbolic links in archives.
        repeated: pictures that were named or found more than once, and members that a later one of their name replaces.
        failures: what could not be listed, in the order of discovery.
    """

    hidden: int = 0
    excluded: int = 0
    other_files: int = 0
    archives: int = 0
    links: int = 0
    repeated: int = 0
    failures: list[SourceFailure] = field(default_factory=list)

    def skip(self, what: Skip, count: int = 1) -> None:
        """Counts `count` more of `what`."""
        setattr(self, what, getattr(self, what) + count)

    def fail(self, source: str, reason: str) -> None:
        """Keeps a folder or an archive that could not be listed."""
        self.failures.append(SourceFailure(source=source, reason=reason))
