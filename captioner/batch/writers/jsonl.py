"""JSON lines: the row of each picture, with its errors, as `captioner caption` prints it."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path

from captioner.batch.style import TextStyle
from captioner.batch.whole_file import WholeTextFile
from captioner.batch.writers.rows import Rows, in_style, one_line

_LINES_AT_ONCE = 256


def write_jsonl(rows: Rows, target: Path, style: TextStyle) -> None:
    """One row a line; its `caption` is in the style. The row names the model, so there is no other mark.

    Raises:
        OutputError: the file cannot be written.
    """
    write_lines((one_line(in_style(row, style)) for _, row in rows), target)


def write_lines(lines: Iterable[str], target: Path) -> None:
    """Rows that are JSON already, a line each.

    Raises:
        OutputError: the file cannot be written.
    """
    rest = iter(lines)
    with WholeTextFile(target) as file:
        while some := list(islice(rest, _LINES_AT_ONCE)):
            file.write("\n".join(some) + "\n")
