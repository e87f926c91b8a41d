"""The gradient flow of a model while it is trained, in the run's log."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytorch_lightning as lightning
import torch
from pytorch_lightning.callbacks import Callback

from captioner.errors import ConfigurationError
from captioner.training.batch import Batch
from captioner.training.gradient_flow import SHOWN, gradient_flow, recurrent_matrices
from captioner.training.module import CaptionModule

_PICTURES = 8  # of a batch, one caption each: on the shipped model a measurement takes about as long as a step


class LogGradientFlow(Callback):
    """Logs how far back the last word's loss reaches, and the recurrent matrices, every so many steps.

    Columns: `gradient_flow/hidden1_back4` is the norm of dL/dh of layer 1, four steps before the last word
    (`memory1_...` of an LSTM's cell state); `spectral_radius/1_forget` and `largest_singular_value/1_forget` are of the
    recurrent matrix of that layer and gate. It is what `captioner diagnose gradients` measures, on the first pictures
    of the batch that comes next, without dropout. Neither the weights nor the random generators notice.
    """

    def __init__(self, every: int = 200) -> None:
        """Measure before the first step and then after each `every` steps."""
        self.every = every
        self._measured = -1  # the last step, which several batches share where gradients accumulate

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Refuse what cannot work: in the constructor, the command line's parser would bury the sentence."""
        if self.every < 1:
            raise ConfigurationError(f"LogGradientFlow.every is {self.every}; it must be 1 or more")

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Lightning's hook."""
        step = trainer.global_step
        due = step % self.every == 0 and step != self._measured
        if not due or not trainer.is_global_zero or not isinstance(pl_module, CaptionModule):
            return
        self._measured = step
        values = measured(pl_module, batch)
        for logger in trainer.loggers:
            logger.log_metrics({**values, "epoch": trainer.current_epoch}, step=step)


def measured(module: CaptionModule, batch: Batch) -> dict[str, float]:
    """The figures of this moment, by their columns."""
    first = replace(
        batch,
        indices=batch.indices[:_PICTURES],
        pixels=None if batch.pixels is None else batch.pixels[:_PICTURES],
        features=None if batch.features is None else batch.features[:_PICTURES],
        tokens=batch.tokens[:_PICTURES, :1],
    )
    encoder, decoder = module.network.encoder, module.network.decoder
    learning = encoder.training
    encoder.eval()  # its batch normalisations use their statistics here, and learn nothing
    with torch.no_grad():
        features = module.features_of(first)
    encoder.train(learning)
    values = {
        f"gradient_flow/{point.state}{point.layer}_back{point.step}": point.norm
        for point in gradient_flow(decoder, features, first.tokens)
        if point.loss == "last word" and point.step in SHOWN
    }
    for matrix in recurrent_matrices(decoder):
        values[f"spectral_radius/{matrix.layer}_{matrix.gate}"] = matrix.spectral_radius
        values[f"largest_singular_value/{matrix.layer}_{matrix.gate}"] = matrix.largest_singular_value
    return values
