"""The decoding options of a command: one for each field of DecodingOptions, under its name and with its help."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_type_hints

import click

from captioner.decoding.options import DecodingOptions
from captioner.errors import DecodingError

Command = TypeVar("Command", bound=Callable[..., object])


def decoding_options(command: Command) -> Command:
    """Adds `--beam-size` and its siblings to a click command, which receives them by their field names.

    An option that is not given is None: then the bundle's own value holds (see `chosen_options`).
    """
    types = get_type_hints(DecodingOptions)
    helps = _helps()
    for field in reversed(dataclasses.fields(DecodingOptions)):  # the decorator applied last is listed first
        option = click.option(
            f"--{field.name.replace('_', '-')}",
            field.name,
            type=types[field.name],
            default=None,
            help=helps.get(field.name),
        )
        command = option(command)
    return command


def chosen_options(defaults: DecodingOptions, given: Mapping[str, Any]) -> DecodingOptions:
    """The bundle's `defaults` with what was `given` on the command line in their place (None: not given)."""
    try:
        return dataclasses.replace(defaults, **{name: value for name, value in given.items() if value is not None})
    except DecodingError as error:
        raise click.UsageError(_as_typed(str(error)), click.get_current_context(silent=True)) from error


def _as_typed(message: str) -> str:
    """The message with every option under the name that one types: --beam-size, not beam_size."""
    names = "|".join(field.name for field in dataclasses.fields(DecodingOptions))
    return re.sub(rf"\b({names})\b", lambda found: "--" + found[1].replace("_", "-"), message)


def _helps() -> dict[str, str]:
    """What the docstring of DecodingOptions says about each field: a line `name: text`, and indented lines after it."""
    joined = re.sub(r"\n[ \t]+", " ", inspect.getdoc(DecodingOptions) or "")
    return {name: text[:1].upper() + text[1:] for name, text in re.findall(r"^(\w+): (.+)$", joined, re.MULTILINE)}
