"""What every writer takes: the pictures of a job in their order, each with its row."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

from captioner.batch.items import Item
from captioner.batch.style import TextStyle

_encode = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps would make an encoder for each row
Row = dict[str, Any]  # JSON values, see captioner.captions.row
Rows = Iterable[tuple[Item, Row]]


class Write(Protocol):
    """Writes one output, whole or not at all; the same rows give the same bytes.

    Raises:
        OutputError: the output cannot be written.
    """

    def __call__(self, rows: Rows, target: Path, style: TextStyle) -> None:
        """Write `rows`, which are taken once and one by one, to `target`."""


def captioned(rows: Rows) -> Iterator[tuple[Item, Row]]:
    """The rows that have a caption."""
    return ((item, row) for item, row in rows if "error" not in row)


def in_style(row: Row, style: TextStyle) -> Row:
    """The row with its caption's text in a style; a row without a caption stays as it is."""
    return row if "error" in row else {**row, "caption": style.text(row)}


def one_line(value: Any) -> str:
    """JSON on one line, as it stands in every output."""
    return _encode(value)
