"""Parquet tables."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

from captioner.batch.style import TextStyle
from captioner.batch.writers.parquet import write_parquet
from captioner.errors import ConfigurationError
from tests.batch.writers.samples import failure, pairs, row


@pytest.mark.skipif(importlib.util.find_spec("pyarrow") is not None, reason="pyarrow is installed")
def test_without_pyarrow_one_sentence_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"pip install 'captioner\[parquet\]', or write CSV\.$"):
        write_parquet([], tmp_path / "out.parquet", TextStyle())
    assert list(tmp_path.iterdir()) == []


def test_values_come_back_and_the_bytes_are_the_same_each_time(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed (pip install pyarrow)")
    rows = [row("a.jpg"), failure("b.jpg"), row(os.fsdecode(b"\xff.jpg"))] + [row(f"{i}.jpg") for i in range(25_000)]
    write_parquet(pairs(*rows), tmp_path / "out.parquet", TextStyle())
    table = parquet.read_table(tmp_path / "out.parquet").to_pylist()
    assert len(table) == len(rows)
    assert [(one["image"], one["score"]) for one in table[:3]] == [
        ("a.jpg", -1.25),
        ("b.jpg", None),
        ("\\udcff.jpg", -1.25),
    ]
    assert table[1]["error"].startswith("UnreadableImage: ")
    assert parquet.ParquetFile(tmp_path / "out.parquet").num_row_groups == 3
    write_parquet(pairs(*rows), tmp_path / "again.parquet", TextStyle())
    assert (tmp_path / "again.parquet").read_bytes() == (tmp_path / "out.parquet").read_bytes()


def test_no_rows_are_a_table_too(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed (pip install pyarrow)")
    write_parquet([], tmp_path / "out.parquet", TextStyle())
    assert parquet.read_table(tmp_path / "out.parquet").num_rows == 0
