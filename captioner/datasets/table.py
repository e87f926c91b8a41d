"""Tables of pictures and captions: CSV, or JSON with a row a line.

image,caption,split              {"image": "a.jpg", "caption": "A dog runs.", "split": "train"}
a.jpg,A dog runs.,train          {"image": "a.jpg", "caption": "A dog plays.", "split": "train"}
a.jpg,"A dog, playing.",train

A picture with several captions has several rows; `split` may be left out. These are the tables that `captioner caption`
writes and that its contact sheet saves, too: their other columns are passed over. A picture is named from the table's
folder, from a folder `images` beside it, or from the folder in which one works.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from captioner.datasets.arranging import Described, arrange, find_folder, split_named
from captioner.datasets.json_file import described, entries, read_json
from captioner.datasets.records import DataSet
from captioner.datasets.text_file import read_text
from captioner.errors import DatasetError

_USED = ("image", "caption", "split")
_OURS = ("confidence", "score", "model", "error", "alternatives", "words")  # columns that our own tables have besides
_DELIMITERS = (",", ";", "\t")  # spreadsheets of many countries write semicolons


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table: where it stands, the picture's name, a caption (which may be empty), a split or ""."""

    where: str
    image: str
    caption: str
    split: str


def load_table(file: Path) -> DataSet:
    """The pictures of a table with their captions.

    Raises:
        DatasetError: the file cannot be read or is no table, a column is missing, a picture is in two splits, or the
            pictures are not there.
    """
    if file.suffix.lower() in (".json", ".jsonl"):
        return load_rows(file, read_json(file))
    columns, rows = read_csv(file)
    return _arranged(file, columns, rows)


def load_rows(file: Path, content: object) -> DataSet:
    """As `load_table`, for what was read from a JSON file already."""
    if isinstance(content, dict) and "image" in content:
        content = [content]  # a file of one line
    if not isinstance(content, list) or not content:
        raise DatasetError(
            f"{file} is no table: expected rows like {{'image': 'a.jpg', 'caption': 'A dog.'}}, found "
            + described(content)
        )
    columns: dict[str, None] = {}
    rows: list[Row] = []
    for entry in entries(content, str(file)):
        columns.update(dict.fromkeys(entry.fields))
        failed = "error" in entry and "caption" not in entry
        caption = "" if failed else entry.text("caption")
        rows.append(Row(entry.where, entry.text("image"), caption, entry.text("split") if "split" in entry else ""))
    return _arranged(file, list(columns), rows)


def delimiter_of(header: str) -> str | None:
    """What separates the columns of a table that begins with `header`; None if it lacks image or caption."""
    for delimiter in _DELIMITERS:
        if {"image", "caption"} <= {column.strip().strip('"').lower() for column in header.split(delimiter)}:
            return delimiter
    return None


def read_csv(file: Path) -> tuple[list[str], list[Row]]:
    """The names of the columns of a CSV file, in lower case, and its rows.

    Raises:
        DatasetError: it cannot be read, lacks the columns image and caption, or is no CSV.
    """
    text = read_text(file)
    first = next((line for line in text.split("\n") if line.strip("".join([*_DELIMITERS, *" \r"]))), "")
    delimiter = delimiter_of(first)
    found = f"found '{first[:60]}'" if first else "but it is empty"
    refusal = DatasetError(f"{file} must begin with a line that names the columns image and caption, {found}")
    if delimiter is None:
        raise refusal
    reader = csv.reader(io.StringIO(text), strict=True, delimiter=delimiter, skipinitialspace=True)
    columns: list[str] = []
    rows: list[Row] = []
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if not columns:
                columns = [column.strip().lower() for column in cells]
                if not {"image", "caption"} <= set(columns):  # where quotes join them
                    raise refusal
                image, caption = columns.index("image"), columns.index("caption")
                split = columns.index("split") if "split" in columns else None
                continue
            where = f"{file}, line {reader.line_num}"
            if len(cells) != len(columns):
                raise DatasetError(
                    f"{where}: found {len(cells)} fields where the first line has {len(columns)}; put a caption that "
                    "holds a comma in double quotes"
                )
            rows.append(Row(where, cells[image], cells[caption], "" if split is None else cells[split]))
    except csv.Error as error:
        raise DatasetError(f"{file}, line {reader.line_num}, is not CSV ({error}); check its quotes") from error
    return columns, rows


def _arranged(file: Path, columns: Sequence[str], rows: Iterable[Row]) -> DataSet:
    images: dict[str, Described] = {}
    for row in rows:
        name = row.image.strip().removeprefix("./")
        if not name:
            raise DatasetError(f"{row.where}: a caption without a picture, '{row.caption[:60]}'; name its picture")
        split = split_named(row.split, row.where) if row.split.strip() else None
        image = images.setdefault(name, Described(name, [], split))
        if image.split != split:
            raise DatasetError(
                f"{row.where}: {name} is listed in {image.split or 'no split'} and again in {split or 'no split'}: "
                "splits must not overlap"
            )
        if row.caption.strip():
            image.captions.append(row.caption)
    if not images:
        raise DatasetError(f"{file} has no rows; add a picture and a caption")
    candidates = [file.parent, file.parent / "images", file.parent / "Images", Path()]
    folder = find_folder(list(images), candidates, file)
    unused = [column for column in columns if column not in (*_USED, *_OURS)]
    note = f"{file}: not used: {', '.join(unused)}; the columns that are used are {', '.join(_USED)}"
    return arrange(file, list(images.values()), folder, [note] if unused else [])
