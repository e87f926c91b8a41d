"""Alternative texts for a static site: one JSON object from a picture's path to its text, in the order of the paths."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from captioner.batch.style import TextStyle
from captioner.batch.whole_file import UNENCODABLE, WholeTextFile
from captioner.batch.writers.rows import Rows, captioned, one_line
from captioner.errors import OutputError


def write_alt_map(rows: Rows, target: Path, style: TextStyle) -> None:
    """{"relative/path.jpg": "Alt text."}: paths below the folder that was named, texts always as alternative texts.

    A picture without a caption is left out. With `style.mark`, each text ends with LINE_MARK.

    Raises:
        OutputError: the file cannot be written, or two folders have a picture of the same path.
    """
    style = style.as_alt()
    with WholeTextFile(target) as file, _sorter(target) as sorter:
        for item, row in captioned(rows):
            path, text = os.fsencode(item.relative), style.line(row).encode("utf-8", UNENCODABLE)
            try:
                sorter.execute("INSERT INTO texts VALUES (?, ?)", (path, text))
            except sqlite3.IntegrityError as error:
                raise OutputError(
                    f"Two pictures of this job are {item.relative} below their folders: caption one folder at a time, "
                    "or name the folder above them."
                ) from error
        before = "{\n"
        for path, text in sorter.execute("SELECT path, text FROM texts ORDER BY path"):
            file.write(f"{before}{one_line(os.fsdecode(path))}: {one_line(text.decode('utf-8'))}")
            before = ",\n"
        file.write("\n}\n" if before == ",\n" else "{}\n")


@contextmanager
def _sorter(target: Path) -> Iterator[sqlite3.Connection]:
    """A table in a temporary file that SQLite deletes: a million texts are sorted without holding them in memory."""
    try:
        with closing(sqlite3.connect("", isolation_level=None)) as sorter:
            sorter.execute("PRAGMA journal_mode = OFF")
            sorter.execute("CREATE TABLE texts (path BLOB PRIMARY KEY, text BLOB NOT NULL) WITHOUT ROWID")
            yield sorter
    except sqlite3.Error as error:
        raise OutputError(f"{target} could not be written: sorting its texts failed ({error}).") from error
