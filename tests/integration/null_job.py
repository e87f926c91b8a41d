"""`captioner caption` with no model in it: captions are made of the pixels, so that a job takes no time of its own.

    python tests/integration/null_job.py PATH... --output ...        as captioner caption

NULL_SECONDS is how long a batch takes. At its end, it says how many pictures the model was asked for.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import click

sys.path.insert(0, str(Path(__file__).parents[2]))  # the processes of several devices import the model by its name

from captioner.cli.caption import caption, chosen, request_of
from captioner.cli.caption_job import run_job
from captioner.cli.decoding_options import chosen_options
from captioner.errors import CaptionerError
from tests.integration.null_captioner import open_null


def main(arguments: Sequence[str]) -> int:
    """As the command: its exit code."""
    context = caption.make_context("captioner caption", list(arguments))
    with context.scope(cleanup=False):
        request = request_of(context.params)
        decoding = chosen(context.params)
        return run_job(request, lambda defaults: chosen_options(defaults, decoding), open_null)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except CaptionerError as refusal:
        click.echo(f"captioner: {refusal}", err=True)
        sys.exit(1)
    except click.ClickException as refusal:
        refusal.show()
        sys.exit(refusal.exit_code)
    except KeyboardInterrupt:
        click.echo("captioner: interrupted", err=True)
        sys.exit(130)
