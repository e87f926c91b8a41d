"""CSV: UTF-8, commas, quotes where they are needed and CRLF at the end of a line, as RFC 4180 has it."""

from __future__ import annotations

import csv
from pathlib import Path

from captioner.batch.style import TextStyle
from captioner.batch.whole_file import WholeTextFile
from captioner.batch.writers.cells import COLUMNS, cells, safe_path, safe_text
from captioner.batch.writers.rows import Rows


def write_csv(rows: Rows, target: Path, style: TextStyle) -> None:
    """One row a picture, with its errors, in the columns COLUMNS.

    A file's name can be a formula that a spreadsheet runs when it opens the table. So a path that begins like one is
    written with "./" before it, which names the same file, and another text with an apostrophe.

    Raises:
        OutputError: the file cannot be written.
    """
    with WholeTextFile(target) as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\r\n")
        table.writeheader()
        for _, row in rows:
            values = cells(row, style)
            safe = {name: safe_text(value) if isinstance(value, str) else value for name, value in values.items()}
            table.writerow({**safe, "image": safe_path(row["image"])})
