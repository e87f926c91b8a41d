"""A callback for tests: the process ends in the middle of a step, as when the power goes."""

from __future__ import annotations

import os
import signal

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
