"""Settings of a model's training that contradict each other are refused before anything is read."""

from __future__ import annotations

import math

import pytest

from captioner.errors import ConfigurationError
from captioner.model.configuration import DecoderConfiguration
from captioner.training.losses import CrossEntropyOptions
from captioner.training.module import CaptionModule
from captioner.training.self_critical import SelfCriticalOptions
from captioner.training.truncation import Truncation

BUNDLE = "runs/some/bundle"  # it need not be there


def test_random_weights_that_do_not_learn_are_refused() -> None:
    for part in (None, "features.3"):
        with pytest.raises(ConfigurationError, match="random weights must learn"):
            CaptionModule(train_encoder_from=part)


def test_weights_and_a_bundle_contradict_each_other() -> None:
    with pytest.raises(ConfigurationError, match=r"model\.weights and --init-from both say where the encoder starts"):
        CaptionModule(weights="DEFAULT", init_from=BUNDLE)


def test_objectives_that_contradict_each_other_are_refused() -> None:
    truncation = Truncation(mode="truncated", steps=5)
    with pytest.raises(ConfigurationError, match=r"whole caption: leave model\.truncation out"):
        CaptionModule(init_from=BUNDLE, truncation=truncation, self_critical=SelfCriticalOptions())
    with pytest.raises(ConfigurationError, match=r"attention_regularisation needs attention"):
        CaptionModule(
            decoder=DecoderConfiguration(attention=False),
            init_from=BUNDLE,
            cross_entropy=CrossEntropyOptions(attention_regularisation=1.0),
        )


@pytest.mark.parametrize(
    ("setting", "values"),
    [
        ("learning_rate", (-1e-3, math.inf, math.nan)),
        ("encoder_learning_rate", (-1e-3, math.inf, math.nan)),
        ("weight_decay", (-1e-3, math.inf, math.nan)),
        ("warmup", (-0.1, 1.1, math.nan)),
    ],
)
def test_rates_that_make_no_sense_are_refused(setting: str, values: tuple[float, ...]) -> None:
    CaptionModule(train_encoder_from="all", **{setting: 0.0})  # type: ignore[arg-type]
    for value in values:
        with pytest.raises(ConfigurationError, match=rf"model\.{setting} is {value}"):
            CaptionModule(train_encoder_from="all", **{setting: value})  # type: ignore[arg-type]
