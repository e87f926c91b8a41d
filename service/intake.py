"""What a request asks for: its pictures and its options, checked before the model sees anything."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import Any, get_type_hints

from flask import Request
from werkzeug.datastructures import FileStorage, MultiDict

from captioner.decoding.options import DecodingOptions
from captioner.errors import DecodingError, UnreadableImage
from service.captioning import Picture
from service.encoded import MAX_NAME_LENGTH, holds_address, read_encoded, read_json, remote_picture, shown
from service.problems import Problem
from service.settings import Settings

FIELD = "image"
IMAGES = "images"  # the member of a JSON body
ATTENTION = "attention"
ADDRESSES = frozenset({FIELD, IMAGES, "url", "urls", "image_url"})  # as text, these can only name a picture
_ADDRESS = re.compile(r"\s*[a-z][a-z0-9+.-]*://", re.IGNORECASE)
# Each option and the type of its numbers.
OPTIONS: dict[str, type[int] | type[float]] = get_type_hints(DecodingOptions)
# For each type of a number: how a query or a form writes it, and what to say of anything else. float() and int() also
# read "1_000", other alphabets' digits and surrounding spaces; JSON, and so every program, does not write these.
_NUMBERS: dict[type, tuple[re.Pattern[str], str]] = {
    int: (re.compile(r"-?[0-9]+"), "a whole number"),
    float: (re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?"), "a number"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class CaptionRequest:
    """What `POST /v1/captions` was asked: pictures, how to decode, and whether the rows show the attention."""

    pictures: list[Picture]
    options: DecodingOptions
    attention: bool


def is_json(request: Request) -> bool:
    """Whether the sender says that the body is JSON."""
    return bool(request.is_json)


def read_caption_request(request: Request, defaults: DecodingOptions, settings: Settings) -> CaptionRequest:
    """The request in any of its three forms: multipart, a raw picture, or JSON. Raises as the readers below."""
    if not is_json(request):
        pictures = read_pictures(request, settings)
        given = _texts(request)
        attention = _truth(given.pop(ATTENTION)) if ATTENTION in given else False
        return CaptionRequest(
            pictures=pictures, options=_from_texts(given, {}, defaults, settings), attention=attention
        )
    body = read_json(request)
    given = _texts(request)
    refuse_addresses(given)
    pictures = read_json_pictures(body, settings)
    for name in given:
        if name in body:
            raise _invalid(f"{name} is given in the address and in the body; give it once.")
    attention = _truth(given.pop(ATTENTION)) if ATTENTION in given else body.pop(ATTENTION, False)
    if isinstance(attention, str):
        raise _text(ATTENTION, attention, "true or false")
    if not isinstance(attention, bool):
        raise _invalid(f"{ATTENTION} is {shown(attention)}; it must be true or false.")
    return CaptionRequest(pictures=pictures, options=_from_texts(given, body, defaults, settings), attention=attention)


def read_options(request: Request, defaults: DecodingOptions, settings: Settings) -> DecodingOptions:
    """The decoding options in the query or in the form, over `defaults`.

    Raises a 422 `Problem` for an unknown option, one given twice or one that is no number, and `DecodingError` for
    values that are out of range.
    """
    return _from_texts(_texts(request), {}, defaults, settings)


def read_pictures(request: Request, settings: Settings) -> list[Picture]:
    """The pictures of a multipart form or of a raw `image/*` body, at least one and at most `settings.max_files`.

    Raises a `Problem`: 400 for a form without a boundary, 411 without a length, 413 for too many, 415 for another kind
    of body, 422 for none.
    """
    if request.content_length is None:
        raise Problem(411, "Send the body with a Content-Length.")
    if request.mimetype.startswith("image/"):
        return [read_raw(request)]
    if request.mimetype != "multipart/form-data":
        raise Problem(
            415,
            f"Send multipart/form-data with a field {FIELD}, one picture as an image/* body, or JSON with {IMAGES} and "
            "Content-Type: application/json.",
        )
    if not request.mimetype_params.get("boundary"):
        raise Problem(
            400,
            "The form has no boundary: leave Content-Type to your client; it adds the boundary.",
            kind="bad-request",
        )
    for name in request.files:
        if name != FIELD:
            raise _invalid(f"{shown(name)} is no field for pictures; name it {FIELD}.")
    files = request.files.getlist(FIELD)
    _check_number(len(files), settings)
    pictures = [_picture(file, number) for number, file in enumerate(files, start=1)]
    # A browser sends one empty, nameless part when nobody chose a file.
    pictures = [picture for picture, file in zip(pictures, files, strict=True) if file.filename or picture.data]
    if not pictures:
        if (text := request.form.get(FIELD)) is not None:
            if _ADDRESS.match(text):
                raise remote_picture(f"the field {FIELD}")
            raise Problem(
                422, f"The field {FIELD} holds text, not a file; with curl write {FIELD}=@a.jpg.", kind="no-picture"
            )
        refuse_addresses((*request.form, *request.args))
        raise Problem(422, f"There is no picture in the request; send one in the field {FIELD}.", kind="no-picture")
    return pictures


def read_raw(request: Request) -> Picture:
    """The picture that is the whole body. Raises a 422 `Problem` for an address."""
    data = request.get_data(cache=False)
    if _ADDRESS.match(data[:MAX_NAME_LENGTH].decode("latin-1")):
        raise remote_picture("the body")
    return Picture(name=FIELD, data=data, media_type=request.mimetype)


def refuse_addresses(names: Iterable[str]) -> None:
    """Raise a 422 `Problem` if a field or a parameter among the `names` can only be there to name a picture."""
    if any(name in ADDRESSES for name in names):
        raise remote_picture()


def read_json_pictures(body: dict[str, Any], settings: Settings) -> list[Picture]:
    """The pictures of the member `images`, which is taken out of a JSON `body`: one string or a list of them.

    Among many, a string that is no picture fails alone: its picture has the error. Raises as `read_pictures`.
    """
    refuse_addresses(body.keys() - {FIELD, IMAGES})
    if FIELD in body:
        if holds_address(body[FIELD]):
            raise remote_picture(FIELD)
        raise _invalid(f"{FIELD!r} is no field here; name it {IMAGES}.")
    images: object = body.pop(IMAGES, None)
    if images is None or images == []:
        raise Problem(422, f"There is no picture in the request; send one in {IMAGES}.", kind="no-picture")
    if isinstance(images, str):
        images = [images]
    if not isinstance(images, list):
        if holds_address(images):
            raise remote_picture(IMAGES)
        raise Problem(422, f"{IMAGES} must be a list of strings: base64 or data: URLs.", kind="invalid-picture")
    _check_number(len(images), settings)
    pictures = []
    for number, text in enumerate(images, start=1):
        name = f"{FIELD}-{number}"
        try:
            pictures.append(read_encoded(text, name=name, where=f"{IMAGES}[{number - 1}]"))
        except Problem as problem:
            if len(images) == 1 or not isinstance(text, str):  # what is no string breaks the form of the request
                raise
            pictures.append(Picture(name=name, data=b"", media_type="", error=UnreadableImage(problem.detail)))
    return pictures


def _texts(request: Request) -> dict[str, str]:
    """The parameters of the query and of the form, each of which is given once."""
    given: MultiDict[str, str] = MultiDict(request.args)
    if request.mimetype == "multipart/form-data":
        given.update(request.form)
    for name, texts in given.lists():
        if len(texts) > 1:
            raise _invalid(f"{shown(name)} is given {len(texts)} times; give it once.")
    return given.to_dict()


def _from_texts(
    texts: Mapping[str, str], members: Mapping[str, Any], defaults: DecodingOptions, settings: Settings
) -> DecodingOptions:
    """Options over `defaults` from `texts` of a query or a form and from `members` of a JSON body."""
    refuse_addresses((*texts, *members))
    values: dict[str, Any] = {}
    for name in (*texts, *members):
        if name not in OPTIONS:
            raise _invalid(f"{shown(name)} is no option; the options are {', '.join((*OPTIONS, ATTENTION))}.")
        form, described = _NUMBERS[OPTIONS[name]]
        given = texts[name] if name in texts else members[name]
        if name in members and isinstance(given, str):
            raise _text(name, given, described)
        # float() takes thousands of digits as well, int() refuses them.
        number = float(given) if name in texts and form.fullmatch(given) else given
        values[name] = _option(name, number, given, settings.option_bounds[name])
    return dataclasses.replace(defaults, **values)


def _option(name: str, number: object, given: object, bounds: tuple[int, int]) -> int | float:
    """The number of an option, `given` by its sender in other words, within the `bounds` of this service.

    The library's own bounds are wider; its sentences would name numbers that are refused here.
    """
    kind = OPTIONS[name]
    _, described = _NUMBERS[kind]
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise _invalid(f"{name} is {shown(given)}; it must be {described}.")
    least, most = bounds
    if number > most:
        raise DecodingError(f"{name} is {shown(given)}, which is too large: send {described} from {least} to {most}.")
    if number < least:
        raise DecodingError(f"{name} is {shown(given)}, which is too small: send {described} from {least} to {most}.")
    if number != kind(number):  # JSON knows no difference between 3 and 3.0
        raise _invalid(f"{name} is {shown(given)}; it must be {described}.")
    return kind(number)


def _text(name: str, text: str, described: str) -> Problem:
    return _invalid(f"{name} is the text {shown(text)}; it must be {described}, without quotation marks.")


def _truth(text: str) -> bool:
    if text not in ("true", "false"):
        raise _invalid(f"{ATTENTION} is {shown(text)}; it must be true or false.")
    return text == "true"


def _check_number(pictures: int, settings: Settings) -> None:
    if pictures > settings.max_files:
        raise Problem(
            413,
            f"{pictures} pictures are too many for one request; send at most {settings.max_files}.",
            kind="too-many-pictures",
        )


def _picture(file: FileStorage, number: int) -> Picture:
    name = (file.filename or f"{FIELD}-{number}")[:MAX_NAME_LENGTH]
    return Picture(name=name, data=file.read(), media_type=file.mimetype)


def _invalid(detail: str) -> Problem:
    return Problem(422, detail, kind="invalid-field")
