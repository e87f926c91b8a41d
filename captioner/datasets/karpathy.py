"""Karpathy's splits: dataset_coco.json, dataset_flickr8k.json and dataset_flickr30k.json.

{"images": [{"filepath": "val2014", "filename": "COCO_val2014_000000000042.jpg", "split": "restval",
             "sentences": [{"raw": "A dog sits."}, ...]}, ...], "dataset": "coco"}

The splits are those of Karpathy and Fei-Fei (arXiv:1412.2306). Of COCO they divide the validation pictures of 2014 into
val, test and restval; `restval` belongs to train, as in everything that is compared on them: 113,287, 5,000 and 5,000.
"""

from __future__ import annotations

from pathlib import Path

from captioner.datasets.arranging import Described, arrange, find_folder, split_named
from captioner.datasets.json_file import Entry, described, entries, list_of, read_json
from captioner.datasets.records import DataSet
from captioner.errors import DatasetError

_IMAGE_DIRECTORIES = ("", "images", "Images", "Flicker8k_Dataset", "flickr30k-images")


def load_karpathy(file: Path) -> DataSet:
    """The images of one of Karpathy's files; its pictures lie beside it, as COCO or Flickr have them.

    Raises:
        DatasetError: the file cannot be read or has another layout, or its pictures are not there.
    """
    return load_karpathy_content(file, read_json(file))


def is_karpathy(content: object) -> bool:
    """Whether a JSON file has this form: its images carry their sentences."""
    first = next(iter(list_of(content, "images") or []), None)
    return isinstance(first, dict) and "sentences" in first


def load_karpathy_content(file: Path, content: object) -> DataSet:
    """As `load_karpathy`, for what was read from `file` already."""
    images = list_of(content, "images")
    if not images:
        raise DatasetError(
            f"{file} is none of Karpathy's files: expected the list 'images', found {described(content)}"
        )
    found = [_image(image) for image in entries(images, f"{file}, 'images'")]
    above = [file.parent, file.parent.parent] if file.parent.name == "annotations" else [file.parent]
    candidates = [folder / name for folder in above for name in _IMAGE_DIRECTORIES]
    return arrange(file, found, find_folder([image.name for image in found], candidates, file))


def _image(image: Entry) -> Described:
    name, folder = image.text("filename"), image.text("filepath") if "filepath" in image else ""
    split = image.text("split")
    return Described(
        f"{folder}/{name}" if folder else name,
        image.texts("sentences", "raw"),
        "train" if split == "restval" else split_named(split, image.where),
    )
