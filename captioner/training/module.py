"""CaptionModule: the losses, the optimiser and the validation of one training run."""

from __future__ import annotations

import hashlib
import math
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
import pytorch_lightning as lightning
import torch
from torch import Tensor

from captioner.bundle import Bundle, load_bundle
from captioner.decoding.options import DecodingOptions
from captioner.errors import ConfigurationError
from captioner.evaluation import ptb
from captioner.evaluation.captioning import caption_records
from captioner.evaluation.diversity import BAD_ENDINGS
from captioner.evaluation.metrics import CiderD, bleu
from captioner.manifest import digest_of
from captioner.model.caption_model import CaptionModel
from captioner.model.configuration import DecoderConfiguration, EncoderConfiguration
from captioner.model.engine import TorchEngine
from captioner.prediction import Captioner
from captioner.text.vocabulary import Vocabulary
from captioner.training.checkpoints import precision_of, refuse_other_network, refuse_other_words, words_digest
from captioner.training.data import Batch, CaptionDataModule
from captioner.training.devices import WeightedMean, gathered, share_of
from captioner.training.feature_cache import cache_features
from captioner.training.initialisation import copy_weights, refuse_contradictions, settings_of
from captioner.training.losses import CrossEntropyOptions
from captioner.training.reward import Reward
from captioner.training.self_critical import SelfCriticalOptions, advantages, draw, greedy_captions, policy_loss
from captioner.training.teacher_forcing import TeacherForcing
from captioner.training.truncation import Truncation


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
        for name, number in rates.items():
            if not 0.0 <= number < math.inf:
                raise ConfigurationError(f"model.{name} is {number}; it must be a finite number of 0 or more")
        if not 0.0 <= warmup <= 1.0:
            raise ConfigurationError(f"model.warmup is {warmup}; it is a share of all steps, from 0 to 1")
        if weights is None and init_from is None and train_encoder_from != "all":
            raise ConfigurationError(
                "an encoder with random weights must learn: give model.weights, --init-from, or train_encoder_from: all"
            )
        if weights is not None and init_from is not None:
            raise ConfigurationError(
                "model.weights and --init-from both say where the encoder starts: give one of them"
            )
        if self_critical is not None and init_from is None:
            raise ConfigurationError(
                "self-critical training rewards captions that the model draws, so it must speak already: train it with "
                "cross-entropy first, and give that bundle by --init-from"
            )
        if self_critical is not None and truncation.mode != "full":
            raise ConfigurationError(
                "self-critical training goes back through the whole caption: leave model.truncation out"
            )
        if cross_entropy.attention_regularisation > 0.0 and not decoder.attention:
            raise ConfigurationError(
                "model.cross_entropy.attention_regularisation needs attention, which this decoder lacks: leave it out"
            )
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
        # every word alike and its own probability alone, whatever is minimised: so that runs can be compared
        self.validation = TeacherForcing(options=CrossEntropyOptions(label_smoothing=0.0), truncation=Truncation())
        self.model: CaptionModel | None = None
        self.name = ""
        self.origin: dict[str, str] = {}
        self.history: list[Any] = []
        self._began = time.monotonic()
        self._earlier_seconds = 0.0
        self._precision = "auto"
        self._captioner: Captioner | None = None
        self._captions: dict[int, str] = {}
        self.dev_captions: list[str] = []  # of the last validation that saw them all

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
        self.origin = self._load_start(self.model, start)
        self.model.encoder.train_from(self.train_encoder_from)
        self.model.encoder.to(memory_format=torch.channels_last)
        device = engine_device(self.trainer.strategy.root_device)
        # timed once, in one process, for the whole run: what is resumed must not choose anew
        resumed = self.trainer.ckpt_path
        precision = "auto" if resumed is None else precision_of(Path(resumed))
        if precision == "auto" and self.trainer.is_global_zero:
            precision = TorchEngine(self.model, device=device).precision
        self._precision = self.trainer.strategy.broadcast(precision)
        if self.train_encoder_from is None:  # a frozen encoder need see each picture only once, unless it varies
            self._cache_features(self.model, device)
        if self.compiled:
            self._compile(self.model)

    def _compile(self, model: CaptionModel) -> None:
        """In place, so that the names in checkpoints stay; copies of the network are not compiled.

        Of the decoder only what one step does: a loop over time would be compiled anew for each length of a caption.
        """
        model.decoder.cells.compile()
        if model.decoder.attention is not None:
            model.decoder.attention.compile()
        if self.train_encoder_from is not None:
            model.encoder.compile()

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

    def _load_start(self, model: CaptionModel, start: Bundle | None) -> dict[str, str]:
        """Load into `model` what it starts from; returns what the record of the training says about it."""
        if start is not None and self.init_from is not None:
            shared = copy_weights(start, model, self.data.vocabulary)
            known = len(self.data.vocabulary.ordinary)
            click.echo(f"{self.init_from}: {shared} of {known} words of the data keep their vectors", err=True)
            return {"bundle": f"{start.name}@{digest_of(self.init_from)}"}
        if self.weights is None:
            return {"weights": "random"}
        model.encoder.load_weights(self.weights)
        if self.weights == "DEFAULT":
            return {"weights": "DEFAULT"}
        with Path(self.weights).open("rb") as file:
            return {"weights": Path(self.weights).name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}

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
        self._references = self.data.references("dev")
        self._cider = CiderD(self._references)
        if self.self_critical is not None:
            self._ends_badly = frozenset(self.data.vocabulary.encode(BAD_ENDINGS))
            self._reward = Reward(self.data.captions("train"), bleu_weight=self.self_critical.bleu_weight)

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
        if self.self_critical is not None:
            return self._self_critical_step(batch, self.self_critical)
        loss = self.teacher_forced_loss(batch) * share_of(self.objective.options.counted(batch.tokens[:, :, 1:]))
        self.log(
            "train_loss", loss, prog_bar=True, on_step=True, on_epoch=True, batch_size=len(batch.tokens), sync_dist=True
        )
        return loss

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

    def _self_critical_step(self, batch: Batch, options: SelfCriticalOptions) -> Tensor:
        """Draw captions, reward them, and raise the probability of those that were better than the others."""
        decoder, features = self.network.decoder, self.features_of(batch)
        drawn = draw(decoder, features, samples=options.samples, max_length=options.max_length)
        captions, pictures = drawn.captions(), batch.indices.tolist()
        rewards = self._reward(captions, [picture for picture in pictures for _ in range(options.samples)])
        rewards = rewards.view(len(pictures), options.samples).to(features.device)  # (N, K)
        greedy: Tensor | None = None
        if options.baseline == "greedy":
            greedy = self._reward(greedy_captions(decoder, features, max_length=options.max_length), pictures)
            greedy = greedy.to(features.device)
            self.log(
                "greedy_reward", greedy.mean(), on_step=False, on_epoch=True, batch_size=len(pictures), sync_dist=True
            )
        loss = policy_loss(drawn, advantages(rewards, greedy)) * share_of((drawn.tokens != Vocabulary.pad).sum())
        ends_badly = self._ends_badly  # ids
        bad = sum(caption[-1] != Vocabulary.end or caption[-2] in ends_badly for caption in captions) / len(captions)
        figures: dict[str, Tensor | float] = {
            "reward": rewards.mean(),
            "bad_endings": bad,
            "words": sum(map(len, captions)) / len(captions) - 1,
        }
        self.log("train_loss", loss, on_step=True, on_epoch=True, batch_size=len(pictures), sync_dist=True)
        self.log_dict(figures, prog_bar=True, on_step=True, on_epoch=True, batch_size=len(pictures), sync_dist=True)
        return loss

    def on_validation_epoch_start(self) -> None:
        """Caption with the weights of this moment, down the same corridor as everybody."""
        self._captioner = Captioner(self.to_bundle({}), device=engine_device(self.device), precision=self._precision)
        self._captions = {}
        self._losses = {name: WeightedMean() for name in ("val_loss", "val_loss_shuffled")}

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Teacher-forced loss, with the right pictures and with wrong ones, and captions by search."""
        captioner = self._captioner
        if captioner is None:
            return
        if batch.features is None and batch.pixels is not None:
            with torch.autocast(self.device.type, enabled=False):  # as precise as the service will be
                features = captioner.encode(batch.pixels.cpu().numpy()).to(self.device)
        elif batch.features is not None:
            features = batch.features.float()
        inputs, targets = batch.tokens[:, :, :-1], batch.tokens[:, :, 1:]
        words = int(self.validation.options.counted(targets))
        self._losses["val_loss"].add(self.validation.loss(self.network.decoder, features, inputs, targets), words)
        if len(features) > 1:  # every picture with the captions of its neighbour: what does seeing the right one help?
            others = self.validation.loss(self.network.decoder, features.roll(1, dims=0), inputs, targets)
            self._losses["val_loss_shuffled"].add(others, words)
        with torch.autocast(self.device.type, enabled=False):  # as precise as the service will be
            captions = captioner.caption_features(features.float())
        for index, caption in zip(batch.indices.tolist(), captions, strict=True):
            self._captions[index] = caption.text

    def on_validation_epoch_end(self) -> None:
        """CIDEr-D, BLEU-4 and the share of distinct captions on the development split."""
        self._captioner = None
        for name, losses in self._losses.items():
            mean = WeightedMean.of(gathered(losses))
            if mean is not None:
                self.log(name, mean, prog_bar=name == "val_loss", sync_dist=True)
        self._captions = {index: text for captions in gathered(self._captions) for index, text in captions.items()}
        if len(self._captions) < len(self._references):
            # these two look at a few batches only
            if self.trainer.sanity_checking or self.trainer.fast_dev_run:  # type: ignore[attr-defined]
                return
            raise ConfigurationError(
                f"validation saw {len(self._captions)} of {len(self._references)} pictures: it needs all of them, so "
                "leave trainer.limit_val_batches at 1.0"
            )
        self.dev_captions = [self._captions[index] for index in range(len(self._references))]
        hypotheses = [ptb.tokenize(caption) for caption in self.dev_captions]
        # every process computes the same: all of them choose the best checkpoint by it
        self.log("cider", float(self._cider.score(hypotheses).mean()), prog_bar=True, sync_dist=True)
        self.log("bleu4", bleu(hypotheses, self._references)[3], prog_bar=True, sync_dist=True)
        self.log("distinct", len(set(self.dev_captions)) / len(self.dev_captions), sync_dist=True)

    def dev_cider(self) -> float:
        """CIDEr-D of the development split with the weights of this moment, in this process alone."""
        records = self.data.records("dev")
        device = engine_device(self.trainer.strategy.root_device)
        with Captioner(self.to_bundle({}), device=device, precision=self._precision) as captioner:
            captions = caption_records(captioner, records)
        return float(self._cider.score([ptb.tokenize(caption.text) for caption in captions]).mean())

    def configure_optimizers(self) -> Any:
        """AdamW with one learning rate for the encoder and one for the decoder; warm-up, then a cosine."""
        groups: list[dict[str, Any]] = []
        for part, rate in (
            (self.network.encoder, self.encoder_learning_rate),
            (self.network.decoder, self.learning_rate),
        ):
            learning = [parameter for parameter in part.parameters() if parameter.requires_grad]
            matrices = [parameter for parameter in learning if parameter.dim() > 1]
            vectors = [parameter for parameter in learning if parameter.dim() <= 1]
            groups.append({"params": matrices, "lr": rate, "weight_decay": self.weight_decay})
            groups.append({"params": vectors, "lr": rate, "weight_decay": 0.0})
        optimizer = torch.optim.AdamW([group for group in groups if group["params"]])
        if math.isinf(self.trainer.estimated_stepping_batches):
            raise ConfigurationError("the learning rate needs to know the end: give trainer.max_epochs or max_steps")
        steps = int(self.trainer.estimated_stepping_batches)
        rising = max(1, round(self.warmup * steps))

        def factor(step: int) -> float:
            if step < rising:
                return (step + 1) / rising
            return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, (step - rising) / max(1, steps - rising))))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

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
