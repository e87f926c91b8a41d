"""CaptionModule: its loss, what learns and how fast, and that validation is the corridor of everybody."""

from __future__ import annotations

import hashlib
import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as lightning
import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from captioner.bundle import load_bundle, save_bundle
from captioner.decoding.options import DecodingOptions
from captioner.errors import ConfigurationError
from captioner.evaluation import ptb
from captioner.evaluation.metrics import CiderD, bleu
from captioner.geometry import Geometry
from captioner.manifest import digest_of
from captioner.model.configuration import DecoderConfiguration, EncoderConfiguration
from captioner.prediction import Captioner
from captioner.preprocessing import Augmentation, Preprocessing
from captioner.text.vocabulary import Vocabulary
from captioner.training.data import CaptionDataModule
from captioner.training.losses import CrossEntropyOptions
from captioner.training.module import CaptionModule, engine_device

pytestmark = [
    # What `captioner train` filters as well: others' advice and others' deprecations.
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*in eval mode at the start of training.*"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*is deprecated:FutureWarning"),
]

DECODER = DecoderConfiguration(embedding_size=8, hidden_size=12, attention_size=6, dropout=0.0)
SQUEEZE = EncoderConfiguration(name="squeezenet1_1", cut="features.3")
SHUFFLE = EncoderConfiguration(name="shufflenet_v2_x0_5", cut="stage2")  # it has batch normalisations


def data_of(root: Path, tmp_path: Path, **settings: Any) -> CaptionDataModule:
    return CaptionDataModule(
        str(root),
        Preprocessing(geometry=Geometry(size=32)),
        batch_size=8,
        min_count=1,
        cache=str(tmp_path / "cache"),
        num_workers=0,
        **settings,
    )


def fit(module: CaptionModule, data: CaptionDataModule, tmp_path: Path, **settings: Any) -> lightning.Trainer:
    """Train for an epoch of three steps; returns the trainer."""
    lightning.seed_everything(1, verbose=False)
    options: dict[str, Any] = {
        "max_epochs": 1,
        "accelerator": "cpu",
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
        "default_root_dir": str(tmp_path),
    }
    trainer = lightning.Trainer(**{**options, **settings})
    trainer.fit(module, data)
    return trainer


def saved(module: CaptionModule, path: Path) -> Path:
    save_bundle(module.to_bundle({"data": "shapes"}), path, card="", licence_text="")
    return path


@pytest.fixture
def start(shapes: Path, tmp_path: Path) -> Path:
    """A bundle with batch normalisations, as a first phase would leave it."""
    module = CaptionModule(SHUFFLE, DECODER, train_encoder_from="all")
    fit(module, data_of(shapes, tmp_path), tmp_path, limit_val_batches=0)
    return saved(module, tmp_path / "start")


# --- the loss


def test_the_loss_is_the_mean_cross_entropy_of_a_word(shapes: Path, tmp_path: Path) -> None:
    smoothing = 0.1
    module = CaptionModule(
        SQUEEZE, DECODER, train_encoder_from="all", cross_entropy=CrossEntropyOptions(label_smoothing=smoothing)
    )
    trainer = fit(module, data_of(shapes, tmp_path), tmp_path, limit_val_batches=0)
    module.eval()
    batch = next(iter(module.data.val_dataloader()))
    with torch.no_grad():
        logits = module(batch)
        loss = module.teacher_forced_loss(batch)
    assert logits.shape == (*batch.tokens[:, :, 1:].shape, len(module.data.vocabulary))
    terms = []
    for n, k, t in torch.cartesian_prod(*(torch.arange(size) for size in logits.shape[:3])).tolist():
        target = int(batch.tokens[n, k, t + 1])
        if target != Vocabulary.pad:
            log_probabilities = torch.log_softmax(logits[n, k, t], dim=0)
            spread = log_probabilities.mean()
            terms.append(float((smoothing - 1) * log_probabilities[target] - smoothing * spread))
    assert float(loss) == pytest.approx(sum(terms) / len(terms), abs=1e-5)
    assert trainer.global_step == 3


def test_it_learns(shapes: Path, tmp_path: Path) -> None:
    module = CaptionModule(
        SQUEEZE,
        DECODER,
        train_encoder_from="all",
        learning_rate=3e-2,
        cross_entropy=CrossEntropyOptions(label_smoothing=0.0),
    )
    trainer = fit(module, data_of(shapes, tmp_path), tmp_path, max_epochs=10, limit_val_batches=0)
    assert float(trainer.callback_metrics["train_loss_epoch"]) < 0.75 * math.log(len(module.data.vocabulary))


