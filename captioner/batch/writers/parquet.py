"""Parquet, for tables of millions of rows; needs pyarrow, which the extra `parquet` brings."""

from __future__ import annotations

import importlib
from itertools import islice
from pathlib import Path
from typing import Any

from captioner.batch.style import TextStyle
from captioner.batch.whole_file import UNENCODABLE, WholeBinaryFile
from captioner.batch.writers.cells import COLUMNS, cells
from captioner.batch.writers.rows import Rows
from captioner.errors import ConfigurationError

_GROUP_ROWS = 10_000  # a row group in memory at a time
_NUMBERS = ("confidence", "score")


def write_parquet(rows: Rows, target: Path, style: TextStyle) -> None:
    """One row a picture, with its errors, in the columns COLUMNS: numbers are float64, the others strings, or null.

    The bytes depend on the version of pyarrow too, which writes it into the file.

    Raises:
        ConfigurationError: pyarrow is not installed.
        OutputError: the file cannot be written.
    """
    # Any: pyarrow publishes no types, and nothing else here needs it.
    arrow: Any = require_pyarrow("pyarrow")
    parquet: Any = require_pyarrow("pyarrow.parquet")
    schema = arrow.schema([(name, arrow.float64() if name in _NUMBERS else arrow.string()) for name in COLUMNS])
    values = (cells(row, style) for _, row in rows)
    with (
        WholeBinaryFile(target) as file,
        arrow.PythonFile(_Sink(file), mode="w") as sink,
        parquet.ParquetWriter(sink, schema) as table,
    ):
        while group := list(islice(values, _GROUP_ROWS)):
            columns = [[_encodable(value[name]) for value in group] for name in COLUMNS]
            arrays = [arrow.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
            table.write_table(arrow.Table.from_arrays(arrays, schema=schema))


class _Sink:
    """What pyarrow writes to. It closes what it was given; but whether the file appears, its `with` block decides."""

    closed = False

    def __init__(self, file: WholeBinaryFile) -> None:
        self._file = file

    def write(self, data: bytes) -> int:
        """Append `data`."""
        return self._file.write(bytes(data))

    def flush(self) -> None:
        """Nothing: the file flushes when it appears."""

    def close(self) -> None:
        """Nothing, see above."""


def require_pyarrow(module: str = "pyarrow") -> Any:
    """A module of pyarrow, so that a job can ask for it before any work is done.

    Raises:
        ConfigurationError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigurationError(
            "Parquet needs pyarrow, which is not installed: pip install 'captioner[parquet]', or write CSV."
        ) from error


def _encodable(value: str | float | None) -> str | float | None:
    return value.encode("utf-8", UNENCODABLE).decode("utf-8") if isinstance(value, str) else value
