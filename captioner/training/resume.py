"""Checkpoints from which a run goes on as if nothing had happened, and the signals that ask for one."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import click
import numpy as np
import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import Checkpoint

from captioner.errors import ConfigurationError
from captioner.training.checkpoints import follow_moved_folder
from captioner.training.devices import gathered, greatest_over_processes

# Slurm sends SIGUSR1 where a script asks for it, as in Lightning's documentation. The greatest one that any of the
# processes has received is that of all.
_SIGNALS = (signal.SIGINT, signal.SIGUSR1, signal.SIGTERM)


class Checkpoints(Checkpoint):
    """Writes OUTPUT/checkpoints/last.ckpt: now and then, before and after each validation, and when the run is stopped.

    Ctrl-C, SIGTERM and SIGUSR1 (a cluster that takes a machine back) let the step of the moment end, save, and end the
    run: with 143 but for Ctrl-C. Lightning's own handlers, which talk to the other processes and save in the middle of
    whatever is interrupted, are never in force: where nothing would be saved, a signal does what it did before. The
    states of all random number generators are saved and restored, those of each process. In an epoch's last step
    nothing is saved, because Lightning would leave out the validation that follows it: it goes on from the step before.
    """

    def __init__(self, minutes: float = 10.0, keep: int = 1) -> None:
        """When to save, and how much to keep.

        Args:
            minutes: between two savings; 0: every step.
            keep: so many of the best checkpoints are kept, and their average is the bundle if it is better than each.
        """
        self.minutes = minutes
        self.keep = keep
        self._saved_at = time.monotonic()
        self._step = 0  # optimiser's steps when the last batch ended
        self._saved_step: int | None = None
        self._signal = 0  # that this process has received
        self._listens = False
        self._before: list[tuple[int, Any]] = []  # what each signal did before Lightning set its handlers
        self._random: list[dict[str, Any]] = []

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Refuse what cannot work: in the constructor, the command line's parser would bury the sentence."""
        if self.minutes < 0 or self.keep < 1:
            raise ConfigurationError(
                f"checkpoints.minutes is {self.minutes} and checkpoints.keep {self.keep}: at least 0 and 1"
            )
        self._before = [(number, signal.getsignal(number) or signal.SIG_DFL) for number in _SIGNALS]

    # --- random numbers

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the random states of all processes."""
        checkpoint["random"] = gathered(random_state())

    def on_load_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep them until training begins: what is prepared before may draw what it likes.

        Of a folder that was moved, Lightning gets the paths of today.
        """
        callbacks = checkpoint.get("callbacks", {})
        if trainer.is_global_zero:
            follow_moved_folder(callbacks, self._file(trainer).parent)
        callbacks.update(trainer.strategy.broadcast(callbacks))  # other machines need not see the disk of the first
        self._random = checkpoint.get("random", [])
        self._saved_step = checkpoint["global_step"]

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Go on with the random numbers of the checkpoint, and listen to signals."""
        if len(self._random) == trainer.world_size:
            restore_random_state(self._random[trainer.global_rank])
        elif trainer.global_rank:  # each process its own: dropout must not drop the same numbers on every device
            torch.manual_seed((torch.initial_seed() + trainer.global_rank) % 2**63)
        if self._random and len(self._random) != trainer.world_size and trainer.is_global_zero:
            click.echo(
                f"the checkpoint is one of {len(self._random)} devices, here are {trainer.world_size}: the run goes on "
                "with other random numbers",
                err=True,
            )
        self._random = []
        self._step = trainer.global_step
        self._saved_at = time.monotonic()
        for number in _SIGNALS:
            signal.signal(number, self._take)
        self._listens = True

    # --- signals

    def _take(self, number: int, frame: FrameType | None) -> None:
        if not self._signal:
            self._signal = number
            with suppress(OSError):  # not through sys.stderr: it may be in the middle of its writing
                os.write(2, b"\nSaving a checkpoint after this step; press Ctrl-C again to stop at once.\n")
        elif number == signal.SIGINT:
            raise KeyboardInterrupt

    def _stop(self, trainer: lightning.Trainer, number: int) -> None:
        """End the run because of the signal `number`; the last checkpoint stays.

        Raises:
            KeyboardInterrupt: on Ctrl-C.
            SystemExit: on SIGTERM and SIGUSR1, with 143.
        """
        if trainer.is_global_zero:
            told = "no checkpoint is written yet"
            if self._saved_step is not None:
                told = f"{self._file(trainer)} has step {self._saved_step}; go on by the same command with --resume"
            click.echo(f"stopped: {told}", err=True)
        self._listen_no_more()
        if number != signal.SIGINT:
            raise SystemExit(128 + signal.SIGTERM)
        raise KeyboardInterrupt

    def _listen_no_more(self) -> None:
        for number, handler in self._before:
            signal.signal(number, handler)
        self._listens = False

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """In a validation before the training, or after it, signals do what they did before."""
        if not self._listens:
            self._listen_no_more()

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Signals do what they did before."""
        self._listen_no_more()

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Signals do what they did before."""
        self._listen_no_more()

    # --- saving

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save if it is time to and a step is complete: gradients that are being accumulated are in no checkpoint."""
        if trainer.global_step == self._step:
            return
        self._step = trainer.global_step
        passed = time.monotonic() - self._saved_at >= 60 * self.minutes
        number, is_time = self._agreed(pl_module, self._signal, passed)
        if _validates(trainer, batch_idx):
            return
        if number or is_time or _validates(trainer, batch_idx + trainer.accumulate_grad_batches):
            self._save(trainer)
        if number:
            self._stop(trainer, number)

    def on_validation_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """A validation takes its time: it is not waited for."""
        if self._listens and (number := self._agreed(pl_module, self._signal)[0]):
            self._stop(trainer, number)

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Save what validation has found."""
        if self._listens:
            self._save(trainer)

    def _agreed(self, module: lightning.LightningModule, *numbers: int) -> list[int]:
        """The greatest of each number in all processes."""
        agreed: list[int] = greatest_over_processes(torch.tensor(numbers, device=module.device)).tolist()
        return agreed

    def _file(self, trainer: lightning.Trainer) -> Path:
        return Path(trainer.default_root_dir) / "checkpoints" / "last.ckpt"

    def _save(self, trainer: lightning.Trainer) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]  # a dry run leaves nothing
            return
        trainer.save_checkpoint(self._file(trainer))
        self._saved_at, self._saved_step = time.monotonic(), trainer.global_step


def _validates(trainer: lightning.Trainer, batch_idx: int) -> bool:
    """Whether a validation follows this batch of the epoch, or the epoch's end."""
    if batch_idx + 1 >= trainer.num_training_batches:
        return True
    if trainer.check_val_every_n_epoch is None:  # then Lightning counts batches through all epochs
        batch_idx += trainer.fit_loop.total_batch_idx - trainer.fit_loop.batch_idx
    every = trainer.val_check_batch
    return every is not None and every != float("inf") and (batch_idx + 1) % every == 0


def random_state() -> dict[str, Any]:
    """The states of this process's random number generators, as plain values."""
    name, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (name, np.asarray(keys).tolist(), position, has_gauss, cached),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Go on where `random_state` was."""
    random.setstate(state["python"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] is not None and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"].cpu())
