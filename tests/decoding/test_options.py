import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.decoding.options import DecodingOptions
from captioner.errors import DecodingError


@st.composite
def valid_options(draw: st.DrawFn) -> DecodingOptions:
    beam_size = draw(st.integers(1, 100))
    max_length = draw(st.integers(1, 1000))
    return DecodingOptions(
        beam_size=beam_size,
        num_captions=draw(st.integers(1, beam_size)),
        length_penalty=draw(st.floats(0, 10)),
        min_length=draw(st.integers(0, max_length)),
        max_length=max_length,
    )


@given(valid_options())
def test_a_dictionary_and_json_keep_every_option(options: DecodingOptions) -> None:
    assert DecodingOptions.from_dict(options.to_dict()) == options
    assert DecodingOptions.from_dict(json.loads(json.dumps(options.to_dict()))) == options


def test_an_absent_option_has_its_default() -> None:
    assert DecodingOptions.from_dict({"beam_size": 5}) == DecodingOptions(beam_size=5)


def test_an_unknown_option_is_named() -> None:
    with pytest.raises(DecodingError, match=r"'beams'.*beam_size, num_captions"):
        DecodingOptions.from_dict({"beams": 3})


@pytest.mark.parametrize(
    ("name", "value", "span"),
    [
        ("beam_size", 0, "between 1 and 100, not 0"),
        ("beam_size", 101, "between 1 and 100, not 101"),
        ("beam_size", True, "whole number between 1 and 100, not True"),
        ("beam_size", 3.0, "whole number between 1 and 100, not 3.0"),
        ("beam_size", "3", "whole number between 1 and 100, not '3'"),
        ("num_captions", 0, "between 1 and 100, not 0"),
        ("num_captions", 4, "between 1 and beam_size, which is 3, not 4"),
        ("length_penalty", -0.5, "between 0 and 10, not -0.5"),
        ("length_penalty", float("nan"), "finite number between 0 and 10, not nan"),
        ("length_penalty", float("inf"), "finite number between 0 and 10, not inf"),
        ("length_penalty", 10.5, "finite number between 0 and 10, not 10.5"),
        ("length_penalty", None, "finite number between 0 and 10, not None"),
        ("length_penalty", False, "finite number between 0 and 10, not False"),
        ("min_length", -1, "between 0 and 1000, not -1"),
        ("min_length", 31, "between 0 and max_length, which is 30, not 31"),
        ("max_length", 0, "between 1 and 1000, not 0"),
        ("max_length", 1001, "between 1 and 1000, not 1001"),
    ],
)
def test_a_wrong_value_names_the_option_and_the_range(name: str, value: Any, span: str) -> None:
    with pytest.raises(DecodingError) as raised:
        DecodingOptions.from_dict({name: value})
    assert str(raised.value).startswith(name)
    assert span in str(raised.value)


def test_options_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        DecodingOptions().beam_size = 2  # type: ignore[misc]
