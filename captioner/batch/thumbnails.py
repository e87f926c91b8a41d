"""Small pictures for a contact sheet, read by children as every picture is."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from captioner.batch.items import Item
from captioner.errors import ImageError
from captioner.geometry import Geometry
from captioner.pictures.cards import DISPLAY_SIZE, DisplayPicture
from captioner.reader import Reader


class Thumbnails:
    """Gives the thumbnail of an item; the reading children are started when the first is asked for."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self._reader: Reader | None = None

    def __call__(self, item: Item) -> bytes | None:
        """A small JPEG, or None if the picture cannot be read."""
        if self._reader is None:
            self._reader = Reader(Geometry(resize="fit", size=DISPLAY_SIZE))
        try:
            return DisplayPicture.of(self._reader.submit(item.load()).result()).jpeg
        except ImageError:
            return None

    def close(self) -> None:
        """End the children; safe to call twice."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
