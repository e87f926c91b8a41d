"""`captioner train` leaves everything to the training command."""

from __future__ import annotations

from captioner.cli.train import train


def test_every_argument_is_passed_on_unread() -> None:
    arguments = ["--config", "data/shapes/train.yaml", "--trainer.max_epochs=1", "--help", "--print_config"]
    context = train.make_context("train", list(arguments))
    assert context.params["arguments"] == tuple(arguments)