# --- what learns


def test_a_frozen_encoder_stays_and_its_features_come_from_the_cache(shapes: Path, tmp_path: Path, start: Path) -> None:
    before = load_bundle(start).model
    module = CaptionModule(SHUFFLE, DECODER, init_from=str(start))
    data = data_of(shapes, tmp_path)
    fit(module, data, tmp_path)
    for name, value in before.encoder.state_dict().items():
        assert torch.equal(module.network.encoder.state_dict()[name], value), name
    assert not torch.equal(before.decoder.initial.weight, module.network.decoder.initial.weight)
    assert set(data.features) == {"train", "dev"}
    batch = next(iter(data.train_dataloader()))
    assert batch.pixels is None
    assert batch.features is not None
    assert batch.features.shape == (8, 16, module.network.encoder.channels)


def test_fine_tuning_keeps_the_batch_statistics(shapes: Path, tmp_path: Path, start: Path) -> None:
    before = load_bundle(start).model.encoder
    module = CaptionModule(SHUFFLE, DECODER, init_from=str(start), train_encoder_from="stage2.3")
    fit(module, data_of(shapes, tmp_path), tmp_path)
    after = module.network.encoder
    for name, value in before.network.named_buffers():
        assert torch.equal(after.network.get_buffer(name), value), name
    for name, value in before.network.named_parameters():
        assert torch.equal(after.network.get_parameter(name), value) != name.startswith("stage2.3"), name


def test_a_network_from_nothing_learns_its_batch_statistics(shapes: Path, tmp_path: Path) -> None:
    module = CaptionModule(SHUFFLE, DECODER, train_encoder_from="all")
    fit(module, data_of(shapes, tmp_path), tmp_path)
    means = [value for name, value in module.network.named_buffers() if name.endswith("running_mean")]
    assert means
    assert all(bool(mean.any()) for mean in means)


def test_a_frozen_encoder_sees_varied_pictures_anew(shapes: Path, tmp_path: Path, start: Path) -> None:
    before = load_bundle(start).model.encoder
    module = CaptionModule(SHUFFLE, DECODER, init_from=str(start))
    data = data_of(shapes, tmp_path, augmentation=Augmentation(flip=True, min_scale=0.5))
    fit(module, data, tmp_path)
    assert set(data.features) == {"dev"}
    loader = data.train_dataloader()
    seen: list[dict[int, torch.Tensor]] = []
    for epoch in range(2):
        loader.batches.set_epoch(epoch)
        batches = list(loader)
        assert all(batch.features is None for batch in batches)
        seen.append(
            {int(i): pixels for batch in batches for i, pixels in zip(batch.indices, batch.pixels, strict=True)}
        )
    assert not any(torch.equal(seen[0][picture], seen[1][picture]) for picture in seen[0])
    for name, value in before.state_dict().items():
        assert torch.equal(module.network.encoder.state_dict()[name], value), name


def test_an_unknown_part_is_named(shapes: Path, tmp_path: Path, start: Path) -> None:
    module = CaptionModule(SHUFFLE, DECODER, init_from=str(start), train_encoder_from="stage9")
    with pytest.raises(ConfigurationError, match="no part 'stage9'"):
        fit(module, data_of(shapes, tmp_path), tmp_path)


# --- how fast


def test_rates_rise_then_fall_and_only_matrices_decay(shapes: Path, tmp_path: Path) -> None:
    module = CaptionModule(
        SQUEEZE, DECODER, train_encoder_from="all",
        learning_rate=1e-2, encoder_learning_rate=1e-3, weight_decay=0.5, warmup=0.5,
    )  # fmt: skip
    trainer = fit(module, data_of(shapes, tmp_path), tmp_path, max_epochs=4, limit_val_batches=0)
    (optimizer,) = trainer.optimizers
    (scheduler,) = (configuration.scheduler for configuration in trainer.lr_scheduler_configs)
    assert scheduler.base_lrs == [1e-3, 1e-3, 1e-2, 1e-2]
    for group in optimizer.param_groups:
        dimensions = {parameter.dim() > 1 for parameter in group["params"]}
        assert dimensions == {group["weight_decay"] > 0}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(module.network.parameters()))
    assert isinstance(scheduler, torch.optim.lr_scheduler.LambdaLR)
    factor = scheduler.lr_lambdas[0]
    rates = [factor(step) for step in range(13)]  # 4 epochs of 3 steps
    assert rates[:6] == pytest.approx([step / 6 for step in range(1, 7)])
    assert rates[6] == pytest.approx(1.0)
    assert all(later < earlier for earlier, later in itertools.pairwise(rates[6:]))
    assert rates[12] == pytest.approx(0.01)


