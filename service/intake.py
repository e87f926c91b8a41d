"""What a request asks for: its pictures and its decoding options, checked before the model sees anything."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import get_type_hints

from flask import Request
from werkzeug.datastructures import FileStorage, MultiDict

from captioner.decoding.options import DecodingOptions
from captioner.errors import DecodingError
from service.captioning import Picture
from service.problems import Problem
from service.settings import Settings

FIELD = "image"
MAX_NAME_LENGTH = 255


def _whole(text: str) -> int:
    # int() also reads "1_000", other alphabets' digits and surrounding spaces; an option is plain digits.
    if not re.fullmatch(r"-?[0-9]{1,9}", text):
        raise ValueError(text)
    return int(text)


def _number(text: str) -> float:
    if not re.fullmatch(r"-?[0-9]{1,9}(\.[0-9]{1,9})?", text):
        raise ValueError(text)
    return float(text)


# One for each type of a field of DecodingOptions, and what to say of a text that it refuses.
_READERS: dict[type, tuple[Callable[[str], int | float], str]] = {
    int: (_whole, "a whole number"),
    float: (_number, "a number"),
}
OPTIONS = {name: _READERS[kind] for name, kind in get_type_hints(DecodingOptions).items()}


def read_options(request: Request, defaults: DecodingOptions, settings: Settings) -> DecodingOptions:
    """The decoding options in the query or in the form, over `defaults`.

    Raises a 422 `Problem` for an unknown option, one given twice or one that is no number, and `DecodingError` for
    values that are out of range.
    """
    given: MultiDict[str, str] = MultiDict(request.args)
    if request.mimetype == "multipart/form-data":
        given.update(request.form)
    values: dict[str, int | float] = {}
    for name, texts in given.lists():
        if name not in OPTIONS:
            raise Problem(422, f"{_shown(name)} is no option; the options are {', '.join(OPTIONS)}.")
        if len(texts) > 1:
            raise Problem(422, f"{name} is given {len(texts)} times; give it once.")
        read, kind = OPTIONS[name]
        try:
            values[name] = read(texts[0])
        except ValueError:
            raise Problem(422, f"{name} is {_shown(texts[0])}; it must be {kind}.") from None
    # The library sets no upper bounds; a service that strangers can reach must.
    for name, most in (("beam_size", settings.max_beam_size), ("max_length", settings.max_words)):
        if values.get(name, 0) > most:
            raise DecodingError(f"{name} is {values[name]}; this service allows at most {most}.")
    return dataclasses.replace(defaults, **values)  # type: ignore[arg-type]  # each reader returns its field's type


def read_pictures(request: Request, settings: Settings) -> list[Picture]:
    """The pictures of a multipart form or of a raw `image/*` body, at least one and at most `settings.max_files`.

    Raises a `Problem`: 411 without a length, 413 for too many, 415 for another kind of body, 422 for none.
    """
    if request.content_length is None:
        raise Problem(411, "Send the body with a Content-Length.")
    if request.mimetype.startswith("image/"):
        return [Picture(name=FIELD, data=request.get_data(cache=False), media_type=request.mimetype)]
    if request.mimetype != "multipart/form-data":
        raise Problem(415, f"Send multipart/form-data with a field {FIELD}, or one picture as an image/* body.")
    for name in request.files:
        if name != FIELD:
            raise Problem(422, f"{_shown(name)} is no field for pictures; name it {FIELD}.")
    files = request.files.getlist(FIELD)
    if len(files) > settings.max_files:
        raise Problem(413, f"{len(files)} pictures are too many for one request; send at most {settings.max_files}.")
    pictures = [_picture(file, number) for number, file in enumerate(files, start=1)]
    # A browser sends one empty, nameless part when nobody chose a file.
    pictures = [picture for picture, file in zip(pictures, files, strict=True) if file.filename or picture.data]
    if not pictures:
        raise Problem(422, f"There is no picture in the request; send one in the field {FIELD}.")
    return pictures


def _picture(file: FileStorage, number: int) -> Picture:
    name = (file.filename or f"{FIELD}-{number}")[:MAX_NAME_LENGTH]
    return Picture(name=name, data=file.read(), media_type=file.mimetype)


def _shown(text: str) -> str:
    """A sender's own words, short enough to send back."""
    return repr(text if len(text) <= 40 else text[:40] + "…")
