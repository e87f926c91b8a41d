"""The decoder: its equations, its state as a value, and teacher forcing as a sequence of steps."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from torch import Tensor, nn

from captioner.model.configuration import CELLS, DecoderConfiguration
from captioner.model.decoder import Decoder, DecoderState

N, K, P, C, H, E, V, T = 2, 3, 4, 7, 6, 5, 11, 5
KINDS = [(cell, layers, attention) for cell in CELLS for layers in (1, 2) for attention in (True, False)]


def make(cell: str = "lstm", num_layers: int = 1, attention: bool = True) -> Decoder:
    """In float64, with a bias that is not zero."""
    configuration = DecoderConfiguration(
        cell=cell, num_layers=num_layers, attention=attention, embedding_size=E, hidden_size=H, attention_size=3
    )
    torch.manual_seed(0)
    decoder = Decoder(configuration, vocabulary_size=V, channels=C)
    nn.init.normal_(decoder.bias)
    return decoder.double().eval()


def features() -> Tensor:
    return torch.randn(N, P, C, dtype=torch.float64)


def tensors(state: DecoderState) -> dict[str, Tensor]:
    values = {field.name: getattr(state, field.name) for field in fields(state)}
    return {name: value for name, value in values.items() if value is not None}


def assert_same(state: DecoderState, expected: DecoderState) -> None:
    assert tensors(state).keys() == tensors(expected).keys()
    for name, value in tensors(state).items():
        torch.testing.assert_close(value, tensors(expected)[name], atol=1e-12, rtol=0)


def advanced(decoder: Decoder, steps: int = 2) -> DecoderState:
    """A state of N images and K beams, all of them different."""
    state = decoder.initial_state(features(), beams=K)
    for _ in range(steps):
        _, _, state = decoder.step(torch.randint(0, V, (N, K)), state)
    return state


@pytest.mark.parametrize(("cell", "num_layers", "attention"), KINDS)
def test_teacher_forcing_equals_steps(cell: str, num_layers: int, attention: bool) -> None:
    decoder, grid = make(cell, num_layers, attention), features()
    tokens = torch.randint(0, V, (N, K, T))
    logits, weights = decoder(grid, tokens)
    assert logits.shape == (N, K, T, V)
    assert (weights is not None) == attention
    state = decoder.initial_state(grid, beams=K)
    for t in range(T):
        log_probabilities, looked, state = decoder.step(tokens[:, :, t], state)
        expected = torch.log_softmax(logits[:, :, t], dim=-1)
        torch.testing.assert_close(log_probabilities, expected, atol=1e-12, rtol=0)
        if weights is not None:
            assert weights.shape == (N, K, T, P)
            assert looked is not None
            torch.testing.assert_close(looked, weights[:, :, t], atol=1e-12, rtol=0)
        else:
            assert looked is None


@pytest.mark.parametrize(("cell", "num_layers", "attention"), KINDS)
def test_a_step_leaves_the_given_state_alone(cell: str, num_layers: int, attention: bool) -> None:
    decoder = make(cell, num_layers, attention)
    state = advanced(decoder)
    before = {name: value.clone() for name, value in tensors(state).items()}
    first, _, after = decoder.step(torch.zeros(N, K, dtype=torch.int64), state)
    assert all(torch.equal(value, before[name]) for name, value in tensors(state).items())
    assert not torch.equal(after.hidden, state.hidden)
    again, _, _ = decoder.step(torch.zeros(N, K, dtype=torch.int64), state)
    assert torch.equal(first, again)


@pytest.mark.parametrize(("cell", "num_layers", "attention"), KINDS)
def test_reorder_is_indexing(cell: str, num_layers: int, attention: bool) -> None:
    decoder = make(cell, num_layers, attention)
    state = advanced(decoder)
    beams = torch.tensor([[2, 2, 0]])  # of the second image only
    kept = state.reorder(torch.tensor([1]), beams)
    for name, value in tensors(kept).items():
        old = tensors(state)[name]
        expected = old[1:2] if name in ("values", "keys") else old[:, 1:2][:, :, [2, 2, 0]]
        assert torch.equal(value, expected)
    # and a step of what is kept is the step of the whole, indexed
    tokens = torch.tensor([[1, 2, 3], [4, 5, 6]])
    whole, _, _ = decoder.step(tokens, state)
    part, _, _ = decoder.step(tokens[1:2][:, [2, 2, 0]], kept)
    torch.testing.assert_close(part, whole[1:2][:, [2, 2, 0]], atol=1e-12, rtol=0)


@pytest.mark.parametrize("cell", CELLS)
def test_reorder_of_all_images_widens_one_beam_to_many(cell: str) -> None:
    decoder, grid = make(cell, 2), features()
    narrow = decoder.initial_state(grid)
    wide = narrow.reorder(torch.arange(N), torch.zeros(N, K, dtype=torch.int64))
    assert_same(wide, decoder.initial_state(grid, beams=K))
    assert wide.values is narrow.values  # the grid is not copied for each beam


@pytest.mark.parametrize(("cell", "num_layers", "attention"), KINDS)
def test_the_equations_written_out(cell: str, num_layers: int, attention: bool) -> None:
    decoder, grid = make(cell, num_layers, attention), features()
    tokens = torch.randint(0, V, (N, 1))
    log_probabilities, _, after = decoder.step(tokens, decoder.initial_state(grid))
    linear = decoder.project[0]
    assert isinstance(linear, nn.Linear)
    for n in range(N):
        values = torch.relu(grid[n] @ linear.weight.T + linear.bias)  # (P, H)
        first = torch.tanh(decoder.initial.weight @ values.mean(dim=0) + decoder.initial.bias)
        parts = torch.split(first, H)  # the hidden states of all layers, then their memories
        inputs = decoder.embedding.weight[tokens[n, 0]]
        context = torch.zeros(H, dtype=torch.float64)
        if decoder.attention is not None:
            top = parts[num_layers - 1][None, None]
            context = decoder.attention(top, decoder.attention.key(values)[None], values[None])[0][0, 0]
            inputs = torch.cat([inputs, context])
        hidden = torch.stack(parts[:num_layers])[:, None]
        memory = torch.stack(parts[num_layers:])[:, None] if cell == "lstm" else None
        new_hidden, _ = decoder.cells(inputs[None], hidden, memory)
        output = decoder.hidden_output.weight @ new_hidden[-1, 0] + decoder.hidden_output.bias
        if decoder.context_output is not None:
            output = output + decoder.context_output.weight @ context
        logits = decoder.embedding.weight @ output + decoder.bias
        powers = torch.exp(logits - logits.max())
        torch.testing.assert_close(log_probabilities[n, 0], torch.log(powers / powers.sum()), atol=1e-12, rtol=0)
        torch.testing.assert_close(after.hidden[:, n, 0], new_hidden[:, 0], atol=1e-12, rtol=0)


def test_the_state_has_only_what_the_decoder_needs() -> None:
    assert tensors(make("lstm").initial_state(features())).keys() == {"hidden", "memory", "values", "keys"}
    assert tensors(make("gru").initial_state(features())).keys() == {"hidden", "values", "keys"}
    assert tensors(make("rnn", attention=False).initial_state(features())).keys() == {"hidden", "values"}


def test_without_attention_only_the_mean_of_the_grid_counts() -> None:
    decoder = make(attention=False)
    grid = features()
    shuffled = grid[:, torch.randperm(P)]
    tokens = torch.randint(0, V, (N, K, T))
    torch.testing.assert_close(decoder(grid, tokens)[0], decoder(shuffled, tokens)[0], atol=1e-12, rtol=0)


def test_a_later_word_changes_nothing_before_it() -> None:
    decoder, grid = make(num_layers=2), features()
    tokens = torch.randint(0, V, (N, K, T))
    changed = tokens.clone()
    changed[:, :, 3] = (changed[:, :, 3] + 1) % V
    before, after = decoder(grid, tokens)[0], decoder(grid, changed)[0]
    assert torch.equal(before[:, :, :3], after[:, :, :3])
    assert not torch.equal(before[:, :, 3], after[:, :, 3])


def test_gradients_reach_every_parameter() -> None:
    decoder = make(num_layers=2)
    decoder(features(), torch.randint(0, V, (N, K, T)))[0].square().sum().backward()
    silent = [name for name, parameter in decoder.named_parameters() if parameter.grad is None]
    assert silent == []
