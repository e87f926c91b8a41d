"""The page for people: a form that works without JavaScript, and that the script makes quicker."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response, g, make_response, render_template, request, send_from_directory
from werkzeug.exceptions import HTTPException

from captioner.decoding.options import DecodingOptions
from captioner.errors import CaptionerError
from captioner.formats import ALLOWED_FORMATS
from captioner.geometry import Geometry
from captioner.pictures.page import FAMILY, FOLDER
from captioner.pictures.percent import percent
from service.api import describe
from service.captioning import Captioning, Picture
from service.intake import read_options, read_pictures
from service.problems import Problem, as_problem, report
from service.schemas import option_schemas
from service.settings import Settings

# The photo travels back inside the answer, so only formats that every browser shows, and only so much of it.
SHOWN_TYPES = frozenset({"image/jpeg", "image/png", "image/webp", "image/gif", "image/bmp"})
MAX_SHOWN_BYTES = 16 * 2**20
PAGE_CAPTIONS = 3
# What the file chooser offers. A phone that keeps photos as HEIC makes a JPEG of them for a list without HEIC.
ACCEPTED_TYPES = ",".join(f"image/{name}" for name in ("jpeg", "png", "webp", "gif", "bmp", "tiff"))
# The name of each decoding option on the page, and what it does.
OPTION_TEXTS = {
    "beam_size": ("Beam size", "How many sentences are compared. More take longer."),
    "num_captions": ("Captions", "The best one and alternatives, no more than the beam size."),
    "length_penalty": ("Length penalty", "Less favours short captions, more favours long ones."),
    "min_length": ("Fewest words", "A caption has at least so many."),
    "max_length": ("Most words", "A caption has at most so many."),
}


@dataclass(frozen=True, kw_only=True)
class Control:
    """A number that can be chosen on the page: a decoding option and its bounds in this service."""

    name: str
    label: str
    hint: str
    least: int
    most: int
    step: str
    value: str


def create_blueprint(captioning: Captioning, settings: Settings) -> Blueprint:
    """GET / shows the form; POST / answers the plain form; GET /family.css is the style that reports have, too."""
    page = Blueprint("page", __name__)

    @page.get("/")
    def show() -> Response:
        return _render(captioning, settings)

    @page.post("/")
    def caption() -> Response:
        try:
            with captioning.place():
                pictures = read_pictures(request, settings)
                options = read_options(request, captioning.engine.options, settings)
                outcomes = captioning.outcomes(pictures, options)
        except (CaptionerError, Problem, HTTPException) as error:
            problem = as_problem(error)
            if isinstance(error, CaptionerError) and problem.status >= 500:
                report(error)
            return _render(captioning, settings, problem=problem)
        only = outcomes[0].error if len(outcomes) == 1 else None
        status = as_problem(only).status if only is not None else 200
        cards = list(zip(captioning.rows(pictures, outcomes), _shown(pictures), strict=True))
        return _render(captioning, settings, cards=cards, status=status)

    @page.get(f"/{FAMILY}")
    def family() -> Response:
        return send_from_directory(FOLDER, FAMILY)

    page.add_app_template_filter(percent, "percent")
    return page


def _render(
    captioning: Captioning,
    settings: Settings,
    *,
    cards: Sequence[tuple[dict[str, Any], str | None]] = (),
    problem: Problem | None = None,
    status: int = 200,
) -> Response:
    engine = captioning.engine
    # Keep what the sender chose; a problem while the form was read leaves none of it.
    posted = request.method == "POST" and (problem is None or problem.status == 422)
    # Where keys are needed the empty page is open to all, so that it can ask for one; the model is not.
    admitted = settings.keys_file is None or "key_name" in g
    html = render_template(
        "page.html",
        cards=cards,
        problem=problem,
        model=describe(engine) if admitted else None,
        settings=settings,
        controls=_controls(engine.options, settings, request.form if posted else {}),
        accepted=ACCEPTED_TYPES,
        formats=ALLOWED_FORMATS,
        seen_share=_seen_share(engine.manifest),
    )
    response = make_response(html, problem.status if problem is not None else status)
    if problem is not None:
        response.headers.update(problem.headers)
    return response


def _controls(defaults: DecodingOptions, settings: Settings, chosen: Mapping[str, str]) -> list[Control]:
    """One control for each decoding option, within the bounds of this service; at what was `chosen` or the default."""
    values = defaults.to_dict()
    values["num_captions"] = max(defaults.num_captions, min(PAGE_CAPTIONS, defaults.beam_size))
    controls = []
    for name, schema in option_schemas(defaults, settings).items():
        label, hint = OPTION_TEXTS[name]
        controls.append(
            Control(
                name=name,
                label=label,
                hint=hint,
                least=schema["minimum"],
                most=schema["maximum"],
                step="1" if schema["type"] == "integer" else "any",
                value=chosen.get(name, str(min(values[name], schema["maximum"]))),
            )
        )
    return controls


def _seen_share(manifest: Mapping[str, Any]) -> float | None:
    """How much of the shorter side the model sees, of a square from the middle; None if it sees the whole picture."""
    geometry = Geometry.from_dict(manifest["preprocessing"]["geometry"])
    return geometry.size / geometry.resize_size if geometry.resize == "shortest_side" else None


def _shown(pictures: Sequence[Picture]) -> list[str | None]:
    """Each picture as a data: address, or None where a browser may not show it or the page would grow too large."""
    shown: list[str | None] = []
    left = MAX_SHOWN_BYTES
    for picture in pictures:
        if picture.media_type in SHOWN_TYPES and len(picture.data) <= left:
            left -= len(picture.data)
            shown.append(f"data:{picture.media_type};base64,{base64.b64encode(picture.data).decode()}")
        else:
            shown.append(None)
    return shown
