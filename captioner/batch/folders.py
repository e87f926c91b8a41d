"""The pictures below a folder, in order, while holding the names of a few folders at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from captioner.batch.archive_items import items_in_archive
from captioner.batch.archives import is_archive
from captioner.batch.items import Item
from captioner.batch.selection import PICTURE_EXTENSIONS, Selection
from captioner.batch.survey import Survey

_LOWER_EXTENSIONS = tuple(PICTURE_EXTENSIONS)
_new_tuple = tuple.__new__  # what Item(...) comes to, in half the time


def items_below(root: str, selection: Selection, survey: Survey) -> Iterator[Item]:
    """The items of the folder `root` and of all folders below it, sorted by source.

    Only the names in the folder at hand and in those above it are held. A folder is sorted as "name/", and as no file
    is called that, "a-b.jpg" comes before "a/x.jpg" and "a/x.jpg" before "a0.jpg", as in a sorted list of all sources.
    A folder that cannot be listed becomes a failure of `survey`, and the others go on.
    """
    return iter(_Walk(root, selection, survey))


class _Folder:
    """A folder that the walk is in."""

    def __init__(self, prefix: str, *, included: bool) -> None:
        self.prefix = prefix  # its path with a slash at the end, empty for the current folder
        self.included = included  # whether an include pattern matches it or a folder above it
        self.archives: set[str] = set()  # the names of archives to be read, with a slash at their end
        self.names: list[str] = []  # those of folders, and of archives to be read, end with a slash
        self.left: Iterator[str] = iter(())  # the names, sorted, that were not visited yet


class _Walk:
    def __init__(self, root: str, selection: Selection, survey: Survey) -> None:
        self._root = root
        self._prefix = "" if root == "." else root if root.endswith("/") else f"{root}/"
        self._selection = selection
        self._survey = survey
        self._entered: set[tuple[int, int]] = set()  # device and inode of every folder, if links are followed

    def __iter__(self) -> Iterator[Item]:
        root, look, new = self._root, os.stat, _new_tuple
        folders = [self._enter(self._prefix, included=False)]
        while folders:
            prefix = folders[-1].prefix
            with _opened(prefix) as descriptor:
                for name in folders[-1].left:
                    path = prefix + name
                    if name[-1] == "/":
                        if name not in folders[-1].archives:
                            folders.append(self._enter_below(path, folders[-1]))
                            break
                        yield from items_in_archive(path[:-1], root, self._selection, self._survey, included=True)
                        continue
                    try:
                        status = look(name, dir_fd=descriptor)
                    except OSError:  # it is gone, or a link to nothing: reading it gives the reason
                        yield Item(path, path, None, root, 0, 0)
                    else:
                        yield new(Item, (path, path, None, root, status.st_size, status.st_mtime_ns))
                else:
                    folders.pop()

    def _enter_below(self, prefix: str, above: _Folder) -> _Folder:
        relative = prefix[len(self._prefix) : -1]
        return self._enter(prefix, included=above.included or self._selection.includes_folder(relative))

    def _enter(self, prefix: str, *, included: bool) -> _Folder:
        """The folder whose path is `prefix`, listed; empty if it was entered before or cannot be listed."""
        folder = _Folder(prefix, included=included)
        try:
            if self._selection.follow_links and not self._is_new(prefix):
                self._survey.skip("links")
            else:
                self._list(folder)
        except OSError as error:  # after some of its names, perhaps: those that are known are taken
            self._survey.fail(prefix.rstrip("/") or self._root, f"The folder cannot be listed: {error.strerror}.")
        folder.names.sort()
        folder.left = iter(folder.names)
        return folder

    def _list(self, folder: _Folder) -> None:
        """Puts the names that are to be visited into `folder`."""
        by_extension = not self._selection.has_patterns
        names = folder.names
        with os.scandir(folder.prefix or ".") as entries:
            for entry in entries:
                name = entry.name
                visited: str | None = name
                likely = by_extension and name.endswith(_LOWER_EXTENSIONS) and name[0] != "."
                if not likely or not entry.is_file(follow_symlinks=False):  # on nearly every entry no time is lost
                    visited = self._visited_as(entry, folder)
                if visited is not None:
                    names.append(visited)

    def _is_new(self, prefix: str) -> bool:
        """Whether the walk has not been in this folder yet, under any name: links in a circle end here."""
        status = Path(prefix).stat()
        identity = (status.st_dev, status.st_ino)
        if identity in self._entered:
            return False
        self._entered.add(identity)
        return True

    def _visited_as(self, entry: os.DirEntry[str], folder: _Folder) -> str | None:
        """Under which name an entry of `folder` is to be visited; None, and counted, if not at all."""
        name = entry.name
        path = folder.prefix + name
        relative = path[len(self._prefix) :]
        if entry.is_dir(follow_symlinks=False):
            reason = self._selection.skips_folder(relative)
            name += "/"
        elif entry.is_symlink() and _is_folder(path):
            reason = self._selection.skips_folder(relative)
            if reason is None and not self._follows(path):
                reason = "links"
            name += "/"
        elif not (entry.is_file(follow_symlinks=False) or entry.is_symlink()):
            reason = "other_files"  # a pipe, a socket or a device
        else:
            reason = self._selection.skips_file(relative, included=folder.included)
            if is_archive(name) and reason is None:
                name += "/"
                folder.archives.add(name)
            elif is_archive(name) and reason == "other_files":
                reason = "archives"
        if reason is None:
            return name
        self._survey.skip(reason)
        return None

    def _follows(self, link: str) -> bool:
        """Whether a link to a folder is followed: not where the walk comes by the folder's own name as well."""
        if not self._selection.follow_links:
            return False
        target, root = os.path.realpath(link), os.path.realpath(self._root)
        if target == root:
            return False
        below = root.rstrip("/") + "/"
        if not target.startswith(below):
            return True
        parts = target.removeprefix(below).split("/")
        return any(self._selection.skips_folder("/".join(parts[: count + 1])) for count in range(len(parts)))


@contextmanager
def _opened(prefix: str) -> Iterator[int]:
    """A descriptor of a folder, below which a name is looked up in less time than a path; -1 if it is gone."""
    try:
        descriptor = os.open(prefix or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        yield -1  # whatever is looked up below it is not there
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _is_folder(path: str) -> bool:
    try:
        return Path(path).is_dir()
    except OSError:  # of a link into a folder that is closed to us, nobody can say
        return False
