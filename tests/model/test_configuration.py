"""Options that cannot work are refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from captioner.errors import ConfigurationError
from captioner.model.configuration import DecoderConfiguration, EncoderConfiguration


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("cell", "transformer"),
        ("num_layers", 0),
        ("hidden_size", -1),
        ("embedding_size", 0),
        ("attention_size", 0),
        ("dropout", 1.0),
        ("dropout", -0.1),
    ],
)
def test_a_wrong_decoder_option_is_named(option: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=option):
        DecoderConfiguration(**{option: value})


def test_a_wrong_padding_is_named_with_the_choices() -> None:
    with pytest.raises(ConfigurationError, match=r"'same'.*torchvision, tensorflow"):
        EncoderConfiguration(padding="same")
