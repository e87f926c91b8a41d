"""The command `captioner`: finds the subcommand, and turns what went wrong into one line and an exit code.

Exit codes: 0 done, 1 our error, 2 wrong usage, 3 done but some pictures failed, 130 interrupted,
143 ended by SIGTERM.
"""

from __future__ import annotations

import errno
import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import click

from captioner.errors import CaptionerError

# In the order in which `captioner --help` lists them. The command `x` is the function `x` in captioner/cli/x.py.
COMMANDS = (
    "caption", "undo", "merge", "serve", "evaluate", "score", "report", "inspect", "diagnose", "train", "average",
)  # fmt: skip

# What the machine refuses, as opposed to a mistake of ours: these are told in one line as well.
_REFUSALS = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS, errno.EMFILE, errno.EFBIG, errno.EIO}


@dataclass
class Session:
    """What the options of `captioner` itself say, for the one call that it belongs to."""

    debug: bool = False


def _set_debug(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value:
        context.ensure_object(Session).debug = True


_DEBUG = click.Option(
    ["--debug"],
    is_flag=True,
    expose_value=False,
    callback=_set_debug,
    is_eager=True,
    help="Show the traceback of an error.",
)


class LazyGroup(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of the commands, without importing any."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, or None. Every command but `train` (which reads no option) takes `--debug` too."""
        if cmd_name not in COMMANDS:
            return None
        command = getattr(importlib.import_module(f"captioner.cli.{cmd_name}"), cmd_name)
        if not isinstance(command, click.Command):
            raise TypeError(f"captioner.cli.{cmd_name}.{cmd_name} is no click command")
        if command.add_help_option and _DEBUG not in command.params:
            command.params.append(_DEBUG)
        return command


def _print_version(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    if value and not context.resilient_parsing:
        from captioner import __version__

        click.echo(f"captioner {__version__}")
        context.exit()


@click.group(
    cls=LazyGroup,
    params=[_DEBUG],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_version,
    help="Show the version and exit.",
)
def commands() -> None:
    """Captions for pictures: caption folders, serve them over HTTP, evaluate and train models."""


def run(arguments: Sequence[str]) -> int:
    """Runs `captioner ARGUMENTS...` and returns its exit code; messages go to standard error."""
    session = Session()
    try:
        code = commands.main(args=list(arguments), prog_name="captioner", obj=session, standalone_mode=False)
    except click.UsageError as error:
        error.show()
        return error.exit_code
    except (click.exceptions.Abort, KeyboardInterrupt):
        return _complain("interrupted", code=130)
    except (CaptionerError, click.ClickException) as error:
        if session.debug:
            raise
        return _complain(error.format_message() if isinstance(error, click.ClickException) else str(error), code=1)
    except OSError as error:
        if session.debug or error.errno not in _REFUSALS:
            raise
        return _complain(f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror), code=1)
    return code if isinstance(code, int) else 0  # what `context.exit(code)` left; commands return nothing


def _complain(message: str, *, code: int) -> int:
    """Prints one line on standard error and returns the exit code that goes with it."""
    click.echo(f"captioner: {' '.join(message.split())}", err=True)
    return code


def main() -> None:
    """The entry point of the console script."""
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except OSError:
        # What could not be written is still in the buffer. At its end Python would try again, complain again and
        # turn the exit code into 120, so let it write that into nothing.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = code or 1
    sys.exit(code)
