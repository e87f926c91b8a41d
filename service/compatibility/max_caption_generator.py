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

from captioner.decoding.options import DecodingOptions
from service.captioning import Captioning, Picture
from service.compatibility.adapter import answer_errors, describe, name_and_digest
from service.intake import FIELD, read_pictures
from service.problems import Problem
from service.settings import Settings

NUM_CAPTIONS = 3  # as many as MAX answers


def create_blueprint(captioning: Captioning, settings: Settings) -> Blueprint:
    """POST /model/predict (multipart field `image`) and GET /model/metadata."""
    adapter = Blueprint("max", __name__)

    def read() -> Picture:
        pictures = read_pictures(request, settings)
        if len(pictures) != 1:
            raise Problem(422, f"Send one picture in the field {FIELD}.")
        return pictures[0]

    @adapter.post("/model/predict")
    def predict() -> Response:
        options = _options(captioning.engine.options, settings)
        with captioning.place():
            caption = describe(captioning, read(), options).caption
        found = [(caption.text, caption.log_probability)]
        found += [(other.caption, other.log_probability) for other in caption.alternatives]
        predictions = [
            {"index": str(index), "caption": text, "probability": math.exp(log_probability)}
            for index, (text, log_probability) in enumerate(found)
        ]
        return jsonify({"status": "ok", "predictions": predictions})

    @adapter.get("/model/metadata")
    def metadata() -> Response:
        name, digest = name_and_digest(captioning.engine)
        return jsonify(
            {
                "id": name,
                "name": name,
                "description": f"Captions for pictures by the model {name}, digest {digest}",
                "type": "Image-to-Text Translation",
                "source": "captioner",
                "license": captioning.engine.manifest.get("licence"),
            }
        )

    answer_errors(adapter, lambda problem, status: {"status": "error", "message": problem.detail})
    return adapter


def _options(defaults: DecodingOptions, settings: Settings) -> DecodingOptions:
    wanted = min(NUM_CAPTIONS, settings.max_beam_size)
    return dataclasses.replace(defaults, beam_size=max(wanted, defaults.beam_size), num_captions=wanted)
