"""Teacher forcing: gradients against graphs written out, memory, scheduled sampling and loss scales."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from captioner.model.configuration import CELLS, DecoderConfiguration
from captioner.model.decoder import Decoder
from captioner.training.losses import CrossEntropyOptions
from captioner.training.teacher_forcing import TeacherForcing
from captioner.training.truncation import Truncation
from tests.training.saved_bytes import SavedBytes

N, K, P, C, V, T = 2, 2, 4, 3, 11, 13
PLAIN = CrossEntropyOptions(label_smoothing=0.0)


def make(cell: str = "lstm", num_layers: int = 1, attention: bool = True) -> Decoder:
    torch.manual_seed(0)
    configuration = DecoderConfiguration(
        cell=cell, num_layers=num_layers, attention=attention, embedding_size=5, hidden_size=6, attention_size=3
    )
    return Decoder(configuration, vocabulary_size=V, channels=C).double().eval()


def features() -> Tensor:
    torch.manual_seed(2)
    return torch.randn(N, P, C, dtype=torch.float64, requires_grad=True)


def tokens(steps: int = T) -> Tensor:
    return torch.randint(4, V, (N, K, steps + 1), generator=torch.Generator().manual_seed(3))


def gradients(
    decoder: Decoder, truncation: Truncation, options: CrossEntropyOptions = PLAIN, steps: int = T
) -> tuple[Tensor, list[Tensor]]:
    grid, ids = features(), tokens(steps)
    forcing = TeacherForcing(options=options, truncation=truncation)
    loss = forcing.loss(decoder, grid, ids[:, :, :-1], ids[:, :, 1:])
    return loss.detach(), list(torch.autograd.grad(loss, [grid, *decoder.parameters()]))


@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("cell", CELLS)
def test_truncated_is_a_graph_whose_states_are_detached(cell: str, num_layers: int, attention: bool) -> None:
    decoder, steps = make(cell, num_layers, attention), 4
    loss, found = gradients(decoder, Truncation(mode="truncated", steps=steps))
    grid, ids = features(), tokens()
    state = decoder.initial_state(grid, beams=K)
    losses = []
    for t in range(T):
        if t > 0 and t % steps == 0:
            memory = None if state.memory is None else state.memory.detach()
            state = replace(state, hidden=state.hidden.detach(), memory=memory)
        log_probabilities, _, state = decoder.step(ids[:, :, t], state)
        losses.append(F.nll_loss(log_probabilities.flatten(0, 1), ids[:, :, t + 1].flatten()))
    expected = torch.stack(losses).mean()
    torch.testing.assert_close(loss, expected.detach(), atol=1e-12, rtol=0)
    for one, other in zip(found, torch.autograd.grad(expected, [grid, *decoder.parameters()]), strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=0)
    _, full = gradients(decoder, Truncation())
    assert max(float((one - other).abs().max()) for one, other in zip(found, full, strict=True)) > 1e-4  # it does cut


@pytest.mark.parametrize("steps", [T, T + 1, 1000])
@pytest.mark.parametrize("regularisation", [0.0, 0.5])
def test_a_cut_behind_the_end_is_none(steps: int, regularisation: float) -> None:
    decoder, options = make("gru", 2), replace(PLAIN, attention_regularisation=regularisation)
    loss, full = gradients(decoder, Truncation(), options)
    other_loss, cut = gradients(decoder, Truncation(mode="truncated", steps=steps), options)
    torch.testing.assert_close(other_loss, loss, atol=1e-12, rtol=0)
    for one, other in zip(full, cut, strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=0)


@pytest.mark.parametrize("regularisation", [0.0, 0.5])
def test_the_mean_of_all_random_cuts_is_the_full_gradient(regularisation: float) -> None:
    """Every set of cuts that can be drawn, with its probability: no statistics are needed for a short caption."""
    decoder, options = make("rnn"), replace(PLAIN, attention_regularisation=regularisation)
    truncation, steps = _Given(mode="randomised", steps=3), 5
    _, full = gradients(decoder, Truncation(), options, steps)
    mean = [torch.zeros_like(gradient) for gradient in full]
    furthest = 0.0
    for drawn in range(2 ** (steps - 1)):
        cuts = [t for t in range(1, steps) if drawn & (1 << (t - 1))]
        truncation.lengths[:] = [end - start for start, end in zip([0, *cuts], [*cuts, steps], strict=True)]
        probability = (1 / 3) ** len(cuts) * (2 / 3) ** (steps - 1 - len(cuts))
        _, found = gradients(decoder, truncation, options, steps)
        mean = [total + probability * gradient for total, gradient in zip(mean, found, strict=True)]
        furthest = max(furthest, max(float((a - b).abs().max()) for a, b in zip(found, full, strict=True)))
    for one, other in zip(mean, full, strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=0)
    assert furthest > 1e-3  # one draw alone is far from it


class _Given(Truncation):
    """A truncation whose draw is given."""

    lengths: list[int] = []  # noqa: RUF012

    def segments(self, num_steps: int) -> list[int]:
        return list(self.lengths)


@pytest.mark.parametrize("attention", [True, False])
def test_the_memory_of_truncated_training_does_not_grow(attention: bool) -> None:
    decoder = make("lstm", 2, attention)
    peaks = {}
    for name, truncation, steps in (
        *(("full", Truncation(), steps) for steps in (20, 200)),
        *(("truncated", Truncation(mode="truncated", steps=20), steps) for steps in (20, 200, 2000)),
    ):
        grid, ids = features(), tokens(steps)
        with SavedBytes(ids) as saved:
            gradients_of(decoder, truncation, grid, ids)
        peaks[name, steps] = saved.peak
    assert peaks["full", 200] > 8 * peaks["full", 20]
    assert peaks["truncated", 200] < 1.02 * peaks["truncated", 20]
    assert peaks["truncated", 2000] < 1.02 * peaks["truncated", 200]


def test_a_loss_that_is_scaled_gives_the_same_gradient() -> None:
    decoder, ids = make(), tokens()
    forcing = TeacherForcing(options=PLAIN, truncation=Truncation(mode="truncated", steps=3))
    _, expected = gradients(decoder, forcing.truncation)
    grid = features()
    loss = forcing.loss(decoder, grid, ids[:, :, :-1], ids[:, :, 1:], loss_scale=1024.0)
    for one, other in zip(torch.autograd.grad(loss * 1024.0, [grid, *decoder.parameters()]), expected, strict=True):
        torch.testing.assert_close(one, 1024.0 * other, atol=1e-9, rtol=0)


def test_without_gradients_the_loss_is_the_same() -> None:
    decoder, ids, truncation = make(), tokens(), Truncation(mode="truncated", steps=3)
    expected, _ = gradients(decoder, truncation)
    with torch.no_grad():
        loss = TeacherForcing(options=PLAIN, truncation=truncation).loss(
            decoder, features(), ids[:, :, :-1], ids[:, :, 1:]
        )
    torch.testing.assert_close(loss, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("mode", ["full", "truncated"])
def test_mixed_precision_learns_the_same_in_one_segment(cell: str, attention: bool, mode: str) -> None:
    decoder = make(cell, 2, attention).float()
    ids, grid = tokens(), features().detach().float()
    truncation = Truncation(mode=mode, steps=None if mode == "full" else T)
    exact = gradients_of(decoder, truncation, grid, ids)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = gradients_of(decoder, truncation, grid, ids)
    for one, other in zip(exact, mixed, strict=True):
        assert other.dtype == torch.float32
        assert float((one - other).norm()) < 0.1 * float(one.norm()) + 1e-3


def gradients_of(decoder: Decoder, truncation: Truncation, grid: Tensor, ids: Tensor) -> tuple[Tensor, ...]:
    loss = TeacherForcing(options=PLAIN, truncation=truncation).loss(decoder, grid, ids[:, :, :-1], ids[:, :, 1:])
    return torch.autograd.grad(loss, list(decoder.parameters()))


# --- scheduled sampling


def fed(decoder: Decoder, own_words: float, truncation: Truncation, steps: int = 300) -> Tensor:
    """What goes into the decoder (N, K, T), in order, whatever the segments."""
    seen: list[Tensor] = []

    def note(module: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        seen.append(inputs[0] if inputs[0].dim() == 3 else inputs[0].unsqueeze(2))

    ids = tokens(steps)
    ids[ids == 7] = 8
    hook = decoder.embedding.register_forward_hook(note)
    forcing = TeacherForcing(options=PLAIN, truncation=truncation)
    loss = forcing.loss(decoder, features(), ids[:, :, :-1], ids[:, :, 1:], own_words=own_words)
    loss.backward()  # type: ignore[no-untyped-call]
    hook.remove()
    inputs = torch.cat(seen, dim=2)
    assert torch.equal(inputs[:, :, 0], ids[:, :, 0])  # the first is always given
    changed = inputs != ids[:, :, :-1]
    assert bool((inputs[changed] == 7).all())
    return changed[:, :, 1:]


@pytest.mark.parametrize("truncation", [Truncation(), Truncation(mode="truncated", steps=7)])
@pytest.mark.parametrize("own_words", [0.0, 0.3, 1.0])
def test_so_many_words_are_the_models_own(own_words: float, truncation: Truncation) -> None:
    decoder = make()
    with torch.no_grad():
        decoder.bias[7] = 100.0  # it says nothing else
    changed = fed(decoder, own_words, truncation)
    share = changed.double().mean()
    deviation = (own_words * (1 - own_words) / changed.numel()) ** 0.5
    assert float(share) == pytest.approx(own_words, abs=4 * deviation)
    if own_words == 0.3:  # at every step, those after a cut too
        by_step = changed.double().mean(dim=(0, 1))
        assert float(by_step[6::7].mean()) == pytest.approx(own_words, abs=4 * (0.21 / (4 * len(by_step[6::7]))) ** 0.5)


def test_words_are_drawn_with_the_models_probabilities() -> None:
    decoder = make()
    for parameter in (decoder.hidden_output.weight, decoder.hidden_output.bias):
        nn.init.zeros_(parameter)
    assert decoder.context_output is not None
    nn.init.zeros_(decoder.context_output.weight)
    with torch.no_grad():
        decoder.bias.fill_(-100.0)
        decoder.bias[5], decoder.bias[9] = 0.0, 1.0  # so that the state does not matter: 0.269 and 0.731
    seen: list[Tensor] = []
    decoder.embedding.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    ids = tokens(400)
    TeacherForcing(options=PLAIN, truncation=Truncation()).loss(
        decoder, features(), ids[:, :, :-1], ids[:, :, 1:], own_words=1.0
    )
    drawn = torch.stack(seen[1:])
    assert set(drawn.flatten().tolist()) == {5, 9}
    share = float((drawn == 9).double().mean())
    assert share == pytest.approx(0.731, abs=4 * (0.731 * 0.269 / drawn.numel()) ** 0.5)
