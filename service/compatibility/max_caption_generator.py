"""IBM's MAX Image Caption Generator: POST /model/predict and GET /model/metadata.

From the sources IBM/MAX-Image-Caption-Generator (README.md, api/predict.py, core/model.py, config.py) and
IBM/MAX-Framework (maxfw/core/api.py) on GitHub: three captions with the probability of the whole sentence, errors as
`{"message": ...}` (flask-restplus). Pictures are told by their content here, not by their claimed type, and more
formats are read.
"""

from __future__ import annotations

import dataclasses
import math

from flask import Blueprint, Response, jsonify, request
from typing_extensions import TypedDict

from captioner.decoding.options import DecodingOptions
from service.bodies import ANY_IMAGE, FORM, RAW, UPLOAD_PROBLEMS
from service.captioning import Captioning, Engine, Picture
from service.compatibility.adapter import TAG, answer_errors, describe, error_form, name_and_digest
from service.intake import FIELD, read_pictures
from service.operations import JSON, Operation, documented
from service.problems import Problem
from service.settings import Settings

NUM_CAPTIONS = 3  # as many as MAX answers


class Prediction(TypedDict):
    """One caption of MAX; the probability is that of the whole sentence."""

    index: str
    caption: str
    probability: float


class Predictions(TypedDict):
    """MAX's answer."""

    status: str
    predictions: list[Prediction]


class MaxMetadata(TypedDict):
    """What MAX says of its model."""

    id: str
    name: str
    description: str
    type: str
    source: str
    license: str | None


class MaxError(TypedDict):
    """How MAX's clients read an error."""

    status: str
    message: str


ERRORS = error_form(MaxError)
PREDICT = Operation(
    tag=TAG,
    body={
        FORM: {"type": "object", "properties": {FIELD: RAW}, "required": [FIELD]},
        ANY_IMAGE: RAW,
    },
    answer={JSON: Predictions},
    problems=UPLOAD_PROBLEMS,
    errors=ERRORS,
    examples=("curl -F image=@photo.jpg {url}/model/predict",),
    sample={
        "status": "ok",
        "predictions": [
            {"index": "0", "caption": "a dog runs on grass", "probability": 0.0748},
            {"index": "1", "caption": "a brown dog is running", "probability": 0.0302},
        ],
    },
)
METADATA = Operation(tag=TAG, answer={JSON: MaxMetadata}, errors=ERRORS, examples=("curl {url}/model/metadata",))


def create_blueprint(captioning: Captioning, settings: Settings) -> Blueprint:
    """POST /model/predict (multipart field `image`) and GET /model/metadata."""
    adapter = Blueprint("max", __name__)

    @adapter.post("/model/predict")
    @documented(PREDICT)
    def predict() -> Response:
        """IBM's MAX Image Caption Generator: captions of one picture, at most three."""
        return jsonify(_predictions(captioning, settings))

    @adapter.get("/model/metadata")
    @documented(METADATA)
    def metadata() -> Response:
        """What IBM's MAX Image Caption Generator says of its model."""
        return jsonify(_metadata(captioning.engine))

    answer_errors(adapter, ERRORS, lambda problem, status: {"status": "error", "message": problem.detail})
    return adapter


def _predictions(captioning: Captioning, settings: Settings) -> Predictions:
    options = _options(captioning.engine.options, settings)
    with captioning.place():
        caption = describe(captioning, _read(settings), options).caption
    found = [(caption.text, caption.log_probability)]
    found += [(other.caption, other.log_probability) for other in caption.alternatives]
    predictions: list[Prediction] = [
        {"index": str(index), "caption": text, "probability": math.exp(log_probability)}
        for index, (text, log_probability) in enumerate(found)
    ]
    return {"status": "ok", "predictions": predictions}


def _metadata(engine: Engine) -> MaxMetadata:
    name, digest = name_and_digest(engine)
    return {
        "id": name,
        "name": name,
        "description": f"Captions for pictures by the model {name}, digest {digest}",
        "type": "Image-to-Text Translation",
        "source": "captioner",
        "license": engine.manifest.get("licence"),
    }


def _read(settings: Settings) -> Picture:
    pictures = read_pictures(request, settings)
    if len(pictures) != 1:
        raise Problem(422, f"Send one picture in the field {FIELD}.")
    return pictures[0]


def _options(defaults: DecodingOptions, settings: Settings) -> DecodingOptions:
    wanted = min(NUM_CAPTIONS, settings.max_beam_size)
    return dataclasses.replace(defaults, beam_size=max(wanted, defaults.beam_size), num_captions=wanted)
