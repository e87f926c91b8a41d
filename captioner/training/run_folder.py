"""The folder of a run: its logs and its curves, also where it is resumed or written over."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
import pytorch_lightning as lightning
from pytorch_lightning.callbacks import Callback
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.utilities import rank_zero_only

from captioner.pictures.curves import draw_curves

_SECONDS_BETWEEN_PICTURES = 30.0


class SaveLog(Callback):
    """With every checkpoint the log so far is on the disk: what goes on from there brings only what comes after it."""

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Lightning's hook; its logger keeps up to a hundred rows in memory."""
        if trainer.is_global_zero:
            for logger in trainer.loggers:
                logger.save()


class DrawCurves(Callback):
    """Redraw curves.png after a validation, so that a long run can be watched, and at the end."""

    def __init__(self) -> None:
        self._drawn = time.monotonic()  # a run that ends sooner is drawn at its end alone

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Lightning's hook. Where validations are quick, most of them leave the picture as it is."""
        if not trainer.sanity_checking and time.monotonic() - self._drawn > _SECONDS_BETWEEN_PICTURES:
            self._draw(trainer)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Lightning's hook: the loss of the last epoch is known only now."""
        self._draw(trainer)

    def _draw(self, trainer: lightning.Trainer) -> None:
        if not trainer.is_global_zero or not isinstance(trainer.logger, CSVLogger):
            return
        trainer.logger.save()
        log = Path(trainer.logger.log_dir) / "metrics.csv"
        if log.is_file():
            draw_curves([*earlier_logs(log.parent), log], log.with_name("curves.png"))
            self._drawn = time.monotonic()


def earlier_logs(output: Path) -> list[Path]:
    """The logs of the runs that this one resumes, oldest first."""
    return sorted(output.glob("metrics.*.csv"))


@rank_zero_only
def set_aside(output: Path, *, resumes: bool) -> None:
    """Keep the log of the run that is resumed, which Lightning would delete.

    A new run needs no earlier logs. It takes `last.ckpt` out of the way, too: what resumes it must not go on with
    another run.
    """
    earlier, log, last = earlier_logs(output), output / "metrics.csv", output / "checkpoints" / "last.ckpt"
    if not resumes:
        for file in [*earlier, *(output / "tensorboard").glob("events.out.tfevents.*")]:
            file.unlink()
        if last.is_file():
            before = last.replace(last.with_name("previous.ckpt"))
            click.echo(f"this is a new run; where an earlier one ended is kept as {before}", err=True)
    elif log.is_file():
        log.rename(output / f"metrics.{len(earlier) + 1:03}.csv")
