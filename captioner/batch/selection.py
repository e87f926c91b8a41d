"""Which of the files below a folder, and of the members of an archive, are meant.

Patterns are those of gitignore, without its negation, on every machine sensitive to case:

    *.png       no slash: the name of a file or folder, at any depth
    2024/*.jpg  a slash at the beginning or inside: the whole path below the folder that was named
    raw/        a slash at the end: folders only
    * ?         any characters, one character; never a slash
    [a-z] [!a]  one of these characters, none of these
    **/x a/**   any folders above x, none included; everything below a
    a/**/b      any folders between, none included
    \\*         the star itself

A folder that an exclude pattern matches is not entered. Below a folder that an include pattern matches, pictures are
known by their extension; a file that an include pattern matches itself is taken whatever its extension is. What is both
included and excluded is excluded. Hidden names need `hidden`, no pattern replaces it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from captioner.batch.survey import Skip
from captioner.errors import ConfigurationError

PICTURE_EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})


def has_picture_extension(name: str) -> bool:
    """Whether a file is called as pictures are, in capitals or not."""
    return name[name.rfind(".") :].lower() in PICTURE_EXTENSIONS


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What of a folder or an archive is taken; every path here is relative to that folder or archive.

    Args:
        include: patterns that replace the rule of extensions; none: files with a picture's extension are taken.
        exclude: patterns of what is left out.
        hidden: whether files and folders whose name begins with a full stop are taken.
        follow_links: whether links to folders are followed. Links to files always are.

    Raises:
        ConfigurationError: a pattern is empty or begins with an exclamation mark.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    hidden: bool = False
    follow_links: bool = False
    _include: _Patterns | None = field(init=False, repr=False, compare=False)
    _exclude: _Patterns | None = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_include", _Patterns(self.include) if self.include else None)
        object.__setattr__(self, "_exclude", _Patterns(self.exclude) if self.exclude else None)

    @property
    def has_patterns(self) -> bool:
        """Whether anything but names and extensions decides."""
        return bool(self.include or self.exclude)

    def skips_folder(self, folder: str) -> Skip | None:
        """Why a folder is not entered; None: it is. The folders above it are taken to be entered."""
        if not self.hidden and folder.rpartition("/")[2].startswith("."):
            return "hidden"
        if self._exclude is not None and self._exclude.folder(folder):
            return "excluded"
        return None

    def includes_folder(self, folder: str) -> bool:
        """Whether an include pattern matches the folder itself, so that every picture below it is taken."""
        return self._include is not None and self._include.folder(folder)

    def skips_file(self, path: str, *, included: bool = False) -> Skip | None:
        """Why a file is not taken; None: it is. The folders above it are taken to be entered.

        included: whether an include pattern matches a folder above it.
        """
        name = path.rpartition("/")[2]
        if not self.hidden and name.startswith("."):
            return "hidden"
        if self._exclude is not None and self._exclude.file(path):
            return "excluded"
        if self._include is not None and self._include.file(path):
            return None
        if self._include is not None and not included:
            return "other_files"
        return None if has_picture_extension(name) else "other_files"

    def skips(self, path: str, *, included: bool = False) -> Skip | None:
        """Why a file is not taken, or one of the folders above it is not entered; None: it is taken."""
        for folder in _folders_above(path):
            reason = self.skips_folder(folder)
            if reason is not None:
                return reason
            included = included or self.includes_folder(folder)
        return self.skips_file(path, included=included)

    def skips_named(self, path: str) -> Skip | None:
        """Why a file that was named itself is not taken: only a pattern can be the reason."""
        if self._exclude is not None and (
            self._exclude.file(path) or any(map(self._exclude.folder, _folders_above(path)))
        ):
            return "excluded"
        if self._include is not None and not (
            self._include.file(path) or any(map(self._include.folder, _folders_above(path)))
        ):
            return "other_files"
        return None


def _folders_above(path: str) -> list[str]:
    """Of "a/b/c.jpg": "a" and "a/b"."""
    folders = []
    index = path.find("/", 1)
    while index > 0:
        folders.append(path[:index])
        index = path.find("/", index + 1)
    return folders


class _Patterns:
    """Several patterns as two regular expressions: one for files, one for folders."""

    def __init__(self, patterns: tuple[str, ...]) -> None:
        for pattern in patterns:
            if not pattern.strip("/"):
                raise ConfigurationError(f"{pattern!r} is no pattern: write one like '*.png' or 'raw/'.")
            if pattern.startswith("!"):
                raise ConfigurationError(
                    f"The pattern {pattern!r} begins with an exclamation mark, and a pattern takes nothing back here: "
                    "write another pattern, or '\\!' for the mark itself."
                )
        self._files = _compile([pattern for pattern in patterns if not pattern.endswith("/")])
        self._folders = _compile(list(patterns))

    def file(self, path: str) -> bool:
        return self._files.fullmatch(path) is not None

    def folder(self, path: str) -> bool:
        return self._folders.fullmatch(path) is not None


def _compile(patterns: list[str]) -> re.Pattern[str]:
    # (?!) matches nothing: the expression of no patterns
    return re.compile("|".join(map(_expression, patterns)) or "(?!)", re.DOTALL)


def _expression(pattern: str) -> str:
    """The regular expression of one pattern."""
    inner = pattern.rstrip("/")
    if inner.startswith("./"):  # git would have it match nothing
        inner = inner[1:]
    anchored = "/" in inner
    segments = [segment for segment in inner.split("/") if segment]
    expression = "" if anchored else "(?:.*/)?"
    for index, segment in enumerate(segments):
        last = index == len(segments) - 1
        if segment == "**":
            expression += ".+" if last else "(?:.*/)?"
        else:
            expression += _segment(segment) + ("" if last else "/")
    return f"(?:{expression})"


def _segment(segment: str) -> str:
    """The regular expression of what stands between two slashes of a pattern."""
    expression, index = "", 0
    while index < len(segment):
        character = segment[index]
        index += 1
        if character == "*":
            expression += "" if expression.endswith("[^/]*") else "[^/]*"
        elif character == "?":
            expression += "[^/]"
        elif character == "\\" and index < len(segment):
            expression += re.escape(segment[index])
            index += 1
        # a bracket that is never closed, or closed at once, is a bracket
        elif character == "[" and (end := segment.find("]", index + 1 + (segment[index : index + 1] in "!^"))) > 0:
            expression += _characters(segment[index:end])
            index = end + 1
        else:
            expression += re.escape(character)
    return expression


def _characters(inside: str) -> str:
    """The regular expression of [inside]; a range that runs backwards holds nothing."""
    negated = inside[0] in "!^"
    wanted, rest = "", inside[1:] if negated else inside
    while rest:
        if len(rest) > 2 and rest[1] == "-":
            first, final, rest = rest[0], rest[2], rest[3:]
            wanted += f"{re.escape(first)}-{re.escape(final)}" if first <= final else ""
        else:
            wanted, rest = wanted + re.escape(rest[0]), rest[1:]
    if not wanted:
        return "[^/]" if negated else "(?!)"
    return f"(?!/)[{'^' if negated else ''}{wanted}]"