def test_training_without_an_end_is_refused(shapes: Path, tmp_path: Path) -> None:
    module = CaptionModule(SQUEEZE, DECODER, train_encoder_from="all")
    with pytest.raises(ConfigurationError, match=r"trainer\.max_epochs"):
        fit(module, data_of(shapes, tmp_path), tmp_path, max_epochs=-1)


# --- validation


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_validation_is_what_everybody_gets(shapes: Path, tmp_path: Path, precision: Any) -> None:
    options = DecodingOptions(beam_size=2, max_length=9)
    module = CaptionModule(SQUEEZE, DECODER, train_encoder_from="all", learning_rate=1e-2, decoding=options)
    trainer = fit(module, data_of(shapes, tmp_path), tmp_path, precision=precision)
    references = module.data.references("dev")
    with Captioner(module.to_bundle({}), processes=1) as captioner:
        assert captioner.options == options
        captions = [caption.text for caption in captioner.caption(module.data.images("dev"))]
    hypotheses = [ptb.tokenize(caption) for caption in captions]
    metrics = trainer.callback_metrics
    assert float(metrics["cider"]) == pytest.approx(float(CiderD(references).score(hypotheses).mean()), abs=1e-3)
    assert float(metrics["bleu4"]) == pytest.approx(bleu(hypotheses, references)[3], abs=1e-3)
    assert float(metrics["distinct"]) == pytest.approx(len(set(captions)) / len(captions))


def test_val_loss_is_the_mean_of_a_word_whatever_is_minimised(shapes: Path, tmp_path: Path) -> None:
    options = CrossEntropyOptions(label_smoothing=0.4, mean="sentence", attention_regularisation=1.0)
    module = CaptionModule(SQUEEZE, DECODER, train_encoder_from="all", learning_rate=3e-2, cross_entropy=options)
    data = data_of(shapes, tmp_path)
    data.batch_size = 3
    trainer = fit(module, data, tmp_path, max_epochs=3)
    module.eval()
    losses = []
    with torch.no_grad():
        for batch in data.val_dataloader():
            targets = batch.tokens[:, :, 1:]
            of_words = module(batch).log_softmax(dim=-1).gather(3, targets.unsqueeze(3)).squeeze(3)
            losses += (-of_words[targets != Vocabulary.pad]).tolist()
    found = float(trainer.callback_metrics["val_loss"])
    assert found == pytest.approx(sum(losses) / len(losses), rel=1e-2)  # its pictures are encoded in lower precision


@pytest.mark.parametrize(("device", "engine"), [("cpu", "cpu"), ("cuda:1", "cuda"), ("mps", "cpu"), ("xpu", "cpu")])
def test_validation_captions_where_the_engine_runs(device: str, engine: str) -> None:
    assert engine_device(torch.device(device)) == engine


def test_the_precisions_are_timed_once_a_run(shapes: Path, tmp_path: Path) -> None:
    timed: list[int] = []

    def count(module: torch.nn.Module, inputs: Any) -> None:
        # nothing else here computes in float16; how many more pictures are timed depends on the first
        if isinstance(module, torch.fx.GraphModule) and inputs[0].dtype == torch.float16 and len(inputs[0]) == 1:
            timed.append(len(inputs[0]))

    numbers = []
    with register_module_forward_pre_hook(count):
        for epochs in (1, 3):
            timed.clear()
            module = CaptionModule(SQUEEZE, DECODER, train_encoder_from="all")
            fit(module, data_of(shapes, tmp_path), tmp_path, max_epochs=epochs)
            numbers.append(len(timed))
    assert numbers[0] == numbers[1] > 0


