"""What a route takes and answers, told beside its code; service/openapi.py makes the document of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from typing_extensions import TypedDict

from service.problems import MEDIA_TYPE

JSON = "application/json"
# JSON Schema 2020-12, which is what OpenAPI 3.1 has: JSON values, hence `Any`.
Schema = dict[str, Any]
View = TypeVar("View", bound=Callable[..., Any])


class ProblemDetails(TypedDict):
    """An RFC 9457 problem; each of the problem types narrows it."""

    type: str
    title: str
    status: int
    detail: str


@dataclass(frozen=True, kw_only=True)
class ErrorForm:
    """What errors look like on a route: the type of the body in each media type, and statuses that differ from ours."""

    content: Mapping[str, Any]
    statuses: Mapping[int, int] = field(default_factory=dict)


PROBLEMS = ErrorForm(content={MEDIA_TYPE: ProblemDetails})


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One method of one route.

    Attributes:
        tag: the group of routes that it is one of.
        answer: the type of the answer in each media type: a TypedDict, a list of one, or str for a text.
        others: further statuses of success beside 200, with their meaning.
        query: the schema of each parameter of the query; none of them is required.
        path: the schema of each part of the path.
        body: the schema of the body in each media type; of none the route takes no body.
        problems: the names of the problem types of its own; those that every route may answer are added.
        errors: the form of these.
        examples: commands for a shell, with `{url}` for the address of the service.
        sample: an answer in JSON.
        summary: its name in a few words; `documented` takes it from the view's docstring.
        description: what more there is to say of it; from there as well.
    """

    tag: str
    answer: Mapping[str, Any]
    others: Mapping[int, str] = field(default_factory=dict)
    query: Mapping[str, Schema] = field(default_factory=dict)
    path: Mapping[str, Schema] = field(default_factory=dict)
    body: Mapping[str, Schema] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    errors: ErrorForm = PROBLEMS
    examples: tuple[str, ...] = ()
    sample: Any = None
    summary: str = ""
    description: str = ""


_OPERATIONS: WeakKeyDictionary[Callable[..., Any], Operation] = WeakKeyDictionary()


def documented(operation: Operation) -> Callable[[View], View]:
    """Tell what a view takes and answers. The first line of its docstring is the summary, the rest the description."""

    def tell(view: View) -> View:
        summary, _, description = (view.__doc__ or "").strip().partition("\n")
        _OPERATIONS[view] = dataclasses.replace(
            operation,
            summary=operation.summary or summary.rstrip("."),
            description=operation.description or " ".join(description.split()),
        )
        return view

    return tell


def operation_of(view: Callable[..., Any]) -> Operation | None:
    """What was told of a view."""
    return _OPERATIONS.get(view)
