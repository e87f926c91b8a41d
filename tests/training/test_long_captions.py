"""Backpropagation through time in the real training: captions of 200 words, in the official layout of a data set."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as lightning
import torch
from torch import Tensor, nn

from captioner.bundle import load_bundle
from captioner.geometry import Geometry
from captioner.model.configuration import DecoderConfiguration, EncoderConfiguration
from captioner.preprocessing import Preprocessing
from captioner.text.vocabulary import Vocabulary
from captioner.training.batch import Batch
from captioner.training.data import CaptionDataModule
from captioner.training.losses import CrossEntropyOptions
from captioner.training.module import CaptionModule
from captioner.training.teacher_forcing import TeacherForcing
from captioner.training.truncation import Truncation
from tests.training.running import recipe, train

WORDS, STEPS = 200, 201  # `<start>` and the words are fed
ENCODER = EncoderConfiguration(name="squeezenet1_1", cut="features.3")
QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "logger": False,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "num_sanity_val_steps": 0,
    "limit_val_batches": 0,
}

pytestmark = [
    # What `captioner train` filters as well: others' advice and others' deprecations.
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    pytest.mark.filterwarnings("ignore:.*in eval mode at the start of training.*"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec.*is deprecated:FutureWarning"),
]


@pytest.fixture(scope="module")
def long_captions(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pictures of the toy set, each with 200 words that follow a rule: a word is the sum of two before it."""
    root = tmp_path_factory.mktemp("long") / "long"
    shutil.copytree(shapes, root)
    (file,) = root.glob("*.token.txt")
    dice = random.Random(1)
    lines = []
    for line in file.read_text(encoding="utf-8").splitlines():
        numbers = [dice.randrange(20), dice.randrange(20)]
        while len(numbers) < WORDS:
            numbers.append((numbers[-1] + numbers[-2]) % 20)
        key = line.split("\t")[0]
        lines.append(f"{key}\t{' '.join('word' + chr(ord('a') + number) for number in numbers)}\n")
    file.write_text("".join(lines), encoding="utf-8")
    return root


