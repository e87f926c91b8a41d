"""COCO's captions as a data set: the official folders of 2014 and 2017, or any one file of their form.

DIR/annotations/captions_train2014.json and captions_val2014.json
DIR/train2014/COCO_train2014_000000000009.jpg ..., DIR/val2014/

`train` becomes train and `val` becomes dev; COCO publishes no captions of its test pictures. A file without its partner
beside it has no splits of its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from captioner.datasets.arranging import Described, arrange, find_folder
from captioner.datasets.json_file import described, entries, list_of, read_json
from captioner.datasets.records import DataSet
from captioner.errors import DatasetError

_OFFICIAL = re.compile(r"captions_(train|val)(\w*)\.json")


def caption_files(folder: Path) -> list[Path]:
    """COCO's caption files in a folder or in `annotations` below it: one for each pair of train and val."""
    files = sorted([*folder.glob("annotations/captions_*.json"), *folder.glob("captions_*.json")])
    names = {file.name for file in files}
    return [file for file in files if not _is_second(file, names)]


def _is_second(file: Path, names: set[str]) -> bool:
    return file.name.startswith("captions_val") and file.name.replace("captions_val", "captions_train", 1) in names


def load_coco(file: Path) -> DataSet:
    """The images of a caption file with their captions, and of the other of train and val if it lies beside it.

    Raises:
        DatasetError: a file cannot be read or has another layout, or its pictures are not there.
    """
    return load_coco_content(file, read_json(file))


def load_coco_content(file: Path, content: object) -> DataSet:
    """As `load_coco`, for what was read from `file` already."""
    named = _OFFICIAL.fullmatch(file.name)
    if named is None:
        return arrange(file, _images(file, content, None), Path())
    partner = file.with_name(f"captions_{_other(named[1])}{named[2]}.json")
    if not partner.is_file():
        return arrange(file, _images(file, content, None), Path())
    images = _images(file, content, named[1]) + _images(partner, read_json(partner), _other(named[1]))
    return arrange(_above(file), images, Path())


def _other(name: str) -> str:
    return "val" if name == "train" else "train"


def _above(file: Path) -> Path:
    return file.parent.parent if file.parent.name == "annotations" else file.parent


def _images(file: Path, content: object, split: str | None) -> list[Described]:
    """The images of one file, each called by its path."""
    images, annotations = list_of(content, "images"), list_of(content, "annotations")
    if not images or annotations is None:
        raise DatasetError(
            f"{file} is not COCO's captions JSON: expected an object with the lists 'images' and 'annotations', found "
            + described(content)
        )
    found: dict[str, Described] = {}
    for image in entries(images, f"{file}, 'images'"):
        identity = image.image_id("id")
        if identity in found:
            raise DatasetError(f"{image.where}: the id {identity} is taken already; list an image once")
        found[identity] = Described(image.text("file_name"), [], "dev" if split == "val" else split)
    for annotation in entries(annotations, f"{file}, 'annotations'"):
        identity = annotation.image_id("image_id")
        if identity not in found:
            raise DatasetError(f"{annotation.where} is of image {identity}, which 'images' lacks; list it there")
        found[identity].captions.append(annotation.text("caption"))
    folder = find_folder([image.name for image in found.values()], _candidates(file), file)
    for each in found.values():
        each.name = str(folder / each.name)
    return list(found.values())


def _candidates(file: Path) -> Sequence[Path]:
    """Where the pictures of a caption file may lie; captions_train2014.json tells of train2014."""
    above, of = _above(file), file.stem.removeprefix("captions_")
    return [above / of, above / "images" / of, above / "images", above, file.parent]
