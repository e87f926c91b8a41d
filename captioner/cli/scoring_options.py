"""What the commands that score have in common."""

from __future__ import annotations

import click

official_option = click.option(
    "--official",
    type=click.Choice(["METEOR", "SPICE"], case_sensitive=False),
    multiple=True,
    help="Also run this official scorer, which needs Java and pip install pycocoevalcap. May be given twice.",
)
