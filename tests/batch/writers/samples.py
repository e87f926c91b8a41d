"""Pictures, items and rows that the tests of the writers share."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from captioner.batch.items import Item

MODEL = "toy@0123456789abcdef"


def item(source: str, *, root: str = ".", path: Path | str | None = None, member: str | None = None) -> Item:
    """An item; it lies at its source unless a path is given."""
    return Item(source=source, path=str(path or source), member=member, root=root, size=1, mtime_ns=1)


def row(image: str, caption: str = "a dog runs", confidence: float = 0.5) -> dict[str, Any]:
    """The row of a captioned picture."""
    return {
        "image": image,
        "caption": caption,
        "score": -1.25,
        "confidence": confidence,
        "alternatives": [],
        "words": [{"word": word, "probability": 0.5} for word in caption.split()],
        "model": MODEL,
    }


def failure(image: str) -> dict[str, Any]:
    """The row of a picture that could not be captioned."""
    return {"image": image, "error": {"type": "UnreadableImage", "detail": "It is damaged: use an intact copy."}}


def pairs(*rows: dict[str, Any]) -> list[tuple[Item, dict[str, Any]]]:
    """Rows with items of their names, below the folder "photos" if they are."""
    return [(item(one["image"], root="photos" if one["image"].startswith("photos/") else "."), one) for one in rows]


def picture(format_name: str = "JPEG", size: tuple[int, int] = (40, 30), colour: str = "teal") -> bytes:
    """The bytes of a small picture."""
    file = BytesIO()
    image = Image.new("RGB", size, colour)
    image.paste("orange", (4, 4, size[0] // 2, size[1] // 2))
    image.save(file, format_name)
    return file.getvalue()
