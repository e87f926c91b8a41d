"""Output files that are whole or absent: written beside their place and renamed when they are complete."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import click


class OutputError(click.ClickException):
    """An output file could not be written; the command ends with exit code 1."""


class WholeFile:
    """A text file (UTF-8) that appears at its path when the `with` block ends well; until then, what was there stays.

    If the block raises (Ctrl-C included), nothing is left behind. A device or a pipe is written directly. What UTF-8
    cannot hold (an undecodable byte of a file name) is written as the escape that JSON has for it.
    Every method raises OutputError, with one sentence, if the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        """Opens the file beside `path`, so that a folder that cannot be written is noticed before any work is done."""
        self._path = path
        self._target = Path(os.path.realpath(path))  # a link stays; the file that it names is replaced
        # /dev/stdout may lead to a file, which is open in other hands and must not be replaced
        self._direct = path.is_relative_to("/dev") or (self._target.exists() and not self._target.is_file())
        self._partial = self._target.with_name(f".{self._target.name}.{os.getpid()}.part")
        with self._refusals():
            opened = path if self._direct else self._partial
            self._file = opened.open("w", encoding="utf-8", errors="backslashreplace", newline="\n", buffering=1)

    def write(self, text: str) -> None:
        """Appends `text`."""
        with self._refusals():
            self._file.write(text)

    def write_bytes(self, content: bytes) -> None:
        """Appends bytes, such as those of a picture."""
        with self._refusals():
            self._file.flush()
            self._file.buffer.write(content)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._refusals():
            if self._direct:
                self._file.close()
                return
            try:
                if kind is None:
                    self._publish()
            finally:
                self._discard()

    def _publish(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        if self._target.exists():
            shutil.copymode(self._target, self._partial)
        self._partial.replace(self._target)

    def _discard(self) -> None:
        """Removes what was not published; closing may fail again on a full disk, and that changes nothing."""
        try:
            self._file.close()
        finally:
            self._partial.unlink(missing_ok=True)

    @contextmanager
    def _refusals(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OutputError(f"{self._path} could not be written: {error.strerror or error}.") from error


def check_folder(file: Path | None) -> None:
    """Refuse, before any work is done, a file to write whose folder does not exist."""
    if file is not None and not file.parent.is_dir():
        context = click.get_current_context(silent=True)
        raise click.UsageError(f"The folder of {file} does not exist: create it first.", context)


def write_json(path: Path, content: object) -> None:
    """Write JSON, whole or not at all."""
    with WholeFile(path) as file:
        file.write(json.dumps(content, ensure_ascii=False, indent=2) + "\n")
