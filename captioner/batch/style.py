"""How a caption is put into words for an output: a template, alternative text, a mark that a machine wrote it."""

from __future__ import annotations

import re
import string
import unicodedata
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from captioner.errors import ConfigurationError

ALT_MAX_LENGTH = 125  # characters: the usual advice for alternative text; some screen readers pause there

LINE_MARK = " (machine-made)"  # after a text that must stay one line
_FIELDS = {
    "caption": "a dog runs",
    "stem": "rex",
    "name": "rex.jpg",
    "folder": "dogs",
    "confidence": 0.5,
}  # with values that a template is tried on
_MIN_MAX_LENGTH = 10
_ELLIPSIS = "…"
_ENDINGS = (".", "!", "?", _ELLIPSIS, "\u3002", "\uff01", "\uff1f")  # the last three: Chinese and Japanese
_CLOSINGS = "\"'”’»)]"
_PICTURE_OF = re.compile(
    r"\s*(?:(?:this|that|it|here|there)(?:\s+is|['’]s)\s+)?(?:(?:an?|the|one|this)\s+)?"
    r"(?:picture|photo|photograph|image|pic|snapshot)s?\s+(?:of|showing|that\s+shows)\s+(?=\S)",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class TextStyle:
    """How captions are written into files.

    Args:
        template: with the fields {caption}, {stem} and {name} (of the picture's file, without and with its ending),
            {folder} (the name of the folder that it lies in) and {confidence} (0 to 1), in the syntax of str.format.
        prefix, suffix: put around what the template gives.
        alt: as alternative text: no "a picture of" before the caption; the whole text on one line, with a capital at
            its beginning and a full stop at its end, and at most ALT_MAX_LENGTH characters if max_length is None.
        max_length: characters; a longer text is cut after a word and ends with an ellipsis.
        mark: the text says that a machine wrote it, see `document` and `line`.

    Raises:
        ConfigurationError: the template names another field or cannot be filled in, or max_length is below 10.
    """

    template: str = "{caption}"
    prefix: str = ""
    suffix: str = ""
    alt: bool = False
    max_length: int | None = None
    mark: bool = False

    def __post_init__(self) -> None:
        if self.max_length is not None and self.max_length < _MIN_MAX_LENGTH:
            raise ConfigurationError(f"max_length must be at least {_MIN_MAX_LENGTH}, not {self.max_length}.")
        known = ", ".join(f"{{{name}}}" for name in _FIELDS)
        try:
            names = [name for _, name, _, _ in string.Formatter().parse(self.template) if name is not None]
            strange = [name for name in names if name not in _FIELDS]
            if strange:
                raise ConfigurationError(f"The template names the unknown field {{{strange[0]}}}: use {known}.")
            self.template.format(**_FIELDS)
        except (ValueError, LookupError, TypeError) as error:
            raise ConfigurationError(
                f"The template '{self.template}' cannot be filled in ({error}): use {known}, and {{{{ for a brace."
            ) from error

    @property
    def keeps_captions(self) -> bool:
        """Whether `text` gives every caption as it is."""
        return replace(self, mark=False) == TextStyle()

    def text(self, row: dict[str, Any]) -> str:
        """The caption of a row that has one, in this style and without a mark."""
        return self._composed(row, self._limit)

    def line(self, row: dict[str, Any]) -> str:
        """The text on one line; with `mark`, LINE_MARK stands at its end, within the limit."""
        limit = self._limit
        if not self.mark:
            return _on_one_line(self._composed(row, limit))
        room = None if limit is None else max(1, limit - len(LINE_MARK))
        return _on_one_line(self._composed(row, room)) + LINE_MARK

    def document(self, row: dict[str, Any]) -> str:
        """The text as a file of its own, with a line feed at its end; with `mark`, a last line names the model."""
        mark = f"[machine-made by {row.get('model', 'captioner')}]\n" if self.mark else ""
        return f"{self.text(row)}\n{mark}"

    def as_alt(self) -> TextStyle:
        """This style for a place that holds alternative text only."""
        return replace(self, alt=True)

    @property
    def _limit(self) -> int | None:
        return ALT_MAX_LENGTH if self.alt and self.max_length is None else self.max_length

    def _composed(self, row: dict[str, Any], limit: int | None) -> str:
        caption = _without_picture_of(row["caption"]) if self.alt else row["caption"]
        filled = caption if self.template == "{caption}" else self._filled(row, caption)  # a million times the first
        text = f"{self.prefix}{filled}{self.suffix}"
        if self.alt:
            return _as_sentence(_on_one_line(text), limit)
        return text if limit is None else _cut(text, limit)

    def _filled(self, row: dict[str, Any], caption: str) -> str:
        image = PurePosixPath(row["image"])
        return self.template.format(
            caption=caption,
            stem=_plain(image.stem),
            name=_plain(image.name),
            folder=_plain(image.parent.name),
            confidence=row["confidence"],
        )


def _without_picture_of(caption: str) -> str:
    """The caption without "a picture of" and its kin at its beginning, however often they stand there."""
    while match := _PICTURE_OF.match(caption):
        caption = caption[match.end() :]
    return caption


def _as_sentence(text: str, limit: int | None) -> str:
    """A capital at the beginning and a full stop at the end; at most `limit` characters."""
    first = next((place for place, letter in enumerate(text) if letter.isalnum()), None)
    if first is not None:
        text = text[:first] + text[first].upper() + text[first + 1 :]
    if text and not text.rstrip(_CLOSINGS).endswith(_ENDINGS):
        text = text.rstrip(",;: ") + "."
    return text if limit is None else _cut(text, limit)


def _cut(text: str, limit: int) -> str:
    """At most `limit` characters: whole words and an ellipsis; of a first word that is longer, its beginning."""
    if len(text) <= limit:
        return text
    room = limit - len(_ELLIPSIS)
    kept = text[:room]
    if not text[room].isspace():
        words = re.match(r"(?s)(.*)\s", kept)
        kept = words[1] if words and words[1].strip() else _without_half_a_letter(kept, text[room])
    return kept.rstrip().rstrip(",;:.-–") + _ELLIPSIS


def _without_half_a_letter(kept: str, after: str) -> str:
    """Do not cut between a letter and the accents or joiners that belong to it."""
    while kept and (unicodedata.combining(after) or after in "\u200d\ufe0f" or kept[-1] == "\u200d"):
        kept, after = kept[:-1], kept[-1]
    return kept


def _on_one_line(text: str) -> str:
    return " ".join(text.split())


def _plain(name: str) -> str:
    """A name without line feeds and other controls, which may be part of a file's name but not of a text."""
    return "".join(" " if unicodedata.category(letter) == "Cc" else letter for letter in name)
