"""Every decoding option is an option of the command line, under the same name."""

from __future__ import annotations

import dataclasses
from typing import Any

import click
import pytest
from click.testing import CliRunner

from captioner.cli.decoding_options import chosen_options, decoding_options
from captioner.decoding.options import DecodingOptions

FIELDS = [field.name for field in dataclasses.fields(DecodingOptions)]


@click.command
@decoding_options
def echo(**decoding: Any) -> None:
    """Prints what it was given."""
    click.echo(repr(chosen_options(DecodingOptions(beam_size=7), decoding)))


def test_the_options_are_the_fields_in_their_order() -> None:
    assert [option.name for option in echo.params] == FIELDS
    assert [option.opts for option in echo.params] == [[f"--{name.replace('_', '-')}"] for name in FIELDS]


@pytest.mark.parametrize("option", echo.params, ids=FIELDS)
def test_the_help_is_what_the_options_say_of_themselves(option: click.Option) -> None:
    assert option.help
    assert option.help.casefold()[:20] in " ".join((DecodingOptions.__doc__ or "").casefold().split())


def test_what_is_not_given_has_the_value_of_the_bundle() -> None:
    result = CliRunner().invoke(echo, ["--length-penalty", "0.5"])
    assert result.output.strip() == repr(DecodingOptions(beam_size=7, length_penalty=0.5))


@pytest.mark.parametrize("given", [("--num-captions", "9"), ("--beam-size", "0"), ("--length-penalty", "nan")])
def test_a_contradiction_is_wrong_usage_and_names_the_option_as_it_is_typed(given: tuple[str, str]) -> None:
    result = CliRunner().invoke(echo, given)
    assert result.exit_code == 2
    told = " ".join(result.output.split()).partition("Error: ")[2]
    assert told.startswith(f"{given[0]} must be ")
    assert [name for name in FIELDS if "_" in name and name in told] == []
