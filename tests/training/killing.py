"""A callback for tests: the process ends in the middle of a step, as when the power goes."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import Callback


class SignalAt(Callback):
    """Sends a signal to its own process between the gradients of a step and the optimiser.

    Args:
        step: complete steps until then.
        number: the signal, SIGKILL unless it is said.
    """

    def __init__(self, step: int, number: int = signal.SIGKILL) -> None:
        self.step = step
        self.number = number

    def on_before_optimizer_step(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Lightning's hook."""
        if trainer.global_step == self.step:
            os.kill(os.getpid(), self.number)


class SignalInSanityCheck(Callback):
    """Sends SIGTERM to its own process in the validation before the training, and lets what follows go on."""

    def on_validation_batch_start(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Lightning's hook."""
        if trainer.sanity_checking:
            os.kill(os.getpid(), signal.SIGTERM)
