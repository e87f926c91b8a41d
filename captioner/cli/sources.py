"""Which pictures a command line means: files as they are named, folders with everything below them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import click

PICTURE_EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"})


def find_pictures(paths: Sequence[Path]) -> list[Path]:
    """The pictures at `paths`, in their order, each once.

    A file is taken whatever it is called. Of a folder, the files below it with a picture's extension are taken, sorted
    by path, but none that is hidden or lies in a hidden folder; links to folders are not followed.
    Raises click.UsageError if a path does not exist or a folder cannot be listed.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            found.update(dict.fromkeys(_pictures_below(path)))
        elif path.exists():
            found[path] = None
        else:
            raise click.UsageError(f"There is no file or folder {click.format_filename(path)}: check the path.")
    return list(found)


def _pictures_below(folder: Path) -> list[Path]:
    def refuse(error: OSError) -> None:
        name = click.format_filename(error.filename)
        raise click.UsageError(f"The folder {name} cannot be listed: {error.strerror}.")

    pictures: list[Path] = []
    for parent, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        pictures += [
            Path(parent, name)
            for name in files
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in PICTURE_EXTENSIONS  # noqa: PTH122
        ]
    return sorted(pictures)
