"""Captions that have ended leave the step: fewer rows are computed, and loss and gradient stay what they were."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from captioner.model.configuration import CELLS, DecoderConfiguration
from captioner.model.decoder import Decoder
from captioner.text.vocabulary import Vocabulary
from captioner.training.losses import CrossEntropyOptions
from captioner.training.self_critical import draw, policy_loss
from captioner.training.teacher_forcing import TeacherForcing
from captioner.training.truncation import Truncation

P, C, V = 4, 3, 11
LENGTHS = [[7, 2, 4], [0, 3, 3], [1, 5, 8]]  # words; 0 is a caption that is missing
SMOOTHING = 0.1


def make(cell: str = "lstm", num_layers: int = 1, attention: bool = True) -> Decoder:
    torch.manual_seed(0)
    configuration = DecoderConfiguration(
        cell=cell, num_layers=num_layers, attention=attention, embedding_size=5, hidden_size=6, attention_size=3
    )
    return Decoder(configuration, vocabulary_size=V, channels=C).double().eval()


def captions() -> Tensor:
    """Ids (N, K, T + 1)."""
    dice = torch.Generator().manual_seed(1)
    tokens = torch.full((len(LENGTHS), len(LENGTHS[0]), max(map(max, LENGTHS)) + 2), Vocabulary.pad)
    for n, row in enumerate(LENGTHS):
        for k, words in enumerate(row):
            if words:
                tokens[n, k, 0], tokens[n, k, words + 1] = Vocabulary.start, Vocabulary.end
                tokens[n, k, 1 : words + 1] = torch.randint(4, V, (words,), generator=dice)
    return tokens


def grids() -> Tensor:
    torch.manual_seed(2)
    return torch.randn(len(LENGTHS), P, C, dtype=torch.float64, requires_grad=True)


def of_each_caption_alone(
    decoder: Decoder, features: Tensor, tokens: Tensor, *, cut_every: int | None, regularisation: float, fed: int | None
) -> Tensor:
    """The token mean as a sum over captions, each of which is alone in its batch and has no padding at all.

    Args:
        cut_every: where the gradient is cut; None: nowhere.
        regularisation: lambda of doubly stochastic attention.
        fed: the one word that the model draws, in the place of all but the first; None: the given words are fed.
    """
    total, words = features.new_zeros(()), int((tokens[:, :, 1:] != Vocabulary.pad).sum())
    for n, k in torch.cartesian_prod(torch.arange(tokens.shape[0]), torch.arange(tokens.shape[1])).tolist():
        length = int((tokens[n, k] != Vocabulary.pad).sum())
        state = decoder.initial_state(features[n : n + 1])
        looked = features.new_zeros(P)
        penalty = regularisation * (1 - looked).square().sum() if length else looked.sum()
        for t in range(length - 1):
            if cut_every is not None and t > 0 and t % cut_every == 0:
                memory = None if state.memory is None else state.memory.detach()
                state, looked = replace(state, hidden=state.hidden.detach(), memory=memory), looked.detach()
            given = tokens[n, k, t] if fed is None or t == 0 else torch.tensor(fed)
            log_probabilities, attention, state = decoder.step(given.view(1, 1), state)
            of_words = log_probabilities[0, 0]
            total = total - (1 - SMOOTHING) * of_words[tokens[n, k, t + 1]] - SMOOTHING * of_words.mean()
            if attention is not None:
                before, looked = looked, looked + attention[0, 0]
                penalty = penalty + regularisation * ((1 - looked).square() - (1 - before).square()).sum()
        total = total + penalty
    return total / words


def assert_equal(decoder: Decoder, features: Tensor, found: Tensor, expected: Tensor, tolerance: float = 1e-10) -> None:
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=0)
    sources = [features, *decoder.parameters()]
    one, other = (torch.autograd.grad(loss, sources, materialize_grads=True) for loss in (found, expected))
    for gradient, wanted in zip(one, other, strict=True):
        torch.testing.assert_close(gradient, wanted, atol=tolerance, rtol=0)


@pytest.mark.parametrize("cut_every", [None, 3])
@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_loss_and_gradient_are_those_of_each_caption_alone(
    cell: str, num_layers: int, attention: bool, cut_every: int | None
) -> None:
    decoder, features, tokens = make(cell, num_layers, attention), grids(), captions()
    regularisation = 0.7 if attention else 0.0
    truncation = Truncation() if cut_every is None else Truncation(mode="truncated", steps=cut_every)
    options = CrossEntropyOptions(label_smoothing=SMOOTHING, attention_regularisation=regularisation)
    forcing = TeacherForcing(options=options, truncation=truncation)
    loss = forcing.loss(decoder, features, tokens[:, :, :-1], tokens[:, :, 1:])
    expected = of_each_caption_alone(
        decoder, features, tokens, cut_every=cut_every, regularisation=regularisation, fed=None
    )
    assert_equal(decoder, features, loss, expected)


@pytest.mark.parametrize("cut_every", [None, 3])
@pytest.mark.parametrize("attention", [True, False])
def test_scheduled_sampling_too(attention: bool, cut_every: int | None) -> None:
    decoder, features, tokens = make("gru", 2, attention), grids(), captions()
    with torch.no_grad():
        decoder.bias[7] = 60.0  # it says nothing else, so that what is drawn is known
    truncation = Truncation() if cut_every is None else Truncation(mode="truncated", steps=cut_every)
    forcing = TeacherForcing(options=CrossEntropyOptions(label_smoothing=SMOOTHING), truncation=truncation)
    loss = forcing.loss(decoder, features, tokens[:, :, :-1], tokens[:, :, 1:], own_words=1.0)
    expected = of_each_caption_alone(decoder, features, tokens, cut_every=cut_every, regularisation=0.0, fed=7)
    assert_equal(decoder, features, loss, expected)


class _Given(Truncation):
    """A randomised truncation whose draw is given."""

    def segments(self, num_steps: int) -> list[int]:
        ends = [2, 3, 7, num_steps]
        return [min(end, num_steps) - start for start, end in zip([0, *ends], ends, strict=False) if start < num_steps]


def test_randomised_truncation_too() -> None:
    """The batch, and the captions one by one, with the same cuts: what has no padding has no row that leaves."""
    decoder, features, tokens = make(), grids(), captions()
    forcing = TeacherForcing(options=CrossEntropyOptions(), truncation=_Given(mode="randomised", steps=3))
    loss = forcing.loss(decoder, features, tokens[:, :, :-1], tokens[:, :, 1:])
    alone, words = [], []
    for n, row in enumerate(LENGTHS):
        for k, length in enumerate(row):
            if length:
                caption = tokens[n : n + 1, k : k + 1, : length + 2]
                alone.append(forcing.loss(decoder, features[n : n + 1], caption[:, :, :-1], caption[:, :, 1:]))
                words.append(length + 1)
    expected = sum(loss * count for loss, count in zip(alone, words, strict=True)) / sum(words)
    assert isinstance(expected, Tensor)
    assert_equal(decoder, features, loss, expected)


class RowsOfSteps:
    """How many rows go through the first cell, step after step."""

    def __init__(self, decoder: Decoder) -> None:
        self.counts: list[int] = []
        decoder.cells.cells[0].register_forward_pre_hook(self._count)

    def _count(self, cell: nn.Module, inputs: tuple[Tensor, object]) -> None:
        self.counts.append(len(inputs[0]))


@pytest.mark.parametrize("own_words", [0.0, 0.5])
@pytest.mark.parametrize("truncation", [Truncation(), Truncation(mode="truncated", steps=3)])
def test_a_step_has_as_many_rows_as_captions_that_go_on(truncation: Truncation, own_words: float) -> None:
    decoder, tokens = make(), captions()
    rows = RowsOfSteps(decoder)
    forcing = TeacherForcing(options=CrossEntropyOptions(), truncation=truncation)
    forcing.loss(decoder, grids(), tokens[:, :, :-1], tokens[:, :, 1:], own_words=own_words)
    assert rows.counts == (tokens[:, :, 1:] != Vocabulary.pad).sum(dim=(0, 1)).tolist()


def test_a_batch_without_any_word_has_a_loss_of_zero() -> None:
    decoder, features = make(), grids()
    tokens = torch.full((len(LENGTHS), 2, 4), Vocabulary.pad)
    loss = TeacherForcing(options=CrossEntropyOptions(), truncation=Truncation()).loss(
        decoder, features, tokens[:, :, :-1], tokens[:, :, 1:]
    )
    assert_equal(decoder, features, loss, 0.0 * features.sum())


# --- self-critical training


@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("num_layers", [1, 2])
@pytest.mark.parametrize("cell", CELLS)
def test_the_gradient_of_drawn_captions_is_that_of_each_alone(cell: str, num_layers: int, attention: bool) -> None:
    decoder, features, longest = make(cell, num_layers, attention), grids(), 6
    with torch.no_grad():
        decoder.bias[Vocabulary.end] = 1.5  # so that captions of all lengths are drawn
    rows = RowsOfSteps(decoder)
    drawn = draw(decoder, features, samples=5, max_length=longest)
    lengths = [len(caption) for caption in drawn.captions()]
    assert len(set(lengths)) > 2
    ended = [caption[-1] == Vocabulary.end for caption in drawn.captions()]
    steps = [length + (not end) for length, end in zip(lengths, ended, strict=True)]  # the end was asked for in vain
    assert rows.counts == [sum(number > t for number in steps) for t in range(max(steps))]
    advantage = torch.randn(len(LENGTHS), 5, dtype=torch.float64)
    expected = features.new_zeros(())
    for row, caption in enumerate(drawn.captions()):
        n, k = divmod(row, 5)
        logits = decoder(features[n : n + 1], torch.tensor([[[Vocabulary.start, *caption[:-1]]]]))[0][0, 0]
        allowed = torch.ones(len(caption), V, dtype=torch.bool)
        allowed[:, [Vocabulary.pad, Vocabulary.start, Vocabulary.unk]] = False
        allowed[0, Vocabulary.end] = False
        log_probabilities = torch.log_softmax(logits.masked_fill(~allowed, -math.inf), dim=1)
        expected = expected - advantage[n, k] * log_probabilities[range(len(caption)), caption].sum()
    assert_equal(decoder, features, policy_loss(drawn, advantage), expected / sum(lengths))
