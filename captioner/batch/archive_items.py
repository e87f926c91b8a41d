"""The pictures in an archive as items of a job."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from captioner.batch.archives import list_members
from captioner.batch.items import Item
from captioner.batch.selection import Selection
from captioner.batch.survey import Survey
from captioner.errors import ImageError


def items_in_archive(
    path: str, root: str, selection: Selection, survey: Survey, *, included: bool = False
) -> Iterator[Item]:
    """The members of an archive that are pictures, sorted by source; their names and places are held meanwhile.

    An archive that is damaged becomes a failure of `survey`; the members that can be told apart come all the same. Two
    members of one name are one picture, the later one: unpacking would leave that.

    Args:
        path: the archive.
        root: what was named: the archive itself, or a folder that it lies below.
        included: whether an include pattern matches the archive or a folder above it.
    """
    try:
        modified = Path(path).stat().st_mtime_ns
        listing = list_members(path)
    except ImageError as error:
        survey.fail(path, str(error))
        return
    except OSError as error:
        survey.fail(path, f"The archive cannot be read: {error.strerror}.")
        return
    if listing.problem is not None:
        survey.fail(path, listing.problem)
    survey.skip("links", listing.links)
    survey.skip("repeated", listing.repeated)
    archive = Item(f"{path}/", path, None, root, 0, 0)
    below = archive.relative  # what patterns see before a member's name: nothing, or the archive below the folder
    found: dict[str, tuple[str, int]] = {}
    for member, size in listing.members:
        name = _inside(member)
        reason = selection.skips(below + name, included=included) if name else "other_files"
        if reason is not None:
            survey.skip(reason)
            continue
        if name in found:
            survey.skip("repeated")
        found[name] = (member, size)
    for name, (member, size) in sorted(found.items()):
        yield Item(f"{path}/{name}", path, member, root, size, modified)


def _inside(member: str) -> str:
    """The name of a member that leads out of no folder: "/a" is "a", "./a//b" is "a/b", "../a" is "__/a"."""
    parts = member.split("/")
    return "/".join("__" if part == ".." else part for part in parts if part not in ("", "."))
