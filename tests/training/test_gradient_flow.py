"""Gradients at the states against finite differences and against the product of Jacobians, worked out by hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from captioner.model.configuration import CELLS, DecoderConfiguration
from captioner.model.decoder import Decoder
from captioner.text.vocabulary import Vocabulary
from captioner.training.gradient_flow import (
    GATES,
    LOSSES,
    Point,
    gradient_flow,
    recurrent_matrices,
    scale_to_radius,
)

H, V, P, C = 4, 9, 3, 5
SENTENCE = torch.tensor([[[Vocabulary.start, 4, 5, 6, 7, 8, Vocabulary.end]]])  # (1, 1, T + 1)
LAST = 5  # the step whose state predicts the last word, 8
EPSILON = 1e-5


def make(cell: str, num_layers: int, *, attention: bool = True) -> Decoder:
    torch.manual_seed(3)
    options = DecoderConfiguration(
        cell=cell, num_layers=num_layers, embedding_size=3, hidden_size=H, attention_size=3, attention=attention
    )
    decoder = Decoder(options, vocabulary_size=V, channels=C).double().eval()
    for parameter in decoder.parameters():  # larger than usual, so that nothing is nearly linear
        nn.init.normal_(parameter, std=0.8)
    return decoder


def grids(count: int = 1) -> Tensor:
    return torch.randn(count, P, C, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def found(points: list[Point], loss: str, state: str, layer: int) -> list[float]:
    return [point.norm for point in points if (point.loss, point.state, point.layer) == (loss, state, layer)]


@contextmanager
def changed(decoder: Decoder, layer: int, state: str, by: Tensor) -> Iterator[None]:
    """Whatever the cell of `layer` (from 0) returns as `state` has `by` (H,) added to it.

    An LSTM's hidden state is o tanh(memory): what changes the memory changes it too.
    """

    def add(cell: nn.Module, given: Any, returned: Any) -> Any:
        if not isinstance(returned, tuple):
            return returned + by
        hidden, memory = returned
        if state == "hidden":
            return hidden + by, memory
        return hidden / torch.tanh(memory) * torch.tanh(memory + by), memory + by

    hook = decoder.cells.cells[layer].register_forward_hook(add)
    yield
    hook.remove()


@torch.no_grad()
def losses_with(decoder: Decoder, step: int, layer: int, name: str, by: Tensor) -> dict[str, float]:
    """The two losses where the state called `name` of `layer` (from 0) after `step` is changed by `by` (H,)."""
    state = decoder.initial_state(grids())
    if step == 0:
        value = getattr(state, name).clone()
        value[layer] += by
        state = replace(state, **{name: value})
    losses: list[float] = []
    for t in range(SENTENCE.shape[2] - 1):
        with changed(decoder, layer, name, by if t + 1 == step else torch.zeros(H, dtype=torch.float64)):
            log_probabilities, _, state = decoder.step(SENTENCE[:, :, t], state)
        losses.append(-float(log_probabilities[0, 0, SENTENCE[0, 0, t + 1]]))
    return {"last word": losses[LAST - 1], "sentence": sum(losses)}


@pytest.mark.parametrize("attention", [True, False])
@pytest.mark.parametrize("num_layers", [1, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_the_norms_are_those_of_finite_differences(cell: str, num_layers: int, attention: bool) -> None:
    decoder = make(cell, num_layers, attention=attention)
    points = gradient_flow(decoder, grids(), SENTENCE)
    names = ("hidden", "memory") if cell == "lstm" else ("hidden",)
    assert len(points) == len(names) * num_layers * (LAST + 1 + LAST + 2)
    for name in names:
        for layer in range(num_layers):
            for step in range(LAST + 2):
                gradients: dict[str, list[float]] = {loss: [] for loss in LOSSES}
                for axis in torch.eye(H, dtype=torch.float64) * EPSILON:
                    more = losses_with(decoder, step, layer, name, axis)
                    less = losses_with(decoder, step, layer, name, -axis)
                    for loss in LOSSES:
                        gradients[loss].append((more[loss] - less[loss]) / (2 * EPSILON))
                norms = {loss: float(torch.tensor(values).norm()) for loss, values in gradients.items()}
                sentence = found(points, "sentence", name, layer + 1)
                assert sentence[step] == pytest.approx(norms["sentence"], rel=1e-5, abs=1e-8)
                if step <= LAST:
                    last_word = found(points, "last word", name, layer + 1)
                    assert last_word[LAST - step] == pytest.approx(norms["last word"], rel=1e-5, abs=1e-8)
                else:
                    assert norms["last word"] == 0.0


def test_of_a_vanilla_network_they_are_the_product_of_the_jacobians() -> None:
    decoder = make("rnn", 1, attention=False)
    points = gradient_flow(decoder, grids(), SENTENCE)
    weights = {name: value.detach() for name, value in decoder.named_parameters()}
    W, U = weights["cells.cells.0.weight_hh"], weights["cells.cells.0.weight_ih"]
    bias = weights["cells.cells.0.bias_hh"] + weights["cells.cells.0.bias_ih"]
    values = torch.relu(grids()[0] @ weights["project.0.weight"].T + weights["project.0.bias"]).mean(dim=0)
    hidden = torch.tanh(weights["initial.weight"] @ values + weights["initial.bias"])  # (H,)
    jacobians = []
    for token in SENTENCE[0, 0, :LAST]:
        hidden = torch.tanh(W @ hidden + U @ weights["embedding.weight"][token] + bias)
        jacobians.append(torch.diag(1 - hidden**2) @ W)
    output = weights["hidden_output.weight"] @ hidden + weights["hidden_output.bias"]
    error = torch.softmax(weights["embedding.weight"] @ output + weights["bias"], dim=0)  # (V,)
    error[SENTENCE[0, 0, LAST]] -= 1
    gradient = weights["hidden_output.weight"].T @ weights["embedding.weight"].T @ error  # (H,), at the last word
    expected = [float(gradient.norm())]
    for jacobian in reversed(jacobians):
        gradient = jacobian.T @ gradient
        expected.append(float(gradient.norm()))
    assert found(points, "last word", "hidden", 1) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.5])
def test_a_nearly_linear_network_multiplies_by_its_radius_at_each_step(factor: float) -> None:
    decoder = make("rnn", 1, attention=False)
    with torch.no_grad():
        for parameter in decoder.cells.parameters():
            parameter.zero_()
        decoder.initial.weight.zero_()
        decoder.initial.bias.zero_()  # so that all states are 0, where the slope of tanh is 1
        decoder.cells.cells[0].get_parameter("weight_hh").copy_(torch.linalg.qr(torch.randn(H, H).double())[0])
    scale_to_radius(decoder, factor)
    norms = found(gradient_flow(decoder, grids(), SENTENCE), "last word", "hidden", 1)
    assert norms == pytest.approx([norms[0] * factor**step for step in range(LAST + 1)], rel=1e-10)


@pytest.mark.parametrize("num_layers", [1, 2])
def test_captions_of_different_lengths_do_not_disturb_each_other(num_layers: int) -> None:
    decoder = make("lstm", num_layers)
    lengths = {0: 6, 1: 4, 2: 4, 3: 3, 4: 0}  # words; the last caption is missing
    tokens = torch.full((5, 1, 8), Vocabulary.pad)
    for row, words in lengths.items():
        if words:
            line = [Vocabulary.start, *range(4, 4 + words), *([Vocabulary.end] if row != 1 else [])]
            tokens[row, 0, : len(line)] = torch.tensor([min(word, V - 1) for word in line])
    features = grids(5)
    alone = [
        gradient_flow(decoder, features[row : row + 1], tokens[row : row + 1, :, : words + 2])
        for row, words in lengths.items()
        if words
    ]
    together = gradient_flow(decoder, features, tokens)
    assert {point.step for point in together if point.loss == "last word"} == set(range(5))  # of two of four captions
    assert {point.step for point in together if point.loss == "sentence"} == set(range(6))
    for point in together:
        key = replace(point, norm=0.0, captions=1)
        same = [other.norm for points in alone for other in points if replace(other, norm=0.0) == key]
        assert point.captions == len(same) >= 2
        assert point.norm == pytest.approx(sum(same) / len(same), rel=1e-10)


def test_a_decoder_in_training_stays_as_it_is() -> None:
    torch.manual_seed(0)
    decoder = make("lstm", 2).float().train()
    words = decoder(grids(2).float(), SENTENCE.expand(2, 1, -1)[:, :, :-1])[0]
    words.sum().backward()
    gradients = [parameter.grad.clone() for parameter in decoder.parameters() if parameter.grad is not None]
    chance = torch.get_rng_state()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        inside = gradient_flow(decoder, grids(2).float(), SENTENCE.expand(2, 1, -1))
    assert torch.equal(torch.get_rng_state(), chance)
    assert decoder.training
    after = [parameter.grad for parameter in decoder.parameters() if parameter.grad is not None]
    assert all(torch.equal(earlier, later) for earlier, later in zip(gradients, after, strict=True))
    assert all(parameter.requires_grad for parameter in decoder.parameters())
    assert inside == gradient_flow(decoder, grids(2).float(), SENTENCE.expand(2, 1, -1))  # no dropout, no rounding


def test_known_matrices_have_their_known_figures() -> None:
    for cell in CELLS:
        decoder = make(cell, 2)
        angle = torch.tensor(0.7, dtype=torch.float64)
        rotation = torch.eye(H, dtype=torch.float64)
        rotation[:2, :2] = torch.tensor([[angle.cos(), -angle.sin()], [angle.sin(), angle.cos()]])
        nilpotent = torch.zeros(H, H, dtype=torch.float64)
        nilpotent[0, 1] = 5.0
        for layer, matrix in enumerate((rotation, nilpotent)):
            blocks = [matrix * (gate + 1) for gate in range(len(GATES[cell]))]
            with torch.no_grad():
                decoder.cells.cells[layer].get_parameter("weight_hh").copy_(torch.cat(blocks))
        rows = [(m.layer, m.gate, m.spectral_radius, m.largest_singular_value) for m in recurrent_matrices(decoder)]
        gates = list(enumerate(GATES[cell], start=1))
        expected = [(1, gate, factor, factor) for factor, gate in gates]
        expected += [(2, gate, 0, 5 * factor) for factor, gate in gates]
        for row, wanted in zip(rows, expected, strict=True):
            assert row[:2] == wanted[:2]
            assert row[2:] == pytest.approx(wanted[2:], abs=1e-9)


@pytest.mark.parametrize("cell", CELLS)
def test_matrices_are_scaled_to_a_radius(cell: str) -> None:
    decoder = make(cell, 2)
    before = decoder.cells.cells[1].get_parameter("weight_hh").clone()
    scale_to_radius(decoder, 1.5)
    assert [m.spectral_radius for m in recurrent_matrices(decoder)] == pytest.approx([1.5] * 2 * len(GATES[cell]))
    ratios = (decoder.cells.cells[1].get_parameter("weight_hh")[:H] / before[:H]).detach()
    assert float(ratios.std()) == pytest.approx(0.0, abs=1e-12)  # its directions stay


def test_the_gates_are_named_in_torchs_order() -> None:
    """What a gate that is shut by its bias does shows which gate it is."""
    for cell, gate, shut in (("lstm", "forget", -60.0), ("lstm", "input", -60.0), ("gru", "update", 60.0)):
        decoder = make(cell, 1, attention=False)
        block = GATES[cell].index(gate)
        with torch.no_grad():
            decoder.cells.cells[0].get_parameter("bias_hh")[block * H : (block + 1) * H] = shut
        hidden = torch.randn(1, H).double()
        given = torch.randn(1, 3).double()
        with torch.no_grad():
            returned = decoder.cells.cells[0](given, (hidden, 2 * hidden) if cell == "lstm" else hidden)
        if gate == "forget":  # nothing of the old cell state is left: tanh and sigmoid are below 1
            assert float(returned[1].abs().max()) < 1.0
        elif gate == "input":  # nothing new comes in: what is there is a part of the old one
            assert bool((returned[1] / (2 * hidden) < 1).all())
            assert bool((returned[1] / (2 * hidden) > 0).all())
        else:
            torch.testing.assert_close(returned, hidden)
