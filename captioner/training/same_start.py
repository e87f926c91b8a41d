"""SameStart: the processes of a training begin with the same checkpoint and the same data, or not at all."""

from __future__ import annotations

import pytorch_lightning as lightning
from pytorch_lightning.callbacks import Callback

from captioner.training.checkpoints import moment_of, words_digest
from captioner.training.data import CaptionDataModule
from captioner.training.devices import refuse_disagreement, several
from captioner.training.module import CaptionModule


class SameStart(Callback):
    """Refuses processes that would wait for each other for ever: machines that share no disk can have other files."""

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Compare what each process has found (Lightning's hook, after that of the data module).

        Raises:
            ConfigurationError: they have not found the same.
        """
        if not several():
            return
        module: CaptionModule = pl_module  # type: ignore[assignment]
        refuse_disagreement(
            "no checkpoint to go on from"
            if module.resumed is None
            else f"the checkpoint of {moment_of(module.resumed)}",
            "put the same checkpoints folder into the output folder of each machine, or give all machines an output "
            "folder on a disk that they share",
        )
        data: CaptionDataModule = trainer.datamodule  # type: ignore[attr-defined]
        train, dev = (len(data.records(split)) for split in ("train", "dev"))
        refuse_disagreement(
            f"{train} + {dev} pictures with the vocabulary {words_digest(data.vocabulary)[:8]}",
            "give all machines the same data",
        )
