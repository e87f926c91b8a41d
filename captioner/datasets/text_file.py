"""Text files of a data set: UTF-8, or refused in one sentence."""

from __future__ import annotations

from pathlib import Path

from captioner.errors import DatasetError

_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def read_text(file: Path) -> str:
    """What a text file of a data set says, without a byte order mark; every end of a line is a line feed.

    Raises:
        DatasetError: the file cannot be read, or is not UTF-8.
    """
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        found = "is UTF-16" if error.object.startswith(_UTF_16) else f"is not UTF-8 at byte {error.start}"
        raise DatasetError(f"{file} {found}; convert it to UTF-8") from error
    except OSError as error:
        raise DatasetError(f"{file} cannot be read: {error.strerror}; check the path") from error


def lines_of(file: Path) -> list[str]:
    """The lines of a text file, without their ends.

    Raises:
        DatasetError: as `read_text`.
    """
    # Not splitlines, which also splits at characters that may be part of a caption, such as U+2028.
    return read_text(file).split("\n")
