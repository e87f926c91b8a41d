"""Texts in the pictures themselves: XMP, IPTC and EXIF, through ExifTool. Pixels stay as they are.

The text goes where readers look for it: XMP AltTextAccessibility (IPTC Photo Metadata Standard 2021.1), and the
description, which is XMP dc:description, IPTC Caption-Abstract and EXIF ImageDescription in one. A description that a
person wrote into any of the three, in any language, is the picture's description, so the other two stay empty then
(Metadata Working Group, Guidelines for Handling Image Metadata 2.0, section 5.2).

What we wrote is known by a mark, always set: an entry of XMP dc:contributor, the list of persons and services that
contributed, with the model's name and a digest of the text. A text is ours if its digest is among the marks; one that a
person has edited since is not, and is never replaced. IPTC's own fields for artificial intelligence (AISystemUsed,
DigitalSourceType) say how the picture came about: they would call a photo generated whose caption is.

A change notes the fields, not the file: its bytes before and after are JSON from a field to its text, or null.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from captioner.batch.items import Item
from captioner.batch.style import TextStyle
from captioner.batch.whole_file import UNENCODABLE, write_whole
from captioner.batch.writers.exiftool import ExifTool
from captioner.batch.writers.rows import Row
from captioner.errors import OutputError
from captioner.ledger import Change

TARGET = b"metadata:"  # before the path in a change's target: a sidecar's target is a path alone

ALT_TEXT = "XMP-iptcCore:AltTextAccessibility"
DESCRIPTION = "XMP-dc:Description"
CAPTION = "IPTC:Caption-Abstract"
IMAGE_DESCRIPTION = "IFD0:ImageDescription"

_CONTRIBUTOR = "XMP-dc:Contributor"
_CHARACTER_SET = "IPTC:CodedCharacterSet"
_MARK = re.compile(r"captioner .*\(machine-made text ([0-9a-f]{16})\)", re.DOTALL)
_MAX_CAPTION_BYTES = 2000  # of IPTC Caption-Abstract: IPTC IIM 4.2, 2:120
_XMP = (ALT_TEXT, DESCRIPTION)
_FIELDS = {
    "JPEG": (*_XMP, CAPTION, IMAGE_DESCRIPTION),
    "TIFF": (*_XMP, CAPTION, IMAGE_DESCRIPTION),
    "PNG": (*_XMP, IMAGE_DESCRIPTION),  # ExifTool can put IPTC there, but no standard knows it
    "WEBP": (*_XMP, IMAGE_DESCRIPTION),
    "Extended WEBP": (*_XMP, IMAGE_DESCRIPTION),
    "GIF": _XMP,
}
_READ = (
    b"-j",
    b"-a",
    b"-G1",
    b"-FileType",
    b"-XMP-dc:all",
    b"-XMP-iptcCore:all",
    b"-IPTC:all",
    b"-IFD0:ImageDescription",
)

State = dict[str, Any]  # what is noted of a picture: texts by field, None where there is none, and a list of marks


@dataclass(frozen=True, kw_only=True)
class MetadataWriter:
    """Plans what is written into pictures, and does it: see captioner/batch/writers/sidecars.py, which has one form."""

    style: TextStyle
    exiftool: ExifTool

    def plan(self, item: Item, row: Row) -> Change | None:
        """What is to be written into a captioned picture, or None: a person's texts are there, or ours already.

        Raises:
            OutputError: the picture lies in an archive, is in a format without metadata, or cannot be read.
        """
        if item.member is not None:
            raise OutputError(f"{item.source} lies in an archive, which is only read: unpack it, then write into it.")
        path = Path(item.path).absolute()
        found = _read(self.exiftool, path)
        kind = found.get("File:FileType")
        if kind not in _FIELDS:
            raise OutputError(f"{item.source} is a {kind} picture, which takes no text: write a sidecar instead.")
        text = self.style.line(row).encode("utf-8", UNENCODABLE).decode("utf-8")
        own = _own_marks(found)
        fields = [field for field in _free_fields(found, own) if field in _FIELDS[kind]]
        fields = [field for field in fields if field != CAPTION or _fits_caption(text, found)]
        before: State = {field: found.get(field) for field in fields}
        after: State = dict.fromkeys(fields, text)
        if not fields or before == after:
            return None
        before[_CONTRIBUTOR] = own
        after[_CONTRIBUTOR] = [_mark(text, row)]
        return Change(target=TARGET + os.fsencode(path), before=_noted(before), after=_noted(after))

    def apply(self, change: Change) -> None:
        """Write what was planned; nothing if it stands there already.

        Raises:
            OutputError: the picture cannot be written, or somebody has changed the texts since the change was planned.
        """
        path, before, after = _parsed(change)
        now = _state(_read(self.exiftool, path), after)
        if now == after:
            return
        if any(now[field] not in (before[field], after[field]) for field in after):
            raise OutputError(f"The texts in {path} were changed by somebody else meanwhile: run the job again.")
        _write(self.exiftool, path, now, after)

    def revert(self, change: Change) -> bool:
        """Take back each text that nobody has edited since; whether all of them are now as they were before.

        Raises:
            OutputError: the picture cannot be read or written.
        """
        path, before, after = _parsed(change)
        if not path.exists():
            return False
        now = _state(_read(self.exiftool, path), after)
        edited = [field for field in after if now[field] not in (before[field], after[field])]
        goal = {field: now[field] if field in edited else before[field] for field in after}
        if goal != now:
            _write(self.exiftool, path, now, goal)
        return not edited


def _read(exiftool: ExifTool, path: Path) -> dict[str, Any]:
    """The fields of a picture by name, with texts as they are; `_CONTRIBUTOR` is a list."""
    answer = exiftool.run([*_READ, os.fsencode(path)])
    try:
        # A text that looks like a number comes as one: its digits are the text.
        found: dict[str, Any] = json.loads(answer, parse_int=str, parse_float=str, parse_constant=str)[0]
    except (ValueError, LookupError) as error:
        raise OutputError(f"exiftool could not read {path}: check the picture.") from error
    texts = {field: value if isinstance(value, list) else str(value) for field, value in found.items()}
    contributors = texts.get(_CONTRIBUTOR, [])
    texts[_CONTRIBUTOR] = [str(one) for one in contributors] if isinstance(contributors, list) else [contributors]
    return texts


def _state(found: dict[str, Any], fields: State) -> State:
    """What is there now of the fields that a change concerns; of the contributors, our marks."""
    return {field: _own_marks(found) if field == _CONTRIBUTOR else found.get(field) for field in fields}


def _own_marks(found: dict[str, Any]) -> list[str]:
    return [mark for mark in found[_CONTRIBUTOR] if _MARK.fullmatch(mark)]


def _mark(text: str, row: Row) -> str:
    return f"captioner {row['model']} (machine-made text {_digest(text)})"


def _digest(text: str) -> str:
    return sha256(text.encode("utf-8", "replace")).hexdigest()[:16]


def _free_fields(found: dict[str, Any], own: list[str]) -> list[str]:
    """The fields that hold nothing or our own text; all of the description's or none."""
    digests = {match[1] for mark in own if (match := _MARK.fullmatch(mark))}

    def is_free(field: str) -> bool:
        # XMP has texts in several languages: "XMP-dc:Description-fr" beside "XMP-dc:Description".
        texts = [str(text) for name, text in found.items() if name == field or name.startswith(f"{field}-")]
        return all(not text.strip() or _digest(text) in digests for text in texts)

    description = (DESCRIPTION, CAPTION, IMAGE_DESCRIPTION)
    free = [ALT_TEXT] if is_free(ALT_TEXT) else []
    return [*free, *description] if all(map(is_free, description)) else free


