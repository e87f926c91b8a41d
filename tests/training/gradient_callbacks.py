"""Callbacks that the tests give to `captioner train` in `trainer.callbacks`: one looks on, one does harm."""

from __future__ import annotations

import copy
import math
from typing import Any, ClassVar

import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import Callback
from torch import Tensor, nn

from captioner.model.decoder import Decoder
from captioner.training.batch import Batch
from captioner.training.module import CaptionModule


class Recorder(Callback):
    """Computes each step's gradients a second time, and keeps weights and the optimiser's state after each step."""

    gradients: ClassVar[list[Tensor]] = []  # each step's, of all parameters in one vector, before clipping
    taken: ClassVar[list[Tensor]] = []  # the same, as the optimiser found them
    weights: ClassVar[
        list[Tensor]
    ] = []  # parameters and statistics in one vector, before the first step and after each
    moments: ClassVar[list[Tensor]] = []  # the optimiser's state, with its counters, in one vector after each step
    rates: ClassVar[list[float]] = []
    seen: ClassVar[list[tuple[Decoder, Tensor, Tensor]]] = []  # before each step: decoder, features, tokens

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        for kept in (self.gradients, self.taken, self.weights, self.moments, self.rates, self.seen):
            kept.clear()
        assert isinstance(pl_module, CaptionModule)
        self.weights.append(weights_of(pl_module))

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """The equations of the loss, once more: no dropout, 0.1 of the mass spread over the words."""
        assert isinstance(pl_module, CaptionModule)
        assert batch.pixels is not None
        network = copy.deepcopy(pl_module.network)
        images = pl_module.data.preprocessing.numbers(batch.pixels)
        features = network.encoder(images)
        self.seen.append((network.decoder, features.detach(), batch.tokens))
        logits = network.decoder(features, batch.tokens[:, :, :-1])[0].flatten(0, 2)
        targets = batch.tokens[:, :, 1:].flatten()
        log_probabilities = torch.log_softmax(logits, dim=1)[targets != 0]
        chosen = log_probabilities.gather(1, targets[targets != 0].unsqueeze(1)).squeeze(1)
        loss = -(0.9 * chosen + 0.1 * log_probabilities.mean(dim=1)).mean()
        parameters = list(network.parameters())
        self.gradients.append(flat(list(torch.autograd.grad(loss, parameters, materialize_grads=True))))

    def on_train_batch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        gradients = [parameter.grad for parameter in pl_module.parameters()]
        self.taken.append(flat([gradient for gradient in gradients if gradient is not None]))
        self.weights.append(weights_of(pl_module))
        optimizer = trainer.optimizers[0]
        self.moments.append(flat([value for state in optimizer.state.values() for value in state.values()]))
        self.rates.append(optimizer.param_groups[-1]["lr"])


class Harm(Callback):
    """Spoils some steps: their gradients become infinite, or what the encoder computes becomes not a number.

    Args:
        first: the first step that is spoilt, from 0.
        steps: how many in a row.
        where: `gradients`; or `features`, which makes the loss and the statistics of the encoder not a number.
    """

    def __init__(self, first: int, steps: int = 1, where: str = "gradients") -> None:
        self.spoilt = range(first, first + steps)
        self.where = where

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, CaptionModule)
        if self.where == "features" and trainer.global_step in self.spoilt:
            first = next(part for part in pl_module.network.encoder.modules() if isinstance(part, nn.Conv2d))

            def spoil(part: nn.Module, given: Any, returned: Tensor) -> Tensor:
                return returned * math.nan

            self._hook = first.register_forward_hook(spoil)

    def on_after_backward(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        if trainer.global_step not in self.spoilt:
            return
        if self.where == "features":
            self._hook.remove()
            return
        for parameter in pl_module.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(math.inf)


def weights_of(module: nn.Module) -> Tensor:
    """All that a bundle stores: parameters and statistics, but not how many batches the statistics are of."""
    state = module.state_dict()
    return flat([value for name, value in state.items() if not name.endswith("num_batches_tracked")])


def flat(values: list[Tensor]) -> Tensor:
    return torch.cat([value.detach().double().flatten() for value in values]) if values else torch.zeros(0)


def given(name: str, **arguments: Any) -> dict[str, Any]:
    """A callback of this file as a configuration names it."""
    return {"class_path": f"tests.training.gradient_callbacks.{name}", "init_args": arguments}
