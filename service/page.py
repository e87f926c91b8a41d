"""The page for people: a form that works without JavaScript, and that the script makes quicker."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

from flask import Blueprint, Response, make_response, render_template, request, send_from_directory
from werkzeug.exceptions import HTTPException

from captioner.errors import CaptionerError
from captioner.pictures.page import FAMILY, FOLDER
from captioner.pictures.percent import percent
from service.api import describe
from service.captioning import Captioning, Picture
from service.intake import OPTIONS, read_options, read_pictures
from service.problems import Problem, as_problem, report
from service.settings import Settings

# The photo travels back inside the answer, so only formats that every browser shows, and only so much of it.
SHOWN_TYPES = frozenset({"image/jpeg", "image/png", "image/webp", "image/gif", "image/bmp"})
MAX_SHOWN_BYTES = 16 * 2**20
PAGE_CAPTIONS = 3


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
    defaults = captioning.engine.options
    chosen = {
        "beam_size": str(defaults.beam_size),
        "num_captions": str(max(defaults.num_captions, min(PAGE_CAPTIONS, defaults.beam_size))),
    }
    # Keep what the sender chose; a problem while the form was read leaves none of it.
    if request.method == "POST" and (problem is None or problem.status == 422):
        chosen |= {name: request.form[name] for name in OPTIONS if name in request.form}
    html = render_template(
        "page.html",
        cards=cards,
        problem=problem,
        model=describe(captioning.engine),
        settings=settings,
        beam_sizes=sorted({1, 2, 3, 5, 8, defaults.beam_size}),
        caption_counts=range(1, 6),
        chosen=chosen,
    )
    response = make_response(html, problem.status if problem is not None else status)
    if problem is not None:
        response.headers.update(problem.headers)
    return response


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
