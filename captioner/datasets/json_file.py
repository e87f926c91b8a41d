"""JSON files of captions: read whole or line by line, and refused in one sentence that says where and what."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from captioner.datasets.text_file import read_text
from captioner.errors import DatasetError

_SHOWN = 60  # how many characters of a value an error shows


@dataclass(slots=True)  # not frozen: there are as many as captions, and a frozen one takes twice as long to make
class Entry:
    """An object in a JSON file, and where it stands; what it lacks or has of another type is a DatasetError.

    Attributes:
        file: the file, and which list of it.
        number: the object's place in the list, from 1.
        fields: what it holds.
    """

    file: str
    number: int
    fields: dict[str, object]

    @property
    def where(self) -> str:
        """Where it stands, for an error."""
        return _place(self.file, self.number)

    def __contains__(self, key: str) -> bool:
        return key in self.fields

    def text(self, key: str) -> str:
        """The text under `key`."""
        value = self.fields.get(key)
        if not isinstance(value, str):
            raise DatasetError(f"{self.where}: '{key}' must be text, found {described(self._value(key))}")
        return value

    def image_id(self, key: str) -> str:
        """The whole number or text under `key`, as text."""
        value = self._value(key)
        if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
            return str(value)
        raise DatasetError(f"{self.where}: '{key}' must be a whole number or text, found {described(value)}")

    def texts(self, key: str, part: str) -> list[str]:
        """The text under `part` of each object of the list under `key`."""
        value = self._value(key)
        if not isinstance(value, list):
            raise DatasetError(f"{self.where}: '{key}' must be a list, found {described(value)}")
        found = [entry.get(part) if isinstance(entry, dict) else None for entry in value]
        texts = [text for text in found if isinstance(text, str)]
        if len(texts) < len(found):  # then one of these says what is wrong, and where
            return [entry.text(part) for entry in entries(value, f"{self.where}, '{key}'")]
        return texts

    def _value(self, key: str) -> object:
        if key not in self.fields:
            raise DatasetError(f"{self.where} has no '{key}': found {described(self.fields)}")
        return self.fields[key]


def read_json(file: Path) -> object:
    """What a JSON file holds; the list of its rows if each of its lines is JSON by itself.

    Raises:
        DatasetError: the file cannot be read, is empty, or is not JSON.
    """
    text = read_text(file)
    if not text.strip():
        raise DatasetError(f"{file} is empty; give a JSON file with captions")
    try:
        return _decode(text)
    except ValueError as error:
        reason, place = error, str(file)
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    rows: list[object] = []
    for number, line in lines if len(lines) > 1 else []:
        try:
            rows.append(_decode(line))
        except ValueError as error:
            if rows:  # the first line was JSON, so each is meant to be
                reason, place = error, f"{file}, line {number},"
            break
    if rows and len(rows) == len(lines):
        return rows
    raise DatasetError(f"{place} is not JSON ({reason}); write it again, or give another file") from reason


def list_of(content: object, key: str) -> list[object] | None:
    """The list under `key`, or None if `content` is no object or has no list there."""
    value = content.get(key) if isinstance(content, dict) else None
    return value if isinstance(value, list) else None


def entries(content: Sequence[object], where: str) -> Iterator[Entry]:
    """The objects of a list; anything else in it is a DatasetError."""
    for number, entry in enumerate(content, start=1):
        if not isinstance(entry, dict):
            raise DatasetError(f"{_place(where, number)}: expected an object, found {described(entry)}")
        yield Entry(where, number, entry)


def described(value: object) -> str:
    """A JSON value in a few words."""
    if isinstance(value, dict):
        keys = ", ".join(f"'{key[:_SHOWN]}'" for key in list(value)[:5])
        return f"an object with {keys}{', ...' if len(value) > 5 else ''}" if value else "an empty object"
    if isinstance(value, list):
        return f"a list that begins with {described(value[0])}" if value else "an empty list"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _place(where: str, number: int) -> str:
    return f"{where}, entry {number}"


def _decode(text: str) -> object:
    try:
        content: object = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return content
