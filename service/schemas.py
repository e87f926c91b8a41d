"""JSON Schemas of the types in the code: answers (typed dictionaries), decoding options, and problems."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Annotated, Any, NotRequired, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter
from typing_extensions import is_typeddict

from captioner.decoding.options import BOUNDS, DecodingOptions
from service.operations import Schema
from service.problems import ProblemType
from service.settings import Settings

REFERENCE = "#/components/schemas/{model}"
OPTIONS = DecodingOptions.__name__


@functools.cache
def answer_schemas(kinds: tuple[Any, ...]) -> tuple[Mapping[Any, Schema], Mapping[str, Schema]]:
    """The schema of each of the `kinds`, and the named schemas that these refer to.

    Do not change what it returns: the next caller gets the same.
    """
    found, rest = TypeAdapter.json_schemas(
        [(kind, "serialization", TypeAdapter(kind)) for kind in kinds], ref_template=REFERENCE
    )
    named: dict[str, Schema] = rest.get("$defs", {})
    for kind in _typed_dictionaries(kinds):
        _add_notes(named[kind.__name__], kind)
    if OPTIONS in named:
        named[OPTIONS] = {
            "type": "object",
            "description": "The decoding options that a request has if it gives none.",
            "properties": {name: _without_default(schema) for name, schema in option_schemas().items()},
            "required": list(option_schemas()),
        }
    return {kind: found[kind, "serialization"] for kind in kinds}, named


def option_schemas(defaults: DecodingOptions | None = None, settings: Settings | None = None) -> dict[str, Schema]:
    """The schema of each decoding option: its type, bounds and text from `DecodingOptions`.

    `defaults` are the model's. `settings` lower some bounds.
    """
    told = dict(re.findall(r"^ {4}(\w+): (.+(?:\n {8}.+)*)", DecodingOptions.__doc__ or "", re.MULTILINE))
    bounds = BOUNDS if settings is None else settings.option_bounds
    schemas = {}
    for name, kind in get_type_hints(DecodingOptions).items():
        schema = TypeAdapter(kind).json_schema()
        if name in bounds:
            schema |= dict(zip(("minimum", "maximum"), bounds[name], strict=True))
        schema["default"] = getattr(defaults or DecodingOptions(), name)
        text = " ".join(told[name].split())
        schemas[name] = schema | {"description": text[0].upper() + text[1:]}
    return schemas


def problem_schema(kind: ProblemType) -> Schema:
    """One problem type: what every answer of it has."""
    properties = {
        "type": {"const": kind.uri},
        "title": {"const": kind.title},
        "status": {"const": kind.status},
        "detail": {"type": "string", "description": "One sentence for people: what was wrong and what to do."},
    }
    if kind.name == "internal-error":
        properties["instance"] = {"type": "string", "description": "The number of the error in the log, a URN."}
    return {
        "type": "object",
        "description": kind.meaning,
        "properties": properties,
        "required": ["type", "title", "status", "detail"],
    }


def _without_default(schema: Schema) -> Schema:
    return {name: value for name, value in schema.items() if name != "default"}


def _typed_dictionaries(kinds: tuple[Any, ...]) -> set[Any]:
    """Those among the `kinds`, and those that they are made of."""
    found: set[Any] = set()
    waiting = list(kinds)
    while waiting:
        kind = waiting.pop()
        if is_typeddict(kind) and kind not in found:
            found.add(kind)
            waiting += get_type_hints(kind).values()
        waiting += get_args(kind)
    return found


def _add_notes(schema: Schema, kind: Any) -> None:
    """Put the texts of `Annotated` members into their schemas: pydantic leaves plain strings alone."""
    schema.pop("title", None)
    for name, member in schema["properties"].items():
        member.pop("title", None)
        hint = get_type_hints(kind, include_extras=True)[name]
        if get_origin(hint) is NotRequired:
            (hint,) = get_args(hint)
        for note in hint.__metadata__ if get_origin(hint) is Annotated else ():
            if isinstance(note, str):
                member["description"] = note
