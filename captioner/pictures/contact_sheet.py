"""A contact sheet: small pictures with their captions on one HTML page, to be looked at, corrected and saved as CSV.

One file that opens from disk, without a network or a server: its Content-Security-Policy names its own script and style
by their hashes. It is written from the top, entry by entry. The corrected captions leave it as a table with the columns
image and caption, made by the page's script.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from string import Template

from captioner.pictures.cards import text
from captioner.pictures.page import TextSink, read, style_and_script
from captioner.pictures.percent import percent


@dataclass(frozen=True, kw_only=True)
class SheetEntry:
    """A picture of the sheet.

    Attributes:
        name: of its file, as the table of captions gives it.
        picture: a small JPEG, or None.
        caption: "" if there is none.
        confidence: 0 to 1, or None without a caption.
        error: why there is no caption, or None.
    """

    name: str
    picture: bytes | None
    caption: str
    confidence: float | None
    error: str | None = None


@dataclass(frozen=True, kw_only=True)
class ContactSheet:
    """All that the page shows.

    Attributes:
        entries: in the order of the page; taken once, one by one.
        shown: how many they are.
        total: how many pictures the job has; at least `shown`.
        models: which made the captions.
    """

    entries: Iterable[SheetEntry]
    shown: int
    total: int
    models: Sequence[str]


def write_contact_sheet(sheet: ContactSheet, file: TextSink) -> None:
    """Write the whole page into `file`, entry by entry."""
    head, tail = read("contact_sheet.html").split("<!-- entries -->")
    entry = Template(read("contact_sheet_entry.html"))
    values = {
        **style_and_script("contact_sheet"),
        "count": text(_count(sheet)),
        "models": text(", ".join(sheet.models) or "no model"),
    }
    file.write(Template(head).substitute(values))
    for number, one in enumerate(sheet.entries):
        file.write(entry.substitute(_values(one, number)))
    file.write(Template(tail).substitute(values))


def _values(entry: SheetEntry, number: int) -> dict[str, str | int]:
    return {
        "number": number,
        "name": text(entry.name).replace("\r", "&#13;"),  # a bare one would become a line feed
        "picture": _picture(entry.picture),
        "caption": text(entry.caption),
        "confidence": text(percent(entry.confidence)) if entry.confidence is not None else "no caption",
        "value": f"{entry.confidence:.3f}" if entry.confidence is not None else "0",
        "state": "" if entry.error is None else " failed",
        "error": f'<p class="failure">{text(entry.error)}</p>' if entry.error is not None else "",
    }


def _picture(jpeg: bytes | None) -> str:
    if jpeg is None:
        return '<p class="none">no picture</p>'
    # The caption beside it says what is to be seen: a second text would be read twice.
    return f'<img src="data:image/jpeg;base64,{b64encode(jpeg).decode("ascii")}" alt="" decoding="async">'


def _count(sheet: ContactSheet) -> str:
    if sheet.shown < sheet.total:
        return f"The {sheet.shown:,} least confident of {sheet.total:,} pictures, the least confident first."
    pictures = "1 picture" if sheet.shown == 1 else f"{sheet.shown:,} pictures, the least confident first"
    return f"{pictures}."
