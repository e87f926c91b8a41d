"""Folders of pictures, each with its captions in a text file beside it.

photos/a.jpg, photos/a.txt       a caption a line; the ending may be .caption
photos/b.jpg, photos/b.jpg.txt   where b.jpg and b.png would fight over b.txt

This is what `captioner caption --sidecar` writes. Folders called train, dev (or val) and test below the one that is
named are its splits, if all pictures lie in them.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from captioner.datasets.arranging import Described, arrange, split_named
from captioner.datasets.records import DataSet
from captioner.datasets.text_file import lines_of
from captioner.errors import DatasetError

_PICTURE = re.compile(r"\.(jpe?g|png|webp|gif|bmp|tiff?)$", re.IGNORECASE)
_ENDINGS = (".txt", ".caption")
_MARK = re.compile(r"\[machine-made by .*\]")  # the last line of a sidecar that says so (captioner caption --mark)


def has_sidecars(root: Path) -> bool:
    """Whether any picture below the folder has a text beside it."""
    return any(sidecars for _, sidecars in _pictures(root))


def load_sidecars(root: Path) -> DataSet:
    """The pictures below a folder with the captions of their sidecars, in the order of their paths.

    Raises:
        DatasetError: there is no picture, a picture has two sidecars, or one is not UTF-8.
    """
    images: list[Described] = []
    for picture, sidecars in _pictures(root):
        if len(sidecars) > 1:
            raise DatasetError(f"{picture} has two sidecars, {sidecars[0].name} and {sidecars[1].name}; keep one")
        lines = lines_of(sidecars[0]) if sidecars else []
        captions = [line for line in lines if line.strip() and not _MARK.fullmatch(line)]
        images.append(Described(picture.relative_to(root).as_posix(), captions))
    if not images:
        raise DatasetError(f"{root} has no pictures with a text beside them, such as a.jpg and a.txt")
    tops = {image.name.partition("/")[0] if "/" in image.name else "" for image in images}
    if all(_is_split(top) for top in tops):
        for image in images:
            image.split = split_named(image.name.partition("/")[0], image.name)
    return arrange(root, images, root)


def _is_split(name: str) -> bool:
    try:
        return bool(split_named(name, name))
    except DatasetError:
        return False


def _pictures(root: Path) -> Iterator[tuple[Path, list[Path]]]:
    """Each picture below a folder with its sidecars; hidden files and folders are passed over."""
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        there = set(names)
        pictures = sorted(name for name in names if _PICTURE.search(name) and not name.startswith("."))
        stems = Counter(_stem(name) for name in pictures)
        for name in pictures:
            # a.txt is nobody's where there are a.jpg and a.png
            bases = [name] if stems[_stem(name)] > 1 else [name, name.rpartition(".")[0]]
            found = [base + ending for base in bases for ending in _ENDINGS if base + ending in there]
            yield Path(folder, name), [Path(folder, each) for each in found]


def _stem(name: str) -> str:
    return name.rpartition(".")[0].casefold()
