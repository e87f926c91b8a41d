"""What Ollama's routes tell of the one model: GET /api/tags, GET /api/ps, POST /api/show and GET /api/version.

Members that Ollama has and that would be made up here are absent or empty: sizes, a template, when a model is unloaded.
"""

from __future__ import annotations

from datetime import UTC, datetime

from typing_extensions import TypedDict

import captioner
from service.bodies import json_body
from service.captioning import Engine
from service.compatibility.adapter import TAG, error_form, name_and_digest
from service.operations import JSON, Operation


class OllamaDetails(TypedDict):
    """What Ollama tells of a model's file."""

    parent_model: str
    format: str
    family: str
    families: list[str]
    parameter_size: str
    quantization_level: str


class OllamaModel(TypedDict):
    """The model, as Ollama lists it."""

    name: str
    model: str
    modified_at: str
    digest: str
    details: OllamaDetails


class OllamaModels(TypedDict):
    """Ollama's list of models."""

    models: list[OllamaModel]


class OllamaShow(TypedDict):
    """Ollama's description of a model."""

    license: str | None
    modelfile: str
    parameters: str
    template: str
    details: OllamaDetails
    model_info: dict[str, str]
    capabilities: list[str]
    modified_at: str


class OllamaVersion(TypedDict):
    """The version of the service."""

    version: str


class OllamaError(TypedDict):
    """How Ollama's clients read an error."""

    error: str


ERRORS = error_form(OllamaError)
TAGS = Operation(tag=TAG, answer={JSON: OllamaModels}, errors=ERRORS, examples=("curl {url}/api/tags",))
PS = Operation(tag=TAG, answer={JSON: OllamaModels}, errors=ERRORS, examples=("curl {url}/api/ps",))
SHOW = Operation(
    tag=TAG,
    body=json_body({"model": {"description": "Whatever it names, the answer is the same."}}),
    answer={JSON: OllamaShow},
    problems=("invalid-json", "length-required"),
    errors=ERRORS,
    examples=("""curl --json '{"model": "captioner"}' {url}/api/show""",),
)
VERSION = Operation(tag=TAG, answer={JSON: OllamaVersion}, errors=ERRORS, examples=("curl {url}/api/version",))


def now() -> str:
    """This moment as Ollama writes it."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


def model_name(engine: Engine) -> str:
    """The model's name as Ollama writes it, with a tag."""
    return f"{name_and_digest(engine)[0]}:latest"


def models(engine: Engine, since: str) -> OllamaModels:
    """The list of models, of those that there are and of those that are loaded: one, the same, loaded `since`."""
    name = model_name(engine)
    digest = name_and_digest(engine)[1]
    return {"models": [{"name": name, "model": name, "modified_at": since, "digest": digest, "details": _details()}]}


def description(engine: Engine, since: str) -> OllamaShow:
    """What Ollama tells of a model; `since` as in `models`."""
    name, digest = name_and_digest(engine)
    return {
        "license": engine.manifest.get("licence"),
        "modelfile": "",
        "parameters": "",
        "template": "",
        "details": _details(),
        "model_info": {"general.architecture": "captioner", "general.name": name, "captioner.digest": digest},
        "capabilities": ["completion", "vision"],
        "modified_at": since,
    }


def version() -> OllamaVersion:
    """The version of the service."""
    return {"version": captioner.__version__}


def _details() -> OllamaDetails:
    return {
        "parent_model": "",
        "format": "safetensors",
        "family": "captioner",
        "families": ["captioner"],
        "parameter_size": "",
        "quantization_level": "",
    }
