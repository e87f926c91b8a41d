"""A small replica of what COCO and Karpathy publish: the same archives, folders, names and forms, of drawn shapes."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

from captioner.datasets.shapes import Example, ShapesOptions, draw, examples

TRAIN, VAL, TEST = 12, 9, 3
KARPATHY = {"train": TRAIN + 3, "dev": 3, "test": 3}  # of the validation pictures, three each are restval, val and test
ENDINGS = ("", " .", " on a plain background.", ", drawn by a machine", " and nothing else")  # five captions a picture


def publish(folder: Path, year: str) -> None:
    """Write the archives of `year` below `folder`, at the paths that they have on the publishers' servers."""
    shapes = examples(ShapesOptions(train=TRAIN + VAL, dev=4 * TEST, test=1))
    pictures = [*shapes["train"], *shapes["dev"]]
    parts = {
        f"train{year}": pictures[:TRAIN],
        f"val{year}": pictures[TRAIN : TRAIN + VAL],
        f"test{year}": pictures[TRAIN + VAL : TRAIN + VAL + TEST],
    }
    lists: dict[str, dict[str, Any]] = {}
    for part, members in parts.items():
        lists[part] = _list(part, members, first=len(lists) * 1000 + 9)
        names = [image["file_name"] for image in lists[part]["images"]]
        content = {f"{part}/{name}": _jpeg(example) for name, example in zip(names, members, strict=True)}
        _zip(folder / "zips" / f"{part}.zip", {f"{part}/": b"", **content})
    captions = {f"annotations/captions_{part}.json": lists[part] for part in list(parts)[:2]}
    decoy: dict[str, dict[str, Any]] = {f"annotations/instances_val{year}.json": {"images": [], "annotations": []}}
    _zip(folder / "annotations" / f"annotations_trainval{year}.zip", _encoded({**captions, **decoy}))
    information = {**lists[f"test{year}"], "annotations": []}
    info = {f"annotations/image_info_test{year}.json": information}
    dev = {f"annotations/image_info_test-dev{year}.json": information}
    _zip(folder / "annotations" / f"image_info_test{year}.zip", _encoded({**info, **dev}))
    if year == "2014":
        others = {f"dataset_flickr{number}k.json": {"images": [], "dataset": f"flickr{number}k"} for number in (8, 30)}
        _zip(folder / "caption_datasets.zip", _encoded({"dataset_coco.json": _karpathy(lists), **others}))


def _list(part: str, members: list[Example], first: int) -> dict[str, Any]:
    """A file of captions as COCO writes it."""
    prefix = f"COCO_{part}_" if part.endswith("2014") else ""
    images, annotations = [], []
    for number, example in enumerate(members):
        identity = first + 7 * number
        name = f"{prefix}{identity:012d}.jpg"
        images.append({"license": 3, "file_name": name, "height": 64, "width": 64, "id": identity})
        annotations += [
            {"image_id": identity, "id": 10 * identity + place, "caption": f"{example.caption.capitalize()}{ending}"}
            for place, ending in enumerate(ENDINGS)
        ]
    # COCO's captions do not stand in the order of its images
    return {"info": {"year": int(part[-4:])}, "licenses": [], "images": images, "annotations": annotations[::-1]}


def _karpathy(lists: dict[str, dict[str, Any]]) -> dict[str, Any]:
    entries: list[dict[str, Any]] = []
    for part in ("train2014", "val2014"):
        for number, image in enumerate(lists[part]["images"]):
            split = "train" if part == "train2014" else ("val", "test", "restval")[number % 3]
            raws = [each["caption"] for each in lists[part]["annotations"] if each["image_id"] == image["id"]]
            sentences = [
                {"tokens": raw.lower().rstrip(" .").split(), "raw": raw, "imgid": len(entries), "sentid": place}
                for place, raw in enumerate(raws)
            ]
            entries.append(
                {
                    "filepath": part,
                    "sentids": [0, 1, 2, 3, 4],
                    "filename": image["file_name"],
                    "split": split,
                    "imgid": len(entries),
                    "sentences": sentences,
                    "cocoid": image["id"],
                }
            )
    return {"images": entries, "dataset": "coco"}


def _jpeg(example: Example) -> bytes:
    file = io.BytesIO()
    draw(example.scene).save(file, "JPEG", quality=95)
    return file.getvalue()


def _encoded(files: dict[str, dict[str, Any]]) -> dict[str, bytes]:
    return {name: json.dumps(content).encode() for name, content in files.items()}


def _zip(file: Path, members: dict[str, bytes]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
