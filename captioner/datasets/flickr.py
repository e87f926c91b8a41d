"""Flickr8k and Flickr30k in their official layout, which the generated toy set uses too.

<name>.token.txt          lines of `photo.jpg#0<TAB>caption`
<name>trainImages.txt     one photo a line; the same for devImages and testImages, where there are any
Images/ or Flicker8k_Dataset/
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from captioner.datasets.records import Record
from captioner.errors import DatasetError

SPLITS = ("train", "dev", "test")
_IMAGE_DIRECTORIES = ("Images", "Flicker8k_Dataset", "flickr30k-images")


def load_flickr(root: Path) -> dict[str, list[Record]]:
    """The records of each split that has a list, in the order of the list.

    Raises:
        DatasetError: a file is missing or malformed, a photo has no caption, or two splits share a photo.
    """
    captions = read_token_file(_only_file(root, "*.token.txt"))
    images = _image_directory(root)
    splits: dict[str, list[Record]] = {}
    seen: dict[str, str] = {}
    for split in SPLITS:
        files = sorted(root.glob(f"*{split}Images.txt"))
        if not files:
            continue
        if len(files) > 1:
            raise DatasetError(f"{root} has two lists of the split '{split}', {files[0].name} and {files[1].name}")
        names = [line.strip() for line in _lines(files[0]) if line.strip()]
        if not names:
            raise DatasetError(f"{files[0]} is empty; list a photo a line, or remove the file")
        for name in names:
            if name not in captions:
                raise DatasetError(f"{files[0]} lists {name}, which has no caption in the token file")
            if name in seen:
                raise DatasetError(f"{name} is listed in {seen[name]} and again in {split}: splits must not overlap")
            seen[name] = split
        splits[split] = [Record(images / name, tuple(captions[name])) for name in names]
    if not splits:
        raise DatasetError(f"{root} has no list of a split, such as Flickr_8k.trainImages.txt")
    return splits


def load_split(root: Path, split: str) -> list[Record]:
    """The records of one split.

    Raises:
        DatasetError: as `load_flickr`, or there is no such split.
    """
    splits = load_flickr(root)
    if split not in splits:
        raise DatasetError(f"{root} has no split '{split}'; it has {', '.join(splits)}")
    return splits[split]


def training_captions(root: Path) -> list[str] | None:
    """The captions of the training split, which a model may have learnt by heart; None if there is no such split.

    Raises:
        DatasetError: as `load_flickr`.
    """
    train = load_flickr(root).get("train")
    return None if train is None else [caption for record in train for caption in record.captions]


def read_token_file(file: Path) -> dict[str, list[str]]:
    """The captions of each photo, by its name, in the order of a `.token.txt`.

    Raises:
        DatasetError: the file cannot be read, or a line is malformed.
    """
    captions: dict[str, list[str]] = defaultdict(list)
    for number, line in enumerate(_lines(file), start=1):
        if not line.strip():
            continue
        key, tab, caption = line.partition("\t")
        name, hash_sign, _ = key.rpartition("#")
        if not tab or not hash_sign or not caption.strip():
            raise DatasetError(f"{file}, line {number}: expected 'photo.jpg#0<TAB>caption', found '{line[:60]}'")
        captions[name].append(caption.strip())
    return captions


def read_text(file: Path) -> str:
    """What a text file of a data set says, without a byte order mark; every end of a line is a line feed.

    Raises:
        DatasetError: the file cannot be read, or is not UTF-8.
    """
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{file} is not UTF-8 at byte {error.start}; convert it to UTF-8") from error
    except OSError as error:
        raise DatasetError(f"{file} cannot be read: {error.strerror}; check the path") from error


def _lines(file: Path) -> list[str]:
    # Not splitlines, which also splits at characters that may be part of a caption, such as U+2028.
    return read_text(file).split("\n")


def check_root(root: Path) -> None:
    """Refuse a data set that is not there, before anything else is begun.

    Raises:
        DatasetError: there is no such folder.
    """
    if not root.is_dir():
        raise DatasetError(f"there is no data set folder {root}; check the path, or prepare it as its recipe says")


def _only_file(root: Path, pattern: str) -> Path:
    check_root(root)
    files = sorted(root.glob(pattern))
    if len(files) != 1:
        found = "none" if not files else ", ".join(file.name for file in files)
        raise DatasetError(f"{root} must hold one caption file named {pattern}, found {found}")
    return files[0]


def _image_directory(root: Path) -> Path:
    for name in _IMAGE_DIRECTORIES:
        if (root / name).is_dir():
            return root / name
    raise DatasetError(f"{root} has no folder of pictures; expected one of {', '.join(_IMAGE_DIRECTORIES)}")
