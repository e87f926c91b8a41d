"""What the settings of a model's training may not say, each in one sentence."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from captioner.errors import ConfigurationError
from captioner.model.configuration import DecoderConfiguration
from captioner.training.losses import CrossEntropyOptions
from captioner.training.self_critical import SelfCriticalOptions
from captioner.training.truncation import Truncation


def refuse_rates(rates: Mapping[str, float], warmup: float) -> None:
    """Refuse numbers that no optimiser can follow.

    Args:
        rates: by name, learning rates and weight decay.
        warmup: a share of all steps.

    Raises:
        ConfigurationError: one of them is infinite, below 0 or, for `warmup`, above 1.
    """
    for name, number in rates.items():
        if not 0.0 <= number < math.inf:
            raise ConfigurationError(f"model.{name} is {number}; it must be a finite number of 0 or more")
    if not 0.0 <= warmup <= 1.0:
        raise ConfigurationError(f"model.warmup is {warmup}; it is a share of all steps, from 0 to 1")


def refuse_start(weights: str | None, init_from: str | None, train_encoder_from: str | None) -> None:
    """Refuse an encoder that starts nowhere, or at two places; the settings are those of CaptionModule.

    Raises:
        ConfigurationError: it would stay random, or both of two starts are given.
    """
    if weights is None and init_from is None and train_encoder_from != "all":
        raise ConfigurationError(
            "an encoder with random weights must learn: begin with a trained model (--init-from BUNDLE; the shipped "
            "one is captioner/bundles/default), with an encoder's weights (--model.weights), or from nothing "
            "(--model.train_encoder_from all)"
        )
    if weights is not None and init_from is not None:
        raise ConfigurationError("model.weights and --init-from both say where the encoder starts: give one of them")


def refuse_objectives(
    cross_entropy: CrossEntropyOptions,
    truncation: Truncation,
    self_critical: SelfCriticalOptions | None,
    decoder: DecoderConfiguration,
    init_from: str | None,
) -> None:
    """Refuse objectives that contradict each other, the decoder or the start of the run.

    Raises:
        ConfigurationError: two of the settings cannot both hold.
    """
    if self_critical is not None and init_from is None:
        raise ConfigurationError(
            "self-critical training rewards captions that the model draws, so it must speak already: train it with "
            "cross-entropy first, and give that bundle by --init-from"
        )
    if self_critical is not None and truncation.mode != "full":
        raise ConfigurationError(
            "self-critical training goes back through the whole caption: leave model.truncation out"
        )
    if cross_entropy.attention_regularisation > 0.0 and not decoder.attention:
        raise ConfigurationError(
            "model.cross_entropy.attention_regularisation needs attention, which this decoder lacks: leave it out"
        )


def has_no_end(trainer: Any) -> bool:
    """Whether the settings name no last step. `max_time` names none: nobody knows which step that will be."""
    return trainer["max_epochs"] in (None, -1) and trainer["max_steps"] == -1


def refuse_half_a_run(trainer: Any) -> None:
    """Refuse the settings of a run without an end (Lightning's is after 1,000 epochs), or without whole validations.

    Raises:
        ConfigurationError: there are such settings.
    """
    if has_no_end(trainer) and trainer["max_time"] is not None:
        raise ConfigurationError(
            "trainer.max_time alone does not say which step is the last, and the learning rate falls towards it: give "
            "--trainer.max_epochs as well, such as 20"
        )
    if has_no_end(trainer):
        raise ConfigurationError("nothing says when the run ends: give --trainer.max_epochs, such as 20")
    limit = trainer["limit_val_batches"]
    if limit is not None:  # also 1: one batch if it is read as a whole number, all of them if not
        raise ConfigurationError(
            f"trainer.limit_val_batches is {limit:g}, but validation chooses the weights by all of the development "
            "split: leave it out"
        )
