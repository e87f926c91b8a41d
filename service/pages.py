"""What the pages, the metrics and the static files take and answer, for the OpenAPI document."""

from __future__ import annotations

from pathlib import Path

from captioner.decoding.options import DecodingOptions
from service.api import OPERATIONS
from service.bodies import UPLOAD_PROBLEMS, picture_form
from service.operations import ErrorForm, Operation, ProblemDetails
from service.problems import MEDIA_TYPE
from service.schemas import option_schemas
from service.settings import Settings

TAG = "Pages"
HTML = "text/html"
STATIC = Path(__file__).parent / "static"
# The page tells its errors itself; keys and the inside of the service answer before and behind it.
PAGE_ERRORS = ErrorForm(content={HTML: str, MEDIA_TYPE: ProblemDetails})
FILE_STATUSES = {206: "The bytes that the Range header asked for.", 304: "The sender has the file already."}


def page_operations(defaults: DecodingOptions, settings: Settings) -> dict[str, Operation]:
    """Those of the views that are not ours to decorate, or that only people use, by endpoint."""
    names = sorted(path.name for path in STATIC.iterdir())
    return {
        "page.show": Operation(
            tag=TAG,
            summary="The page for people",
            answer={HTML: str},
            examples=("curl {url}/",),
        ),
        "page.caption": Operation(
            tag=TAG,
            summary="The page's form, for browsers without JavaScript",
            body=picture_form(option_schemas(defaults, settings), settings),
            answer={HTML: str},
            problems=(*UPLOAD_PROBLEMS, "decoding-error"),
            errors=PAGE_ERRORS,
            examples=("curl -F image=@photo.jpg {url}/",),
        ),
        "page.family": Operation(
            tag=TAG,
            summary="The fonts and colours that the pages share with the reports",
            answer={"text/css": str},
            others=FILE_STATUSES,
            problems=("range-not-satisfiable",),
            examples=("curl {url}/family.css",),
        ),
        "static": Operation(
            tag=TAG,
            summary="The styles, the scripts and the icon of the pages",
            path={"filename": {"type": "string", "enum": names}},
            answer={"text/css": str, "text/javascript": str, "image/svg+xml": str},
            others=FILE_STATUSES,
            problems=("not-found", "range-not-satisfiable"),
            examples=("curl {url}/static/page.css",),
        ),
        "metrics": Operation(
            tag=OPERATIONS,
            summary="What is counted, for Prometheus",
            answer={"text/plain": str},
            examples=("curl {url}/metrics",),
        ),
    }
