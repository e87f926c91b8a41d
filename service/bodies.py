"""The bodies that our own routes take, as JSON Schemas by media type, and what may be wrong with their pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from captioner.decoding.options import DecodingOptions
from captioner.formats import ALLOWED_FORMATS
from service.intake import ATTENTION, FIELD, IMAGES
from service.operations import JSON, Schema
from service.schemas import option_schemas
from service.scoring import MAX_SENTENCE_LENGTH, MAX_SENTENCES, SENTENCE, SENTENCES
from service.settings import Settings

FORM = "multipart/form-data"
ANY_IMAGE = "image/*"
RAW: Schema = {"type": "string", "contentMediaType": ANY_IMAGE, "description": f"The bytes of a {ALLOWED_FORMATS}."}
ENCODED: Schema = {
    "type": "string",
    "contentMediaType": ANY_IMAGE,
    "contentEncoding": "base64",
    "description": "A picture in base64, or in a data: URL with base64.",
}
# What may be wrong with the pictures of a request, however they come; in a form or a raw body; and in JSON.
_PICTURE_PROBLEMS = (
    "length-required",
    "image-too-large",
    "unsupported-format",
    "invalid-field",
    "unreadable-image",
    "no-picture",
    "remote-picture",
)
UPLOAD_PROBLEMS = (*_PICTURE_PROBLEMS, "too-many-pictures", "unsupported-media-type")
ENCODED_PROBLEMS = (*_PICTURE_PROBLEMS, "invalid-json", "invalid-picture")


def query_schemas(defaults: DecodingOptions, settings: Settings) -> dict[str, Schema]:
    """The parameters of POST /v1/captions, in its query or as fields of its form: decoding options and attention."""
    attention: Schema = {
        "type": "boolean",
        "default": False,
        "description": "Whether the rows show where the model looked for each word.",
    }
    return option_schemas(defaults, settings) | {ATTENTION: attention}


def caption_bodies(defaults: DecodingOptions, settings: Settings) -> dict[str, Schema]:
    """Of POST /v1/captions."""
    parameters = query_schemas(defaults, settings)
    return {
        FORM: _closed({FIELD: _files(settings), **parameters}, FIELD),
        ANY_IMAGE: RAW,
        JSON: _closed({IMAGES: _encoded(settings), **parameters}, IMAGES),
    }


def score_bodies(settings: Settings) -> dict[str, Schema]:
    """Of POST /v1/score."""
    sentence: Schema = {"type": "string", "minLength": 1, "maxLength": MAX_SENTENCE_LENGTH}
    sentences: Schema = {"type": "array", "items": sentence, "minItems": 1, "maxItems": MAX_SENTENCES}
    described = sentences | {"description": "Every sentence is tried on every picture."}
    return {
        FORM: _closed({FIELD: _files(settings), SENTENCE: described}, FIELD, SENTENCE),
        JSON: _closed({IMAGES: _encoded(settings), SENTENCES: {"anyOf": [described, sentence]}}, IMAGES, SENTENCES),
    }


def picture_form(parameters: Mapping[str, Any], settings: Settings) -> dict[str, Schema]:
    """A form with pictures, and `parameters` that its sender may leave out."""
    return {FORM: _closed({FIELD: _files(settings), **parameters}, FIELD)}


def json_body(members: Mapping[str, Schema], *required: str) -> dict[str, Schema]:
    """A JSON object whose other members are ignored."""
    return {JSON: {"type": "object", "properties": dict(members), "required": list(required)}}


def _files(settings: Settings) -> Schema:
    return {
        "type": "array",
        "items": RAW,
        "minItems": 1,
        "maxItems": settings.max_files,
        "description": f"The field once for each picture: {ALLOWED_FORMATS}.",
    }


def _encoded(settings: Settings) -> Schema:
    many: Schema = {"type": "array", "items": ENCODED, "minItems": 1, "maxItems": settings.max_files}
    return {"anyOf": [many, ENCODED], "description": "Pictures in base64 or in data: URLs; one may stand alone."}


def _closed(members: Mapping[str, Schema], *required: str) -> Schema:
    return {
        "type": "object",
        "properties": dict(members),
        "required": list(required),
        "additionalProperties": False,
    }
