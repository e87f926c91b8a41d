"""What a step does with its gradients: clipped and told of, or not taken at all where they are not finite.

Clipping itself is Lightning's (`trainer.gradient_clip_val`, `trainer.gradient_clip_algorithm`). Clipping by norm is the
default because it keeps the direction of the step (Pascanu, Mikolov and Bengio, arXiv:1211.5063, algorithm 1).
"""

from __future__ import annotations

import math
from typing import Any

import click
import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from captioner.errors import ConfigurationError

_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.SyncBatchNorm)

# In float16 the scale of the loss begins at 2 ** 16, and each such step halves it: 17 of them are no sign of a fault.
MOST_SKIPPED_IN_A_ROW = 20


class WatchGradients(Callback):
    """Logs the gradients' norm before and after clipping, and skips the steps whose gradients are not finite.

    Logged each step: `gradient_norm` and `gradient_norm_clipped`, the Euclidean norm of all gradients together, divided
    by the loss's scale where float16 needs one; 0 after clipping means that the step was skipped. Logged each epoch:
    `clipped_share` of its steps, and how many of them were skipped, `skipped_steps`.

    A skipped step changes no weight, no moment of the optimiser and no statistic of a batch normalisation, so that an
    average of the weights stays finite too. It counts as a step, and the learning rate goes on along its curve: else a
    run with skipped steps would never reach the end of it.
    """

    def __init__(self) -> None:
        self.in_a_row = 0  # steps skipped one after the other, until now
        self.skipped = 0  # steps of this epoch
        self._steps = False  # whether the batch of this moment ends with a step: it does not while others accumulate
        self._before = 0.0  # the norm before clipping
        self._statistics: list[tuple[Tensor, Tensor]] | None = None  # each one with its value before the step

    def state_dict(self) -> dict[str, Any]:
        """What a run that is resumed must know (Lightning's hook)."""
        return {"in_a_row": self.in_a_row, "skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Lightning's hook."""
        self.in_a_row, self.skipped = state_dict["in_a_row"], state_dict["skipped"]

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Remember the statistics of the batch normalisations, which the forward pass is about to change."""
        if self._statistics is None:
            self._statistics = [(value, value.clone()) for value in learning_statistics(pl_module)]

    def on_before_optimizer_step(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Between the unscaling of the gradients and their clipping: without gradients, the optimiser does nothing.

        Raises:
            ConfigurationError: too many steps in a row would have to be skipped.
        """
        self._steps = True
        self._before = norm_of_gradients(optimizer)
        finite = math.isfinite(self._before)
        pl_module.log("gradient_norm", self._before, on_step=True, on_epoch=False, batch_size=1)
        if finite:
            self.in_a_row = 0
            return
        optimizer.zero_grad(set_to_none=True)
        for value, earlier in self._statistics or []:
            value.copy_(earlier)
        self.in_a_row += 1
        self.skipped += 1
        if self.skipped == 1 and trainer.is_global_zero:
            click.echo(f"step {trainer.global_step + 1} is skipped: its gradients are not finite", err=True)
        if self.in_a_row >= MOST_SKIPPED_IN_A_ROW:
            raise ConfigurationError(
                f"the gradients of {self.in_a_row} steps in a row were not finite, so nothing is learnt any more: "
                "start again with a lower model.learning_rate, or with trainer.precision 32-true"
            )

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """The gradients are still there, as the optimiser took them."""
        if not self._steps:
            return
        after = norm_of_gradients(trainer.optimizers[0])
        pl_module.log("gradient_norm_clipped", after, on_step=True, on_epoch=False, batch_size=1)
        clipped = self.in_a_row == 0 and after < self._before
        pl_module.log("clipped_share", float(clipped), on_step=False, on_epoch=True, batch_size=1, sync_dist=True)
        self._steps = False
        self._statistics = None

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Tell how many steps were skipped, if there were any; every process has skipped the same ones."""
        pl_module.log("skipped_steps", float(self.skipped), sync_dist=True)
        if self.skipped and trainer.is_global_zero:
            click.echo(f"epoch {trainer.current_epoch + 1}: {self.skipped} steps were skipped", err=True)
        self.skipped = 0


def norm_of_gradients(optimizer: torch.optim.Optimizer) -> float:
    """The Euclidean norm of the gradients of all that `optimizer` changes; 0 where there are none."""
    parameters = (parameter for group in optimizer.param_groups for parameter in group["params"])
    return float(get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None]))


def learning_statistics(network: nn.Module) -> list[Tensor]:
    """The running means and variances, each (C,), of the batch normalisations that are learning them."""
    learning = [part for part in network.modules() if isinstance(part, _BATCH_NORMS) and part.training]
    found = [value for part in learning for value in (part.running_mean, part.running_var)]
    return [value for value in found if value is not None]
