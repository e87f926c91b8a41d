"""A folder of pictures for the commands that caption, and a small data set for those that evaluate."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from PIL import Image

NAMES = ["one.png", "two.png", "three.png"]
PICTURES = ["a.png", "b.jpg", "below/c.webp"]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data set of three pictures, two captions each, all of them in the split `dev`."""
    root = tmp_path / "data"
    (root / "Images").mkdir(parents=True)
    for number, name in enumerate(NAMES):
        Image.frombytes("RGB", (40, 30), random.Random(number).randbytes(40 * 30 * 3)).save(root / "Images" / name)
    lines = [f"{name}#{number}\tA dog number {number} runs .\n" for name in NAMES for number in range(2)]
    (root / "Images" / "four.png").write_bytes((root / "Images" / "one.png").read_bytes())
    lines.append("four.png#0\tA cat sleeps .\n")
    (root / "toy.token.txt").write_text("".join(lines))
    (root / "toy.trainImages.txt").write_text("four.png\n")
    (root / "toy.devImages.txt").write_text("".join(f"{name}\n" for name in NAMES))
    return root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three pictures, one of them in a folder below, and a file that is none."""
    folder = tmp_path / "pictures"
    (folder / "below").mkdir(parents=True)
    for number, name in enumerate(PICTURES):
        pixels = random.Random(number).randbytes(40 * 30 * 3)
        Image.frombytes("RGB", (40, 30), pixels).save(folder / name)
    (folder / "notes.txt").write_text("no picture")
    return folder
