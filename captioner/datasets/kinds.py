"""The door to every data set: which kind a path holds is found by looking, unless it is said."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from captioner.datasets.coco_set import caption_files, load_coco, load_coco_content
from captioner.datasets.flickr import load_flickr, token_files
from captioner.datasets.json_file import list_of, read_json
from captioner.datasets.karpathy import is_karpathy, load_karpathy, load_karpathy_content
from captioner.datasets.lasting import made_to_last
from captioner.datasets.records import DataSet, Record
from captioner.datasets.sidecars import has_sidecars, load_sidecars
from captioner.datasets.table import load_rows, load_table
from captioner.errors import DatasetError

Kind = Literal["auto", "coco", "karpathy", "flickr", "table", "sidecars"]

_LOADERS = {
    "coco": load_coco,
    "karpathy": load_karpathy,
    "flickr": load_flickr,
    "table": load_table,
    "sidecars": load_sidecars,
}
_EXPECTED = (
    "expected COCO's annotations/captions_*.json, Karpathy's dataset_*.json, Flickr's *.token.txt, a table (.csv or "
    ".jsonl), or pictures with a text beside each"
)


def load_data_set(path: Path, kind: Kind = "auto") -> DataSet:
    """The data set at `path`.

    Args:
        path: its folder, or the file with its captions.
        kind: what it is; "auto": what is found there.

    Raises:
        DatasetError: there is nothing at `path`, nothing that is known or several things; or files of the data set are
            missing, malformed or contradict each other.
    """
    check_path(path)
    with made_to_last():
        return _load_file(path, kind) if path.is_file() else _load_folder(path, kind)


def load_split(path: Path, split: str) -> list[Record]:
    """The records of one split of the data set at `path`.

    Raises:
        DatasetError: as `load_data_set`, or there is no such split.
    """
    return load_data_set(path).split(split)


def check_path(path: Path) -> None:
    """Refuse a data set that is not there, before anything else is begun.

    Raises:
        DatasetError: there is nothing at `path`.
    """
    if not path.exists():
        raise DatasetError(f"there is no data set {path}; check the path, or prepare it as its recipe says")


def _load_file(file: Path, kind: Kind) -> DataSet:
    if kind in ("flickr", "sidecars"):
        raise DatasetError(f"{file} is a file, but a data set of the kind '{kind}' is a folder; name its folder")
    if kind != "auto":
        return _LOADERS[kind](file)
    if file.name.endswith((".token.txt", ".token")):
        return load_flickr(file.parent)
    if file.suffix.lower() not in (".json", ".jsonl"):
        return load_table(file)
    content = read_json(file)
    if is_karpathy(content):
        return load_karpathy_content(file, content)
    if list_of(content, "annotations") is not None:
        return load_coco_content(file, content)
    return load_rows(file, content)


def _load_folder(path: Path, kind: Kind) -> DataSet:
    found = [(each, file) for each, file in _ways_in(path) if kind in ("auto", each)]
    if kind in ("auto", "sidecars") and {each for each, _ in found} <= {"table"} and has_sidecars(path):
        found.append(("sidecars", path))
    if not found:
        what = "a data set" if kind == "auto" else f"a data set of the kind '{kind}'"
        raise DatasetError(f"{path} does not hold {what}: {_EXPECTED}")
    if len(found) > 1:
        ways = ", ".join(f"{file.name} ({each})" for each, file in found)
        raise DatasetError(f"{path} holds more than one data set, {ways}: name the file, or say the kind")
    ((each, file),) = found
    return _LOADERS[each](file)


def _ways_in(folder: Path) -> Iterator[tuple[str, Path]]:
    """The data sets in a folder that are known by the names of their files."""
    yield from (("karpathy", file) for file in sorted(folder.glob("dataset_*.json")))
    yield from (("coco", file) for file in caption_files(folder))
    if token_files(folder):
        yield "flickr", folder
    yield from (("table", file) for file in sorted([*folder.glob("*.csv"), *folder.glob("*.jsonl")]))