def trained(folder: Path, data: Path, *arguments: str) -> dict[str, Tensor]:
    """The parameters after two steps of the command."""
    output = folder / "run"
    always = ["--data.max_words=200", "--trainer.max_steps=2", "--trainer.precision=32-true", "--trainer.logger=false"]
    assert train("--config", recipe(folder, data), "--output", output, *always, *arguments) == 0
    state: dict[str, Tensor] = torch.load(output / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return state


def test_the_command_trains_the_same_model_where_nothing_is_cut(long_captions: Path, tmp_path: Path) -> None:
    runs: dict[str, dict[str, Tensor]] = {}
    for name, arguments in {
        "full": [],
        "behind the end": ["--model.truncation.mode=truncated", f"--model.truncation.steps={STEPS}"],
        "truncated": ["--model.truncation.mode=truncated", "--model.truncation.steps=5"],
        "randomised": ["--model.truncation.mode=randomised", "--model.truncation.steps=5"],
    }.items():
        folder = tmp_path / name
        folder.mkdir()
        runs[name] = trained(folder, long_captions, *arguments)  # with dropout, which is drawn in the same order
    for name, value in runs["full"].items():
        torch.testing.assert_close(runs["behind the end"][name], value, atol=1e-6, rtol=0)
    for name in ("truncated", "randomised"):
        distances = [float((runs[name][key] - value).abs().max()) for key, value in runs["full"].items()]
        assert max(distances) > 1e-5, name
    phase = load_bundle(tmp_path / "truncated" / "run" / "bundle").training["phases"][0]
    assert phase["settings"]["truncation"] == {"mode": "truncated", "steps": 5}


class FirstGradients(lightning.Callback):
    """Keeps the gradients of the first step."""

    def __init__(self) -> None:
        self.gradients: dict[str, Tensor] = {}

    def on_after_backward(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Lightning's hook."""
        if not self.gradients:
            named = pl_module.named_parameters()
            self.gradients = {name: value.grad.clone() for name, value in named if value.grad is not None}


def fit(
    data: Path, tmp_path: Path, truncation: Truncation, *, cell: str = "lstm", attention: bool = True, **options: Any
) -> tuple[CaptionModule, dict[str, Tensor]]:
    """A module after one step of training, and the gradients of that step."""
    decoder = DecoderConfiguration(
        cell=cell, attention=attention, embedding_size=8, hidden_size=12, attention_size=6, dropout=0.0
    )
    lightning.seed_everything(1, verbose=False)
    module = CaptionModule(
        ENCODER, decoder, train_encoder_from="all", truncation=truncation, cross_entropy=CrossEntropyOptions(**options)
    )
    keep = FirstGradients()
    data_module = CaptionDataModule(
        str(data),
        preprocessing=Preprocessing(geometry=Geometry(size=32)),
        batch_size=4,
        min_count=1,
        max_words=WORDS,
        cache=str(tmp_path / "cache"),
        num_workers=0,
    )
    lightning.Trainer(**QUIET, max_steps=1, callbacks=[keep], default_root_dir=str(tmp_path)).fit(module, data_module)
    return module, keep.gradients


def a_batch(module: CaptionModule) -> Batch:
    """Of the development split, in order, so that it is always the same."""
    batch: Batch = next(iter(module.data.val_dataloader()))
    return batch


def test_gradients_are_equal_where_nothing_is_cut(long_captions: Path, tmp_path: Path) -> None:
    _, full = fit(long_captions, tmp_path, Truncation())
    _, behind = fit(long_captions, tmp_path, Truncation(mode="truncated", steps=STEPS))
    _, cut = fit(long_captions, tmp_path, Truncation(mode="truncated", steps=5))
    assert full.keys() == behind.keys() == cut.keys()
    assert any("encoder" in name for name in full)
    for name, value in full.items():
        torch.testing.assert_close(behind[name], value, atol=1e-6, rtol=0)
    assert max(float((cut[name] - value).abs().max()) for name, value in full.items()) > 1e-4


@pytest.mark.parametrize("attention", [True, False])
def test_no_gradient_goes_further_back_than_k_words(long_captions: Path, tmp_path: Path, attention: bool) -> None:
    """The loss of one step of the module that was trained, and its gradient at the vector of every word before."""
    k, step = 20, 90  # in the middle of the fifth segment, from 80 to 99
    module, _ = fit(long_captions, tmp_path, Truncation(mode="truncated", steps=k), attention=attention)
    batch = a_batch(module)
    for objective in (TeacherForcing(options=CrossEntropyOptions(), truncation=Truncation()), module.objective):
        truncation = objective.truncation
        inputs, targets = batch.tokens[:, :, :-1], batch.tokens[:, :, 1:].clone()
        targets[:, :, :step], targets[:, :, step + 1 :] = Vocabulary.pad, Vocabulary.pad
        norms: dict[int, Tensor] = {}
        begins = 0

        def note(embedding: nn.Module, given: tuple[Tensor], vectors: Tensor, norms: dict[int, Tensor] = norms) -> None:
            nonlocal begins
            first, begins = begins, begins + vectors.shape[2]

            def keep(gradient: Tensor) -> None:  # (N, K, T, E)
                for t in range(gradient.shape[2]):
                    norms[first + t] = norms.get(first + t, torch.zeros(())) + gradient[:, :, t].norm()

            vectors.register_hook(keep)  # type: ignore[no-untyped-call]

        hook = module.network.decoder.embedding.register_forward_hook(note)
        loss = objective.loss(module.network.decoder, module.features_of(batch), inputs, targets)
        loss.backward()  # type: ignore[no-untyped-call]
        hook.remove()
        assert set(norms) == set(range(STEPS))
        reaches_back_to = 0 if truncation.mode == "full" else 80
        for t in range(reaches_back_to, step + 1):
            if step - t < k:
                assert float(norms[t]) > 0.0, t
        for t in [*range(reaches_back_to), *range(step + 1, STEPS)]:
            assert float(norms[t]) == 0.0, t  # exactly
        if truncation.mode == "full":
            assert float(norms[step - k - 1]) > 0.0  # what the cut makes zero


@pytest.mark.parametrize("weigh", [True, False])
def test_the_mean_of_random_cuts_approaches_the_full_gradient(long_captions: Path, tmp_path: Path, weigh: bool) -> None:
    """The gradient along the full one, over many draws: its mean is that of the full gradient within 4 standard errors.

    Without the weights (the same draws, as plain cuts) it is not: the tolerance is tight enough to miss them.
    """
    truncation = Truncation(mode="randomised", steps=4)
    if not weigh:
        truncation = _Unweighted(mode="randomised", steps=4)
    module, _ = fit(long_captions, tmp_path, Truncation(), cell="rnn", attention=False)
    decoder = module.network.decoder.double().eval()
    with torch.no_grad():  # a memory that fades slowly, so that far words count
        weight = decoder.cells.cells[0].get_parameter("weight_hh")
        weight.copy_(0.9 * torch.linalg.qr(weight)[0])
    batch = a_batch(module)
    features = module.features_of(batch).detach().double()

    def gradient(how: Truncation) -> Tensor:
        decoder.zero_grad()
        forcing = type(module.objective)(options=CrossEntropyOptions(), truncation=how)
        loss = forcing.loss(decoder, features, batch.tokens[:, :, :-1], batch.tokens[:, :, 1:])
        loss.backward()  # type: ignore[no-untyped-call]
        return torch.cat([p.grad.flatten() for p in decoder.parameters() if p.grad is not None])

    full = gradient(Truncation())
    torch.manual_seed(4)
    draws = torch.stack([gradient(truncation) for _ in range(60)]) @ full / full.dot(full)  # 1 on average
    error = float(draws.std() / len(draws) ** 0.5)
    assert error < 0.1
    assert (abs(float(draws.mean()) - 1.0) < 4 * error) == weigh


class _Unweighted(Truncation):
    """The cuts of randomised truncation without its weights."""

    @property
    def kept_weight(self) -> float:
        return 1.0


def test_the_share_of_own_words_rises_in_a_line(long_captions: Path, tmp_path: Path) -> None:
    shares: list[float] = []

    class Watch(lightning.Callback):
        """Counts how many `<end>` are fed, which the network is made to say always, and which no caption feeds."""

        def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
            """Lightning's hook."""
            assert isinstance(pl_module, CaptionModule)
            pl_module.network.decoder.embedding.register_forward_pre_hook(
                lambda layer, inputs: counts.append((int((inputs[0] == Vocabulary.end).sum()), inputs[0].numel()))
            )

        def on_train_batch_start(
            self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: Any, batch_idx: int
        ) -> None:
            """Lightning's hook."""
            assert isinstance(pl_module, CaptionModule)
            nn.init.zeros_(pl_module.network.decoder.bias)
            with torch.no_grad():
                pl_module.network.decoder.bias[Vocabulary.end] = 100.0
            counts.clear()

        def on_train_batch_end(
            self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, outputs: Any, batch: Any, index: int
        ) -> None:
            """Lightning's hook."""
            shares.append(sum(ends for ends, _ in counts) / sum(words for _, words in counts))

    counts: list[tuple[int, int]] = []
    lightning.seed_everything(1, verbose=False)
    module = CaptionModule(
        ENCODER,
        DecoderConfiguration(embedding_size=8, hidden_size=12, attention_size=6),
        train_encoder_from="all",
        cross_entropy=CrossEntropyOptions(scheduled_sampling=0.8),
        truncation=Truncation(mode="truncated", steps=30),
    )
    data = CaptionDataModule(
        str(long_captions),
        preprocessing=Preprocessing(geometry=Geometry(size=32)),
        batch_size=8,
        min_count=1,
        max_words=WORDS,
        cache=str(tmp_path / "cache"),
        num_workers=0,
    )
    lightning.Trainer(**QUIET, max_steps=4, callbacks=[Watch()], default_root_dir=str(tmp_path)).fit(module, data)
    # 0 of 4 steps are done at the first; 1,600 words are fed a step
    assert shares == [pytest.approx(0.8 * step / 4, abs=4 * 0.5 / 1600**0.5) for step in range(4)]
    assert shares[0] == 0.0
