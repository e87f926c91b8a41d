"""The arguments of `captioner train`: what its help says, and what a wrong one is told."""

from __future__ import annotations

import difflib
import re
from typing import Any, NoReturn

from pytorch_lightning.cli import LightningArgumentParser

# In place of a hundred lines of options before each message; --help lists them.
USAGE = "captioner train [--config FILE] [--output FOLDER] [--init-from BUNDLE] [--resume] [--help] [options]"
DESCRIPTION = (
    "Train a model and write its bundle to OUTPUT/bundle. Without --trainer.precision, training is in mixed precision "
    "where the device has units for it: bf16-mixed on a GPU or a processor with bfloat16, 16-mixed on an older GPU."
)


class TrainParser(LightningArgumentParser):
    """A parser whose messages are one sentence and name what one types, without Lightning's subcommand `fit`."""

    @property
    def prog(self) -> str:
        """What argparse calls the command."""
        return "captioner train"

    @prog.setter
    def prog(self, name: str) -> None:
        """Another name is not taken."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """End with 2 and a sentence for what jsonargparse says of a wrong argument in several lines."""
        if not self.exit_on_error:  # somebody catches it
            super().error(message, ex)
        parser = getattr(ex, "subcommand_parser", self)
        options = [option for option in parser._option_string_actions if option.startswith("--")]
        self.exit(2, f"usage: {USAGE}\ncaptioner: {wrong_argument(message, options)} See captioner train --help.\n")


def wrong_argument(message: str, options: list[str]) -> str:
    """What jsonargparse says of a wrong argument, in one sentence; `options` are all there are."""
    if given := re.match(r"unrecognized arguments: (--[^\s=]+)", message):
        meant = difflib.get_close_matches(given[1], options, n=1)
        return f"there is no option {given[1]}." + (f" Did you mean {meant[0]}?" if meant else "")
    if missing := re.match(r"the following arguments are required: (.+)", message):
        return "give " + ", ".join(f"--{name.removeprefix('fit.')}" for name in missing[1].split(", ")) + "."
    key = re.search(r'[Pp]arser key "(?:fit\.)?([^"]+)"', message)
    value = re.search(r"(?:Given|Got) value: (.+)", message)
    if key and value:
        return f"--{key[1]} cannot be {value[1]}."
    if key:
        message = f"--{key[1]}{message[key.end() :]}"
    return " ".join(message.split()).removesuffix(".") + "."


def listed(value: Any) -> list[Any]:
    """What the trainer takes as nothing, one thing or a list of them."""
    return value if isinstance(value, list) else [] if value is None else [value]
