"""Pictures inside JSON: the body read within bounds, and base64 or data: URLs turned into bytes.

A picture is never fetched. Whatever looks like an address is refused with one sentence, by every route.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from flask import Request

from service.captioning import Picture
from service.problems import Problem

MAX_DEPTH = 16  # of objects and lists; the deepest that a client here sends (a picture in a chat) is 6
# Every value of the parsed body takes some 60 bytes or more, so a body of commas would take gigabytes.
MAX_VALUES = 10_000
MAX_NAME_LENGTH = 255
SHOWN_LENGTH = 40

# A string, ended or not, as one piece and without backtracking; or what opens, closes or separates values.
_PIECES = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[\]{},:]', re.DOTALL)
_ADDRESS = re.compile(r"\s*(?!data:)[a-z][a-z0-9+.-]*:|\s*//", re.IGNORECASE)
_DATA_URL = re.compile(r"data:([^,;]*)((?:;[^,;]*)*),", re.IGNORECASE)


def remote_picture(where: str = "") -> Problem:
    """The one answer to a picture by address; `where` is its place in the request, such as `images[2]`."""
    what = f", and {where} is an address" if where else ""
    return Problem(
        422,
        f"This service fetches nothing{what}: send the image itself, as a file, as base64 or as a data: URL.",
        kind="remote-picture",
    )


def holds_address(value: object) -> bool:
    """Whether a JSON value is an address, or has one inside."""
    if isinstance(value, str):
        return _ADDRESS.match(value[:MAX_NAME_LENGTH]) is not None
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(map(holds_address, inside))


def read_json(request: Request) -> dict[str, Any]:
    """The JSON object in the body, whatever media type its sender claims.

    Raises a `Problem`: 411 without a length, 400 for what is no JSON object, or one that is nested too deep, has too
    many values, names a key twice or holds what is no number or no text. The values are JSON's, hence `Any`.
    """
    if request.content_length is None:
        raise Problem(411, "Send the body with a Content-Length.")
    body = request.get_data(cache=False)
    _check_shape(body)
    try:
        parsed = json.loads(body.decode(), object_pairs_hook=_object, parse_constant=_no_number)
    except UnicodeDecodeError as error:
        raise _invalid(f"The body is no UTF-8: see {_place(body[: error.start].decode())}.") from None
    except json.JSONDecodeError as error:
        raise _invalid(f"The body is no valid JSON: see {_place(error.doc[: error.pos])}.") from None
    except ValueError:
        raise _invalid("A number in the JSON has thousands of digits; send a shorter one.") from None
    if not isinstance(parsed, dict):
        raise _invalid("The body must be one JSON object.")
    _check_text(parsed)
    return parsed


def read_encoded(text: object, *, name: str, where: str) -> Picture:
    """The picture in a base64 string or in a data: URL with base64.

    Args:
        name: what the row of the picture will call it.
        where: the place in the request, for the problem, such as `images[2]`.

    Raises a 422 `Problem` for anything else; an address of any scheme gets the sentence of `remote_picture`.
    """
    if not isinstance(text, str):
        if holds_address(text):  # such as {"url": ...}
            raise remote_picture(where)
        raise Problem(422, f"{where} must be a string: base64 or a data: URL.", kind="invalid-picture")
    media_type, encoded = "", text
    if match := _DATA_URL.match(text[:MAX_NAME_LENGTH]):
        if not match[2].lower().endswith(";base64"):
            raise Problem(422, f"{where} is a data: URL without ;base64.", kind="invalid-picture")
        media_type, encoded = match[1].strip().lower(), text[match.end() :]
    elif holds_address(text):
        raise remote_picture(where)
    try:
        if len(encoded) % 4 or encoded.endswith("==="):  # b64decode lets "AAAA=" pass
            raise binascii.Error
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):  # ValueError: letters that are not ASCII
        raise Problem(
            422, f"{where} is no base64 (A to Z, a to z, 0 to 9, + and /, padded with =).", kind="invalid-picture"
        ) from None
    return Picture(name=name, data=data, media_type=media_type)


def shown(value: object) -> str:
    """A sender's own words, short enough to send back: a text in quotation marks, any other value as JSON."""
    text = value if isinstance(value, str) else json.dumps(value)
    text = text if len(text) <= SHOWN_LENGTH else text[:SHOWN_LENGTH] + "…"
    return repr(text) if isinstance(value, str) else text


def _check_shape(body: bytes) -> None:
    """Refuse what would take much memory to parse, before it is parsed."""
    depth = 0
    for values, piece in enumerate(_PIECES.finditer(body), start=1):
        first = body[piece.start()]
        depth += (first in b"[{") - (first in b"]}")
        if depth > MAX_DEPTH:
            raise _invalid(f"The JSON is nested more than {MAX_DEPTH} deep.")
        if values > MAX_VALUES:
            raise _invalid(
                f"The JSON has too many values: send at most {MAX_VALUES} strings, brackets, commas and colons in all."
            )


def _place(before: str) -> str:
    """Where the JSON goes wrong, after all that stands `before`, as editors count."""
    return f"line {before.count(chr(10)) + 1}, column {len(before) - before.rfind(chr(10))}"


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise _invalid(f"{shown(name)} is given twice; give it once.")
        found[name] = value
    return found


def _no_number(text: str) -> NoReturn:
    raise _invalid(f"{text} is no JSON number.")


def _check_text(value: Any) -> None:
    """Refuse halves of surrogate pairs, which JSON can write and UTF-8 cannot."""
    if isinstance(value, dict):
        for name, each in value.items():
            _check_text(name)
            _check_text(each)
    elif isinstance(value, list):
        for each in value:
            _check_text(each)
    elif isinstance(value, str) and not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _invalid("The JSON holds half a surrogate pair, which is no text.") from None


def _invalid(detail: str) -> Problem:
    return Problem(400, detail, kind="invalid-json")
