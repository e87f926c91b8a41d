"""Which pictures a job is about: files, folders, archives and lists of them, as one sorted sequence of items."""

from __future__ import annotations

import heapq
import os
import stat
import sys
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path, PurePath

from captioner.batch.archive_items import items_in_archive
from captioner.batch.archives import is_archive
from captioner.batch.folders import items_below
from captioner.batch.items import Item
from captioner.batch.selection import PICTURE_EXTENSIONS as PICTURE_EXTENSIONS
from captioner.batch.selection import Selection
from captioner.batch.survey import Survey
from captioner.errors import SourceError as SourceError

AnyPath = str | os.PathLike[str]

_FIRST_BYTES = 64 * 2**10  # a path has at most 4,096 bytes, so a NUL after the first one lies among these


def find_items(
    paths: Iterable[AnyPath],
    selection: Selection | None = None,
    survey: Survey | None = None,
    *,
    listed: Iterable[AnyPath] = (),
) -> Iterator[Item]:
    """The pictures at `paths` and at those `listed`, sorted by source in the order of code points, each source once.

    A folder means what `selection` takes of everything below it, an archive what it takes of its members. A file that
    is named itself is taken whatever it is called and wherever it lies, unless the selection has patterns and they say
    otherwise. Folders are listed and archives opened when their turn comes: only the paths that were named are held,
    and of each folder that the walk is in the names in it.

    The order depends on nothing but the names: not on the file system, the language, or the order of `paths`.

    Args:
        paths: as on a command line: each must exist.
        selection: what is taken; None: pictures by their extension, nothing hidden.
        survey: counts what is left out and keeps what could not be listed, while the items are drawn.
        listed: paths from a list: one that does not exist becomes an item, which fails with a reason when it is read.

    Raises:
        SourceError: at once, before the first item is drawn: one of `paths` is empty, missing or out of reach.
    """
    survey = Survey() if survey is None else survey
    roots: dict[str, str] = {}  # each path that was named, and the root of its item if it is a file
    for path in paths:
        name = _normal(path)
        _check(path, name)
        if name in roots:
            survey.skip("repeated")
        roots[name] = str(PurePath(name).parent)
    for path in listed:
        name = _normal(path)
        if name in roots:
            survey.skip("repeated")
        else:
            roots[name] = _root_in_list(name)
    return _merged(roots, Selection() if selection is None else selection, survey)


def read_list(path: AnyPath) -> list[str]:
    """The paths in a list, for `find_items(listed=...)`; "-" is standard input.

    A path a line, or paths that are separated by NUL, as `find -print0` writes them: a NUL among the first 64 KiB tells
    which. Paths are relative to the current folder; blank lines are skipped, and nothing else has a meaning: no quotes,
    no comments, no patterns. Their order does not matter, as the pictures are sorted by source.

    Raises:
        SourceError: the list cannot be read, or is in UTF-16.
    """
    try:
        if path == "-":
            content = sys.stdin.buffer.read()
        else:
            content = Path(path).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SourceError(f"The list {os.fspath(path)!r} cannot be read ({reason}): check the path.") from error
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise SourceError(f"The list {os.fspath(path)!r} is in UTF-16: save it as UTF-8.")
    content = content.removeprefix(b"\xef\xbb\xbf")
    if b"\0" in content[:_FIRST_BYTES]:
        lines = content.split(b"\0")
    else:
        lines = content.split(b"\n")
        if lines[0].endswith(b"\r"):  # written under Windows
            lines = [line.removesuffix(b"\r") for line in lines]
    return [os.fsdecode(line) for line in lines if line.strip()]


def _normal(path: AnyPath) -> str:
    """The path without needless full stops and slashes; ".." stays, since what it means depends on links."""
    name = os.fspath(path)
    closed = f"{name}/"
    if name and ("//" in closed or "/./" in closed or name.startswith("./")):  # pathlib is slow for a million of them
        return str(PurePath(name))
    return name


def _check(path: AnyPath, name: str) -> None:
    if not name:
        raise SourceError("An empty path was named: name a file or folder, or '.' for the current folder.")
    try:
        Path(name).stat()
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: a NUL in the path
        raise SourceError(f"There is no file or folder {os.fspath(path)!r}: check the path.") from error
    except OSError as error:
        raise SourceError(f"{os.fspath(path)!r} cannot be used ({error.strerror}): check the path.") from error


def _root_in_list(name: str) -> str:
    """The root of a file in a list: as high as can be, so that a mirrored tree keeps files of one name apart."""
    if ".." in name.split("/"):
        return str(PurePath(name).parent)
    return "/" if name.startswith("/") else "."


def _merged(roots: dict[str, str], selection: Selection, survey: Survey) -> Iterator[Item]:
    """The items of every path that was named, sorted: a merge in which each joins when its turn comes.

    What lies below "photos" begins with "photos/" and comes after "photos" itself, so that a path need not be looked at
    before everything up to its own name is out.
    """
    names = sorted(roots, key=_bound, reverse=True)  # the next one is at the end
    heap: list[tuple[str, int, Item, Iterator[Item]]] = []  # the number tells apart two streams with one source
    last = None
    while heap or names:
        while names and (not heap or _bound(names[-1]) <= heap[0][0]):
            name = names.pop()
            stream = _items_at(name, roots[name], selection, survey)
            for item in stream:
                heapq.heappush(heap, (item.source, -len(names), item, stream))
                break
        if not heap:
            return
        _, number, first, stream = heapq.heappop(heap)
        # As long as nothing else is due, which is nearly always, the items of one stream follow each other.
        due = min([entry[0] for entry in heap[:1]] + [_bound(name) for name in names[-1:]], default=None)
        if due is None:  # and to the end, if nothing else is to come: no stream repeats itself
            if first.source == last:
                survey.skip("repeated")
            else:
                yield first
            yield from stream
            return
        for item in chain((first,), stream):
            if item.source > due:
                heapq.heappush(heap, (item.source, number, item, stream))
                break
            if item.source == last:
                survey.skip("repeated")
            else:
                last = item.source
                yield item


def _bound(name: str) -> str:
    """What no source at a path comes before: the path, but sources in the current folder do not begin with "."."""
    return "" if name == "." else name


def _items_at(name: str, root: str, selection: Selection, survey: Survey) -> Iterator[Item]:
    """The items of one path that was named; `root` is that of the item if it is a file."""
    try:
        status = os.stat(name)  # noqa: PTH116 (of a million paths in a list)
    except (OSError, ValueError):  # a path in a list, or gone since: reading it gives the reason
        size, modified, mode = 0, 0, stat.S_IFREG
    else:
        size, modified, mode = status.st_size, status.st_mtime_ns, status.st_mode
    if stat.S_ISDIR(mode):
        return items_below(name, selection, survey)
    if is_archive(name):
        return items_in_archive(name, name, selection, survey)
    item = Item(name, name, None, root, size, modified)
    reason = selection.skips_named(item.relative)
    if reason is None:
        return iter((item,))
    survey.skip(reason)
    return iter(())
