"""What the adapters share: one picture to its caption, and errors in the shape that a client expects."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response, jsonify, request
from werkzeug.exceptions import HTTPException, NotFound

from captioner.captions import Caption
from captioner.decoding.options import DecodingOptions
from service.captioning import Captioning, Engine, Picture
from service.encoded import read_encoded, shown
from service.operations import JSON, ErrorForm
from service.problems import Problem, reported

TAG = "For other clients"
# The services that are imitated here answer 400 where ours is more exact.
AS_BAD_REQUEST: Mapping[int, int] = {411: 400, 415: 400, 422: 400}


@dataclass(frozen=True, kw_only=True)
class Described:
    """A caption, the seconds that it took, and the name and digest of the model that wrote it."""

    caption: Caption
    seconds: float
    model: str
    digest: str

    @property
    def pieces(self) -> list[str]:
        """The text in the pieces that a stream sends: its words, each with the space after it."""
        return re.findall(r"\S+\s*", self.caption.text)


def describe(captioning: Captioning, picture: Picture, options: DecodingOptions | None = None) -> Described:
    """The caption of one picture. Call it, and take the request apart, inside `captioning.place()`.

    Raises `ImageError` for a bad picture and what `captioning.outcomes` raises.
    """
    started = time.monotonic()
    (outcome,) = captioning.outcomes([picture], options or captioning.engine.options)
    if outcome.caption is None:
        assert outcome.error is not None
        raise outcome.error
    name, digest = name_and_digest(captioning.engine)
    return Described(caption=outcome.caption, seconds=time.monotonic() - started, model=name, digest=digest)


def name_and_digest(engine: Engine) -> tuple[str, str]:
    """The two parts of `Engine.model`."""
    name, _, digest = engine.model.partition("@")
    return name, digest


def only_picture(images: object, where: str) -> Picture:
    """The picture of a list with one string, base64 or a data: URL. Raises a 422 `Problem` for anything else."""
    if not isinstance(images, list) or len(images) != 1:
        raise Problem(422, f"Send one picture in {where}, as base64.", kind="no-picture")
    return read_encoded(images[0], name="image", where=f"{where}[0]")


def error_form(kind: type, statuses: Mapping[int, int] = AS_BAD_REQUEST) -> ErrorForm:
    """Errors as JSON of this `kind`. `statuses` maps ours to those of the imitated service, where they differ."""
    return ErrorForm(content={JSON: kind}, statuses=statuses)


def answer_errors(
    blueprint: Blueprint, form: ErrorForm, shape: Callable[[Problem, int], Any], *, below: str | None = None
) -> None:
    """Answer every error of the blueprint's routes in the `shape` (problem and status to JSON) of its clients.

    `form` says what `shape` makes, and which statuses differ from ours. An address without a route that begins with
    `below` is answered so, too: what else the clients ask for.
    """

    def answer(error: Exception) -> Response:
        problem = reported(error)
        status = form.statuses.get(problem.status, problem.status)
        response = jsonify(shape(problem, status))
        response.status_code = status
        response.headers.update(problem.headers)
        return response

    for kind in (HTTPException, Exception):
        blueprint.register_error_handler(kind, answer)
    if below is None:
        return

    # A request without a route has no blueprint, so no handler above sees it.
    @blueprint.before_app_request
    def not_served() -> Response | None:
        if not isinstance(request.routing_exception, NotFound) or not request.path.startswith(below):
            return None
        return answer(Problem(404, f"{shown(request.path)} is not served here; /docs lists what is."))
