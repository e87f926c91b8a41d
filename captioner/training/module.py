"""CaptionModule: the losses, the optimiser and the validation of one training run."""

from __future__ import annotations

import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytorch_lightning as lightning
import torch
from torch import Tensor

from captioner.bundle import Bundle, load_bundle
from captioner.decoding.options import DecodingOptions
from captioner.errors import ConfigurationError
from captioner.evaluation.captioning import caption_records
from captioner.evaluation.diversity import BAD_ENDINGS
from captioner.model.caption_model import CaptionModel
from captioner.model.configuration import DecoderConfiguration, EncoderConfiguration
from captioner.model.engine import TorchEngine
from captioner.prediction import Captioner
from captioner.training.batch import Batch
from captioner.training.checkpoints import precision_of, refuse_other_network, refuse_other_words, words_digest
from captioner.training.compiling import compile_parts
from captioner.training.contradictions import refuse_objectives, refuse_rates, refuse_start
from captioner.training.data import CaptionDataModule
from captioner.training.devices import share_of
from captioner.training.feature_cache import cache_features
from captioner.training.initialisation import (
    refuse_contradictions,
    settings_of,
    start_from_bundle,
    start_from_weights,
)
from captioner.training.losses import CrossEntropyOptions
from captioner.training.optimisation import optimizer_of, schedule_of
from captioner.training.self_critical import SelfCritical, SelfCriticalOptions
from captioner.training.teacher_forcing import TeacherForcing
from captioner.training.truncation import Truncation
from captioner.training.validation import Validation