def _fits_caption(text: str, found: dict[str, Any]) -> bool:
    """Whether IPTC takes the text: not too long, and in letters that the fields which are there do not forbid."""
    if len(text.encode("utf-8", "replace")) > _MAX_CAPTION_BYTES:
        return False
    # To say that all fields are UTF-8 would garble those that are there and are not.
    has_fields = any(field.startswith("IPTC:") for field in found)
    return text.isascii() or not has_fields or found.get(_CHARACTER_SET) == "UTF8"


def _write(exiftool: ExifTool, path: Path, now: State, goal: State) -> None:
    """Give the fields of a picture their texts; the file is whole at every moment."""
    arguments: list[bytes] = []
    for field, text in goal.items():
        if field == _CONTRIBUTOR:
            arguments += [f"-{field}-={mark}".encode() for mark in now[field] if mark not in text]
            arguments += [f"-{field}+={mark}".encode() for mark in text if mark not in now[field]]
        elif text != now[field]:
            arguments.append(f"-{field}=".encode() + (text or "").encode("utf-8", "replace"))
            if field == CAPTION and not (text or "").isascii():
                arguments.append(f"-{_CHARACTER_SET}=UTF8".encode())
    try:
        read = path.stat()
        # The whole picture comes back as the answer: what is published, and how, is the same here as everywhere.
        picture = exiftool.run([*arguments, b"-q", b"-o", b"-", os.fsencode(path)])
        written = path.stat()
    except OSError as error:
        raise OutputError(f"{path} could not be written: {error.strerror or error}.") from error
    if (written.st_ino, written.st_size, written.st_mtime_ns) != (read.st_ino, read.st_size, read.st_mtime_ns):
        raise OutputError(f"{path} was changed by somebody else while text was written: run the job again.")
    if not picture:
        raise OutputError(f"exiftool wrote nothing for {path}: check the picture, or leave it out.")
    write_whole(path, picture)


def _noted(state: State) -> bytes:
    return json.dumps(state, sort_keys=True).encode()


def _parsed(change: Change) -> tuple[Path, State, State]:
    before, after = json.loads(change.before or b"{}"), json.loads(change.after)
    return Path(os.fsdecode(change.target.removeprefix(TARGET))), before, after
