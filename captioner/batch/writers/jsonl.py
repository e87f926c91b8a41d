"""JSON lines: the row of each picture, with its errors, as `captioner caption` prints it."""

from __future__ import annotations

from pathlib import Path

from captioner.batch.style import TextStyle
from captioner.batch.whole_file import WholeTextFile
from captioner.batch.writers.rows import Rows, in_style, one_line


def write_jsonl(rows: Rows, target: Path, style: TextStyle) -> None:
    """One row a line; its `caption` is in the style. The row names the model, so there is no other mark.

    Raises:
        OutputError: the file cannot be written.
    """
    with WholeTextFile(target) as file:
        for _, row in rows:
            file.write(one_line(in_style(row, style)) + "\n")