def test_half_a_development_split_gives_no_score(shapes: Path, tmp_path: Path, start: Path) -> None:
    module = CaptionModule(SHUFFLE, DECODER, init_from=str(start), train_encoder_from="all")
    data = data_of(shapes, tmp_path)
    data.batch_size = 2
    with pytest.raises(ConfigurationError, match=r"saw 3 of 7 pictures.*limit_val_batches"):
        fit(module, data, tmp_path, limit_val_batches=2)


def test_lightnings_sanity_check_passes(shapes: Path, tmp_path: Path) -> None:
    module = CaptionModule(SQUEEZE, DECODER, train_encoder_from="all")
    data = data_of(shapes, tmp_path)
    data.batch_size = 3
    assert fit(module, data, tmp_path, num_sanity_val_steps=1, max_steps=1).global_step == 1


# --- where it starts


def test_weights_from_a_file(shapes: Path, tmp_path: Path, start: Path) -> None:
    state = dict(load_bundle(start).model.encoder.network.state_dict())
    torch.save(state, tmp_path / "encoder.pt")
    module = CaptionModule(SHUFFLE, DECODER, weights=str(tmp_path / "encoder.pt"))
    fit(module, data_of(shapes, tmp_path), tmp_path)
    for name, value in state.items():
        assert torch.equal(module.network.encoder.network.state_dict()[name], value), name
    digest = hashlib.sha256((tmp_path / "encoder.pt").read_bytes()).hexdigest()
    assert module.origin == {"weights": "encoder.pt", "sha256": digest}


def test_a_bundle_brings_its_words_and_its_history(
    shapes: Path, tmp_path: Path, start: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    module = CaptionModule(SHUFFLE, replace(DECODER, dropout=0.25), init_from=str(start))
    data = data_of(shapes, tmp_path)
    fit(module, data, tmp_path)
    bundle = module.to_bundle({"data": "more"})
    assert bundle.model.decoder.configuration.dropout == 0.25
    assert module.origin == {"bundle": f"shapes-shufflenet_v2_x0_5-lstm@{digest_of(start)}"}
    assert bundle.training["phases"] == [{"data": "shapes"}, {"data": "more"}]
    words = len(data.vocabulary.ordinary)
    assert f"{words} of {words} words of the data keep their vectors" in capsys.readouterr().err


def test_a_setting_that_contradicts_the_bundle_is_refused(shapes: Path, tmp_path: Path, start: Path) -> None:
    module = CaptionModule(SQUEEZE, DECODER, init_from=str(start))
    with pytest.raises(ConfigurationError, match=r"model\.encoder\.name is squeezenet1_1, but the bundle"):
        fit(module, data_of(shapes, tmp_path), tmp_path)


def test_a_checkpoint_brings_its_time_and_must_have_learned_the_same_parts(shapes: Path, tmp_path: Path) -> None:
    module = CaptionModule(SQUEEZE, DECODER, train_encoder_from="all")
    fit(module, data_of(shapes, tmp_path), tmp_path, max_steps=1, limit_val_batches=0)
    checkpoint: dict[str, Any] = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    checkpoint["captioner"]["seconds"] = 5000.0
    module.on_load_checkpoint(checkpoint)
    assert 5000.0 < module.seconds < 6000.0
    checkpoint["captioner"]["train_encoder_from"] = "features.3"
    with pytest.raises(ConfigurationError, match=r"train_encoder_from features\.3, this run has all"):
        module.on_load_checkpoint(checkpoint)


def test_a_checkpoint_of_the_same_words_in_another_order_is_refused(shapes: Path, tmp_path: Path) -> None:
    module = CaptionModule(SQUEEZE, DECODER, train_encoder_from="all")
    fit(module, data_of(shapes, tmp_path), tmp_path, max_steps=1, limit_val_batches=0)
    checkpoint: dict[str, Any] = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    module.on_load_checkpoint(checkpoint)
    first, second, *rest = module.data.vocabulary.ordinary
    module.data.vocabulary = Vocabulary([second, first, *rest])  # as a changed caption turns them round
    with pytest.raises(ConfigurationError, match=r"another vocabulary: the data or data\.min_count have changed"):
        module.on_load_checkpoint(checkpoint)


def test_augmentation_reaches_the_pictures(shapes: Path, tmp_path: Path) -> None:
    module = CaptionModule(SQUEEZE, DECODER, train_encoder_from="all")
    data = data_of(shapes, tmp_path, augmentation=Augmentation(min_scale=0.5, colour=0.2))
    assert fit(module, data, tmp_path).global_step == 3
