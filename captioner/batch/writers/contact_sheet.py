"""The contact sheet of a job: the pictures whose captions a person should look at first, in one HTML file."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from captioner.batch.items import Item
from captioner.batch.style import TextStyle
from captioner.batch.whole_file import UNENCODABLE, WholeTextFile
from captioner.batch.writers.cells import safe_path
from captioner.batch.writers.rows import Row, Rows
from captioner.errors import ConfigurationError
from captioner.pictures.contact_sheet import ContactSheet, SheetEntry, write_contact_sheet

Thumbnail = Callable[[Item], bytes | None]


@dataclass(frozen=True, kw_only=True)
class ContactSheetWriter:
    """Writes the contact sheet: pictures without a caption first, then by confidence, lowest first.

    Of more pictures than `max_pictures` the first in this order are shown, and the page says so: they are the ones to
    look at, and no browser opens a million. No more of them are held in memory.

    Args:
        thumbnail: a small JPEG of a picture, or None if there is none; asked once for each picture that is shown.
        max_pictures: on the page.

    Raises:
        ConfigurationError: max_pictures is below 1.
    """

    thumbnail: Thumbnail
    max_pictures: int = 5000

    def __post_init__(self) -> None:
        if self.max_pictures < 1:
            raise ConfigurationError(f"max_pictures must be at least 1, not {self.max_pictures}.")

    def __call__(self, rows: Rows, target: Path, style: TextStyle) -> None:
        """Write the page of `rows` to `target`.

        Raises:
            OutputError: the file cannot be written.
        """
        total = 0

        def keyed() -> Iterator[tuple[float, int, Item, Row]]:
            nonlocal total
            for item, row in rows:
                yield -1.0 if "error" in row else row["confidence"], total, item, row
                total += 1

        with WholeTextFile(target) as file:
            # The number decides between equals: no two are the same, and items are never compared.
            shown = heapq.nsmallest(self.max_pictures, keyed())
            models = sorted({row["model"] for _, _, _, row in shown if "model" in row})
            entries = (self._entry(item, row, style) for _, _, item, row in shown)
            write_contact_sheet(ContactSheet(entries=entries, shown=len(shown), total=total, models=models), file)

    def _entry(self, item: Item, row: Row, style: TextStyle) -> SheetEntry:
        failed = "error" in row
        return SheetEntry(
            name=safe_path(row["image"]).encode("utf-8", UNENCODABLE).decode("utf-8"),
            picture=self.thumbnail(item),
            caption="" if failed else style.text(row),
            confidence=None if failed else row["confidence"],
            error=row["error"]["detail"] if failed else None,
        )
