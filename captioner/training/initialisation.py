"""Starting from a bundle: a new network takes over its weights and the vectors of the words that both know."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import torch

from captioner.bundle import Bundle
from captioner.errors import ConfigurationError
from captioner.manifest import digest_of
from captioner.model.caption_model import CaptionModel
from captioner.model.configuration import DecoderConfiguration, EncoderConfiguration
from captioner.preprocessing import Preprocessing
from captioner.text.vocabulary import Vocabulary


def settings_of(
    encoder: EncoderConfiguration, decoder: DecoderConfiguration, preprocessing: Preprocessing
) -> dict[str, Any]:
    """What a network's weights are tied to, as a configuration file of `captioner train` says it."""
    return {
        "model": {"encoder": asdict(encoder), "decoder": asdict(decoder)},
        "data": {"preprocessing": preprocessing.to_dict()},
    }


def settings_of_bundle(start: Bundle) -> dict[str, Any]:
    """`settings_of` the network in `start`."""
    return settings_of(start.model.encoder.configuration, start.model.decoder.configuration, start.preprocessing)


def refuse_contradictions(given: dict[str, Any], start: Bundle) -> None:
    """Compare the settings of a run with those of the bundle that it starts from; only dropout may differ.

    Raises:
        ConfigurationError: two differ.
    """
    for room, parts in settings_of_bundle(start).items():
        for part, values in parts.items():
            for name, value in values.items():
                wanted = given[room][part][name]
                if wanted != value and name != "dropout":
                    raise ConfigurationError(
                        f"{room}.{part}.{name} is {wanted}, but the bundle to start from has {value}: leave it out"
                    )


def copy_weights(start: Bundle, model: CaptionModel, vocabulary: Vocabulary) -> int:
    """Copy the weights of `start` into `model`, whose words are `vocabulary`; both have the same configuration.

    Returns:
        How many ordinary words both vocabularies share. Words that `start` does not know keep their random vectors.
    """
    state = start.model.state_dict()
    fresh = model.state_dict()
    known = {word: i for i, word in enumerate(start.vocabulary.words)}
    pairs = [(i, known[word]) for i, word in enumerate(vocabulary.words) if word in known]
    new, old = (torch.tensor(ids) for ids in zip(*pairs, strict=True))
    for name in ("decoder.embedding.weight", "decoder.bias"):  # the two that have a row a word
        rows = fresh[name].clone()
        rows[new] = state[name][old]
        state[name] = rows
    model.load_state_dict(state)
    return len(set(start.vocabulary.ordinary) & set(vocabulary.ordinary))


def start_from_bundle(start: Bundle, path: str, model: CaptionModel, vocabulary: Vocabulary) -> dict[str, str]:
    """Copy the weights of `start`, which was loaded from `path`; returns what the record of the training says of it."""
    shared = copy_weights(start, model, vocabulary)
    click.echo(f"{path}: {shared} of {len(vocabulary.ordinary)} words of the data keep their vectors", err=True)
    return {"bundle": f"{start.name}@{digest_of(path)}"}


def start_from_weights(weights: str | None, model: CaptionModel) -> dict[str, str]:
    """Load the encoder's `weights` (as CaptionModule takes them); returns what the record of the training says of it.

    Raises:
        CaptionerError: they cannot be used.
    """
    if weights is None:
        return {"weights": "random"}
    model.encoder.load_weights(weights)
    if weights == "DEFAULT":
        return {"weights": "DEFAULT"}
    with Path(weights).open("rb") as file:
        return {"weights": Path(weights).name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
