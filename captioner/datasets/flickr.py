"""Flickr8k and Flickr30k in their official layout, which the generated toy set uses too.

<name>.token.txt or <name>.token   lines of `photo.jpg#0<TAB>caption`
<name>trainImages.txt              one photo a line; the same for devImages and testImages, where there are any
Images/, Flicker8k_Dataset/ or flickr30k-images/

Flickr30k is published without lists: its splits are then made by the digests of the photos' names.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from captioner.datasets.arranging import Described, arrange
from captioner.datasets.records import SPLITS, DataSet, Record
from captioner.datasets.text_file import lines_of
from captioner.errors import DatasetError

_IMAGE_DIRECTORIES = ("Images", "Flicker8k_Dataset", "flickr30k-images")


def token_files(root: Path) -> list[Path]:
    """The caption files in a folder; Flickr8k's file of lemmas (words in their basic form) is none."""
    found = [*root.glob("*.token.txt"), *root.glob("*.token")]
    return sorted(file for file in found if ".lemma." not in file.name)


def load_flickr(root: Path) -> DataSet:
    """The records of each split that has a list, in the order of the list.

    Raises:
        DatasetError: a file is missing or malformed, a photo has no caption, or two splits share a photo.
    """
    files = token_files(root)
    if len(files) != 1:
        found = "none" if not files else ", ".join(file.name for file in files)
        raise DatasetError(f"{root} must hold one caption file named *.token.txt or *.token, found {found}")
    captions = read_token_file(files[0])
    images = _image_directory(root)
    splits: dict[str, list[Record]] = {}
    seen: dict[str, str] = {}
    for split in SPLITS:
        names = _listed(root, split)
        for name in names:
            if name not in captions:
                raise DatasetError(f"the list of '{split}' in {root} lists {name}, which has no caption")
            if name in seen:
                raise DatasetError(f"{name} is listed in {seen[name]} and again in {split}: splits must not overlap")
            seen[name] = split
        if names:
            splits[split] = [Record(images / name, tuple(captions[name])) for name in names]
    if not splits:
        return arrange(root, [Described(name, group) for name, group in captions.items()], images)
    return DataSet(path=root, splits=splits)


def read_token_file(file: Path) -> dict[str, list[str]]:
    """The captions of each photo, by its name, in the order of a `.token.txt`.

    Raises:
        DatasetError: the file cannot be read, or a line is malformed.
    """
    captions: dict[str, list[str]] = defaultdict(list)
    for number, line in enumerate(lines_of(file), start=1):
        if not line.strip():
            continue
        key, tab, caption = line.partition("\t")
        name, hash_sign, _ = key.rpartition("#")
        if not tab or not hash_sign or not caption.strip():
            raise DatasetError(f"{file}, line {number}: expected 'photo.jpg#0<TAB>caption', found '{line[:60]}'")
        captions[name].append(caption.strip())
    return captions


def _listed(root: Path, split: str) -> list[str]:
    """The photos of a split; none if it has no list."""
    files = sorted(root.glob(f"*{split}Images.txt"))
    if not files:
        return []
    if len(files) > 1:
        raise DatasetError(f"{root} has two lists of the split '{split}', {files[0].name} and {files[1].name}")
    names = [line.strip() for line in lines_of(files[0]) if line.strip()]
    if not names:
        raise DatasetError(f"{files[0]} is empty; list a photo a line, or remove the file")
    return names


def _image_directory(root: Path) -> Path:
    for name in _IMAGE_DIRECTORIES:
        if (root / name).is_dir():
            return root / name
    raise DatasetError(f"{root} has no folder of pictures; expected one of {', '.join(_IMAGE_DIRECTORIES)}")