class CaptionModule(lightning.LightningModule):
    """Cross-entropy training of a CaptionModel, validated by the captions that it writes."""

    def __init__(
        self,
        encoder: EncoderConfiguration = EncoderConfiguration(),
        decoder: DecoderConfiguration = DecoderConfiguration(),
        weights: str | None = None,
        train_encoder_from: str | None = None,
        init_from: str | None = None,
        learning_rate: float = 1.5e-3,
        encoder_learning_rate: float = 1e-4,
        weight_decay: float = 1e-4,
        warmup: float = 0.1,
        cross_entropy: CrossEntropyOptions = CrossEntropyOptions(),
        truncation: Truncation = Truncation(),
        self_critical: SelfCriticalOptions | None = None,
        decoding: DecodingOptions = DecodingOptions(),
        compiled: bool = False,
    ) -> None:
        """Take the settings of a training run; the network is built when the vocabulary is known.

        Args:
            encoder: which CNN. `captioner train` takes it from the bundle if there is an `init_from`.
            decoder: which recurrent network; likewise.
            weights: of the encoder: `DEFAULT` (torchvision's download), a .safetensors or .pt file, or nothing.
            train_encoder_from: the encoder learns from this part on: any of its modules, such as `features.14` or
                `layer3`; `all`, or nothing (frozen).
            init_from: a bundle to start from; words that both vocabularies have keep their vectors. Encoder, decoder
                and preprocessing must be the bundle's, but for the dropout.
            learning_rate: the decoder's highest learning rate.
            encoder_learning_rate: the encoder's.
            weight_decay: AdamW's, on matrices only.
            warmup: the share of all steps in which the learning rates rise; they then fall along a cosine.
            cross_entropy: what training with the given captions minimises.
            truncation: where backpropagation through time is cut in training with the given captions.
            self_critical: draw captions and reward them, in place of cross-entropy; needs a trained `init_from`.
            decoding: how validation decodes; the bundle stores it as its default.
            compiled: have torch.compile make faster code of the encoder that learns and of each step of the decoder.
                The first minutes go into it; it pays on a GPU and in long runs.
        """
        super().__init__()
        rates = {
            "learning_rate": learning_rate, "encoder_learning_rate": encoder_learning_rate,
            "weight_decay": weight_decay,
        }  # fmt: skip
        refuse_rates(rates, warmup)
        refuse_start(weights, init_from, train_encoder_from)
        refuse_objectives(cross_entropy, truncation, self_critical, decoder, init_from)
        self.settings = {
            **rates,
            "warmup": warmup,
            "cross_entropy": asdict(cross_entropy),
            "truncation": asdict(truncation),
            "train_encoder_from": train_encoder_from,
            **({} if self_critical is None else {"self_critical": asdict(self_critical)}),
        }
        self.self_critical = self_critical
        self.encoder_configuration = encoder
        self.decoder_configuration = decoder
        self.weights = weights
        self.train_encoder_from = train_encoder_from
        self.init_from = init_from
        self.learning_rate = learning_rate
        self.encoder_learning_rate = encoder_learning_rate
        self.weight_decay = weight_decay
        self.warmup = warmup
        self.decoding = decoding
        self.compiled = compiled
        self.objective = TeacherForcing(options=cross_entropy, truncation=truncation)
        self._rewarded: SelfCritical | None = None  # when the captions are known
        self.validation: Validation | None = None
        self.model: CaptionModel | None = None
        self.name = ""
        self.origin: dict[str, str] = {}
        self.history: list[Any] = []
        # of the batches since the last step, each with its number of pictures
        self._losses_of_step: list[tuple[Tensor, int]] = []
        self._began = time.monotonic()
        self._earlier_seconds = 0.0
        self._precision = "auto"
        self.resumed: Path | None = None  # the checkpoint to go on from; the trainer knows it only when it reads it

    def configure_model(self) -> None:
        """Build the network for the data's vocabulary, and load what it starts from (Lightning's hook)."""
        if self.model is not None:
            return
        data = self.data
        start: Bundle | None = None
        if self.init_from is not None:
            start = load_bundle(self.init_from)
            given = settings_of(self.encoder_configuration, self.decoder_configuration, data.preprocessing)
            refuse_contradictions(given, start)
            self.history = list(start.training.get("phases", []))
        self.name = f"{data.dataset_name}-{self.encoder_configuration.name}-{self.decoder_configuration.cell}"
        self.model = CaptionModel(
            self.encoder_configuration, self.decoder_configuration, vocabulary_size=len(data.vocabulary)
        )
        if start is not None and self.init_from is not None:
            self.origin = start_from_bundle(start, self.init_from, self.model, data.vocabulary)
        else:
            self.origin = start_from_weights(self.weights, self.model)
        self.model.encoder.train_from(self.train_encoder_from)
        self.model.encoder.to(memory_format=torch.channels_last)
        device = engine_device(self.trainer.strategy.root_device)
        # timed once, in one process, for the whole run: what is resumed must not choose anew
        precision = "auto" if self.resumed is None else precision_of(self.resumed)
        if precision == "auto" and self.trainer.is_global_zero:
            precision = TorchEngine(self.model, device=device).precision
        self._precision = self.trainer.strategy.broadcast(precision)
        if self.train_encoder_from is None:  # a frozen encoder need see each picture only once, unless it varies
            self._cache_features(self.model, device)
        if self.compiled:
            compile_parts(self.model, encoder=self.train_encoder_from is not None)

    def _cache_features(self, model: CaptionModel, device: str) -> None:
        """Fill the cache in one process of all, then (where machines share no disk) of each machine; then all read."""
        trainer, data = self.trainer, self.data
        turns = [trainer.is_global_zero, trainer.local_rank == 0 and not trainer.is_global_zero, trainer.local_rank > 0]
        for turn in turns:
            if turn:
                for split in ("dev",) if data.augmentation.active else ("train", "dev"):
                    data.features[split] = cache_features(
                        model,
                        data.preprocessing,
                        data.images(split),
                        data.cache,
                        device=device,
                        precision=self._precision,
                    )
            trainer.strategy.barrier()

    @property
    def data(self) -> CaptionDataModule:
        """The data module of this run."""
        data: CaptionDataModule = self.trainer.datamodule  # type: ignore[attr-defined]
        return data

    @property
    def network(self) -> CaptionModel:
        """The network, once it is built."""
        if self.model is None:
            raise ConfigurationError("the network is built when training begins")
        return self.model

    @property
    def seconds(self) -> float:
        """How long this run has taken, what it resumes included."""
        return self._earlier_seconds + time.monotonic() - self._began

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what a later process needs to know about this one (Lightning's hook)."""
        checkpoint["captioner"] = {
            "seconds": self.seconds, "train_encoder_from": self.train_encoder_from, "precision": self._precision,
            "vocabulary": words_digest(self.data.vocabulary),
        }  # fmt: skip

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of other words or another network, and take over its time (Lightning's hook)."""
        refuse_other_words(checkpoint.get("captioner", {}), self.data.vocabulary)
        refuse_other_network(checkpoint, self.state_dict())
        record = {"seconds": 0.0, "train_encoder_from": self.train_encoder_from, **checkpoint.get("captioner", {})}
        if record["train_encoder_from"] != self.train_encoder_from:
            raise ConfigurationError(
                f"the checkpoint was trained with model.train_encoder_from {record['train_encoder_from']}, this run "
                f"has {self.train_encoder_from}: resume it with its own settings"
            )
        self._earlier_seconds = record["seconds"]

    def on_fit_start(self) -> None:
        """Prepare the references that validation compares with."""
        self.validation = Validation(self.data.references("dev"))
        if self.self_critical is not None:
            bad_endings = self.data.vocabulary.encode(BAD_ENDINGS)
            self._rewarded = SelfCritical(self.self_critical, self.data.captions("train"), bad_endings=bad_endings)

    def on_train_start(self) -> None:
        """A run that is resumed in the middle of an epoch has no start of it."""
        self.on_train_epoch_start()

    def on_train_epoch_start(self) -> None:
        """Pretrained batch normalisation keeps its statistics; only a network from nothing learns them."""
        self.network.encoder.train(self.weights is None and self.init_from is None)

    def features_of(self, batch: Batch) -> Tensor:
        """The grids (N, P, C) of a batch: from the cache, or of the encoder that learns."""
        if batch.pixels is None:
            if batch.features is None:
                raise ConfigurationError("a batch has neither pixels nor features")
            return batch.features.float()
        images = self.data.preprocessing.numbers(batch.pixels)  # (N, 3, H, W)
        features: Tensor = self.network.encoder(images.contiguous(memory_format=torch.channels_last))
        return features

    def forward(self, batch: Batch) -> Tensor:
        """Logits (N, K, T, V) by teacher forcing."""
        logits: Tensor = self.network.decoder(self.features_of(batch), batch.tokens[:, :, :-1])[0]
        return logits

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """The mean cross-entropy of a word, or the loss of self-critical training."""
        if self._rewarded is not None:
            return self._self_critical_step(batch, self._rewarded)
        loss = self.teacher_forced_loss(batch) * share_of(self.objective.options.counted(batch.tokens[:, :, 1:]))
        self._log_loss(loss, len(batch.tokens))
        return loss

    def _log_loss(self, loss: Tensor, pictures: int) -> None:
        """The loss of this batch now; that of the epoch when it is known that its step is taken."""
        self.log("train_loss_step", loss, prog_bar=True, on_step=True, batch_size=pictures, sync_dist=True)
        self._losses_of_step.append((loss.detach(), pictures))

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """The epoch's mean loss is that of the steps that are taken; one that is not has no gradients any more.

        Lightning's hook, which comes after those of the callbacks, so that `WatchGradients` has chosen.
        """
        losses, pictures = zip(*self._losses_of_step, strict=True)
        self._losses_of_step.clear()
        if all(parameter.grad is None for parameter in self.parameters()):
            return
        sizes = torch.tensor(pictures, device=self.device)
        mean = (torch.stack(losses) * sizes).sum() / sizes.sum()
        self.log(
            "train_loss_epoch", mean, on_step=False, on_epoch=True, prog_bar=True, batch_size=sum(pictures),
            sync_dist=True,
        )  # fmt: skip

    def teacher_forced_loss(self, batch: Batch) -> Tensor:
        """The loss of the captions of `batch` at this point of the run."""
        own_words = self.objective.options.scheduled_sampling
        if own_words > 0.0:
            own_words *= min(1.0, self.trainer.global_step / self.trainer.estimated_stepping_batches)
        scaler: torch.amp.GradScaler | None = getattr(self.trainer.precision_plugin, "scaler", None)
        return self.objective.loss(
            self.network.decoder,
            self.features_of(batch),
            batch.tokens[:, :, :-1],
            batch.tokens[:, :, 1:],
            own_words=own_words,
            loss_scale=1.0 if scaler is None else scaler.get_scale(),
        )

    def _self_critical_step(self, batch: Batch, objective: SelfCritical) -> Tensor:
        """Draw captions, reward them, and raise the probability of those that were better than the others."""
        loss, figures = objective.loss(self.network.decoder, self.features_of(batch), batch.indices.tolist())
        pictures = len(batch.indices)
        self._log_loss(loss, pictures)
        if (greedy := figures.pop("greedy_reward", None)) is not None:
            self.log("greedy_reward", greedy, on_step=False, on_epoch=True, batch_size=pictures, sync_dist=True)
        self.log_dict(figures, prog_bar=True, on_step=True, on_epoch=True, batch_size=pictures, sync_dist=True)
        return loss

    def on_validation_epoch_start(self) -> None:
        """Caption with the weights of this moment (Lightning's hook)."""
        if self.validation is not None:
            device = engine_device(self.device)
            self.validation.start(Captioner(self.to_bundle({}), device=device, precision=self._precision))

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """See `Validation.add`."""
        if self.validation is not None:
            self.validation.add(self.network.decoder, batch, self.device)

    def on_validation_epoch_end(self) -> None:
        """Every process logs the same: all of them choose the best checkpoint by it."""
        if self.validation is None:
            return
        for name, value in self.validation.losses().items():
            self.log(name, value, prog_bar=name == "val_loss", sync_dist=True)
        # these two look at a few batches only
        partial = self.trainer.sanity_checking or self.trainer.fast_dev_run  # type: ignore[attr-defined]
        for name, value in self.validation.figures(may_be_partial=bool(partial)).items():
            self.log(name, value, prog_bar=name == "cider", sync_dist=True)

    @property
    def dev_captions(self) -> list[str]:
        """The captions of the last validation that saw the whole development split, in order; none before."""
        return [] if self.validation is None else self.validation.captions

    def dev_cider(self) -> float:
        """CIDEr-D of the development split with the weights of this moment, in this process alone."""
        if self.validation is None:
            raise ConfigurationError("the development split is known when training begins")
        device = engine_device(self.trainer.strategy.root_device)
        with Captioner(self.to_bundle({}), device=device, precision=self._precision) as captioner:
            captions = caption_records(captioner, self.data.records("dev"))
        return self.validation.cider([caption.text for caption in captions])

    def configure_optimizers(self) -> Any:
        """AdamW with one learning rate for the encoder and one for the decoder; warm-up, then a cosine."""
        if math.isinf(self.trainer.estimated_stepping_batches):
            raise ConfigurationError("the learning rate needs to know the end: give trainer.max_epochs or max_steps")
        parts = (self.network.encoder, self.encoder_learning_rate), (self.network.decoder, self.learning_rate)
        optimizer = optimizer_of(parts, weight_decay=self.weight_decay)
        schedule = schedule_of(optimizer, steps=int(self.trainer.estimated_stepping_batches), warmup=self.warmup)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def to_bundle(self, phase: dict[str, Any]) -> Bundle:
        """The network of this moment as a bundle whose history ends with `phase`."""
        data = self.data
        return Bundle(
            name=self.name,
            model=self.network,
            vocabulary=data.vocabulary,
            preprocessing=data.preprocessing,
            decoding=self.decoding,
            training={"phases": [*self.history, phase]},
        )


def engine_device(device: torch.device) -> str:
    """Where captions are computed while training runs on `device`: the engine knows two kinds, others only train."""
    return device.type if device.type in ("cpu", "cuda") else "cpu"
