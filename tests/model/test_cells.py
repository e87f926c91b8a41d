"""Stacked cells against torch's own sequence modules, and against the equations written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from captioner.model.cells import StackedCells
from captioner.model.configuration import CELLS, DecoderConfiguration

B, INPUT, H, T = 3, 5, 4, 6
SEQUENCES: dict[str, type[nn.RNN] | type[nn.GRU] | type[nn.LSTM]] = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}


def make(cell: str, num_layers: int, dropout: float = 0.0) -> StackedCells:
    torch.manual_seed(0)
    return StackedCells(DecoderConfiguration(cell=cell, num_layers=num_layers, hidden_size=H, dropout=dropout), INPUT)


def start(cells: StackedCells) -> tuple[Tensor, Tensor | None]:
    layers = len(cells.cells)
    return torch.randn(layers, B, H), torch.randn(layers, B, H) if cells.has_memory else None


@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_steps_equal_torchs_sequence_module(cell: str, num_layers: int) -> None:
    cells = make(cell, num_layers)
    sequence = SEQUENCES[cell](INPUT, H, num_layers)
    # RNNCell's weight_ih is RNN's weight_ih_l0, and so on
    names = {f"{name}_l{layer}": p for layer, c in enumerate(cells.cells) for name, p in c.named_parameters()}
    sequence.load_state_dict(names)
    inputs = torch.randn(T, B, INPUT)
    hidden, memory = start(cells)
    expected, last = sequence(inputs, (hidden, memory) if cells.has_memory else hidden)
    outputs = []
    for words in inputs:
        hidden, memory = cells(words, hidden, memory)
        outputs.append(hidden[-1])
    torch.testing.assert_close(torch.stack(outputs), expected, atol=1e-6, rtol=0)
    last_hidden = last[0] if cells.has_memory else last
    torch.testing.assert_close(hidden, last_hidden, atol=1e-6, rtol=0)
    if memory is not None:
        torch.testing.assert_close(memory, last[1], atol=1e-6, rtol=0)


@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_whole_sequences_equal_steps(cell: str, num_layers: int) -> None:
    """Values, and gradients of the very same parameters: nothing of a bundle changes its name."""
    cells = make(cell, num_layers).double()
    names = list(cells.state_dict())
    inputs = torch.randn(T, B, INPUT, dtype=torch.float64, requires_grad=True)
    hidden, memory = (None if value is None else value.double().requires_grad_() for value in start(cells))
    assert hidden is not None
    starts = [hidden] if memory is None else [hidden, memory]
    stepped_hidden, stepped_memory, steps = hidden, memory, []
    for words in inputs:
        stepped_hidden, stepped_memory = cells(words, stepped_hidden, stepped_memory)
        steps.append(stepped_hidden[-1])
    outputs, last_hidden, last_memory = cells.unroll(inputs, hidden, memory)
    torch.testing.assert_close(outputs, torch.stack(steps), atol=1e-12, rtol=0)
    torch.testing.assert_close(last_hidden, stepped_hidden, atol=1e-12, rtol=0)
    assert (last_memory is None) == (stepped_memory is None)
    if last_memory is not None:
        torch.testing.assert_close(last_memory, stepped_memory, atol=1e-12, rtol=0)
    direction = torch.randn_like(outputs)
    sources = [inputs, *starts, *cells.parameters()]
    for one, other in zip(
        torch.autograd.grad((outputs * direction).sum() + last_hidden.sum(), sources),
        torch.autograd.grad((torch.stack(steps) * direction).sum() + stepped_hidden.sum(), sources),
        strict=True,
    ):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=0)
    assert list(cells.state_dict()) == names


@pytest.mark.parametrize("cell", CELLS)
def test_whole_sequences_have_dropout_between_layers_only(cell: str) -> None:
    one, two = make(cell, 1, dropout=0.9), make(cell, 2, dropout=0.9)
    inputs = torch.randn(T, B, INPUT)
    for cells, same in ((one, True), (two, False)):
        hidden, memory = start(cells)
        assert torch.equal(cells.unroll(inputs, hidden, memory)[0], cells.unroll(inputs, hidden, memory)[0]) == same


def plain_step(cell: str, module: nn.Module, x: Tensor, h: Tensor, c: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """One cell by its equations, gates in torch's order: GRU r, z, n; LSTM i, f, g, o."""
    weights = dict(module.named_parameters())
    from_input = x @ weights["weight_ih"].T + weights["bias_ih"]
    from_hidden = h @ weights["weight_hh"].T + weights["bias_hh"]
    if cell == "rnn":
        return torch.tanh(from_input + from_hidden), None
    if cell == "gru":
        xr, xz, xn = torch.split(from_input, H, dim=1)
        hr, hz, hn = torch.split(from_hidden, H, dim=1)
        reset, update = 1 / (1 + torch.exp(-(xr + hr))), 1 / (1 + torch.exp(-(xz + hz)))
        return (1 - update) * torch.tanh(xn + reset * hn) + update * h, None
    assert c is not None
    i, f, g, o = torch.split(from_input + from_hidden, H, dim=1)
    new = c / (1 + torch.exp(-f)) + torch.tanh(g) / (1 + torch.exp(-i))
    return torch.tanh(new) / (1 + torch.exp(-o)), new


@pytest.mark.parametrize("num_layers", [1, 2, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_a_step_is_the_plain_equations(cell: str, num_layers: int) -> None:
    cells = make(cell, num_layers)
    hidden, memory = start(cells)
    inputs = torch.randn(B, INPUT)
    new_hidden, new_memory = cells(inputs, hidden, memory)
    assert new_hidden.shape == (num_layers, B, H)
    assert (new_memory is None) == (cell != "lstm")
    below = inputs
    for layer, module in enumerate(cells.cells):
        below, c = plain_step(cell, module, below, hidden[layer], None if memory is None else memory[layer])
        torch.testing.assert_close(new_hidden[layer], below, atol=1e-6, rtol=0)
        if new_memory is not None and c is not None:
            torch.testing.assert_close(new_memory[layer], c, atol=1e-6, rtol=0)


@pytest.mark.parametrize("cell", CELLS)
def test_rows_do_not_mix(cell: str) -> None:
    cells = make(cell, 2).double()
    hidden, memory = (None if state is None else state.double() for state in start(cells))
    assert hidden is not None
    inputs = torch.randn(B, INPUT, dtype=torch.float64)
    whole = cells(inputs, hidden, memory)[0]
    alone = cells(inputs[1:2], hidden[:, 1:2], None if memory is None else memory[:, 1:2])[0]
    torch.testing.assert_close(whole[:, 1:2], alone, atol=1e-14, rtol=0)


def test_dropout_is_between_the_layers_only_and_only_in_training() -> None:
    cells = make("lstm", 2, dropout=0.9)
    hidden, memory = start(cells)
    inputs = torch.randn(B, INPUT)
    torch.manual_seed(1)
    in_training = cells(inputs, hidden, memory)[0]
    in_evaluation = cells.eval()(inputs, hidden, memory)[0]
    assert torch.equal(in_training[0], in_evaluation[0])
    assert not torch.equal(in_training[1], in_evaluation[1])
    assert torch.equal(cells(inputs, hidden, memory)[0], in_evaluation)
