"""`captioner train`: hands its arguments to the training command, which only the extra `train` can run."""

from __future__ import annotations

from importlib.util import find_spec

import click


@click.command(add_help_option=False, context_settings={"ignore_unknown_options": True})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def train(arguments: tuple[str, ...]) -> None:
    """Train a model and write its bundle (needs the extra `train`; see `captioner train --help`)."""
    needed = ("pytorch_lightning", "jsonargparse", "matplotlib", "tensorboard")
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        raise click.ClickException(
            f"Training needs {' and '.join(missing)}: install the extra with pip install 'captioner[train]', "
            "or pip install -e '.[train]' in a clone."
        )
    from captioner.training.command import main

    main(list(arguments))
