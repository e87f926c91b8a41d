"""How far back a loss reaches: the norm of its gradient at every state of the decoder, and the recurrent matrices.

    h_t = f(W h_{t-1} + U x_t),   dh_{t+1}/dh_t = diag(f') W,   dL/dh_t = (dh_{t+1}/dh_t)' ... (dh_T/dh_{T-1})' dL/dh_T

A product of so many matrices vanishes if the largest singular value of W is below 1 (where |f'| <= 1, as tanh has it);
it can only explode if that is above 1 (Pascanu, Mikolov and Bengio, arXiv:1211.5063, section 2.1). We measure the
product itself, on the decoder that captions are made with, and show the two figures of W beside it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from captioner.model.decoder import Decoder
from captioner.text.vocabulary import Vocabulary

# The blocks of a cell's weight_hh, from top to bottom, as torch documents them.
GATES = {"rnn": ("hidden",), "gru": ("reset", "update", "new"), "lstm": ("input", "forget", "cell", "output")}
LOSSES = ("last word", "sentence")
SHOWN = (0, 1, 2, 4, 8, 16, 32, 64, 128)  # the steps before the last word that summaries and logs have a column for


@dataclass(frozen=True)
class Point:
    """The mean norm of the gradient at one state.

    Attributes:
        loss: `last word`, the cross-entropy of the last word before `<end>`, in nats; or `sentence`, the sum of the
            cross-entropies of all words and `<end>`.
        state: `hidden`, or `memory`, the LSTM's cell state.
        layer: from 1, the lowest.
        step: for the last word, how many steps before the state that predicts it; for the sentence, the time step: 0 is
            the state that the picture gives, 1 the one that predicts the first word.
        norm: the Euclidean norm of dL/dstate, the mean of `captions` captions.
    """

    loss: str
    state: str
    layer: int
    step: int
    norm: float
    captions: int


@dataclass(frozen=True)
class Matrix:
    """One recurrent matrix (H, H): what multiplies the last hidden state in one gate of one layer (from 1)."""

    layer: int
    gate: str
    spectral_radius: float
    largest_singular_value: float


@dataclass(frozen=True)
class Unrolled:
    """A decoder's run over N K captions, with the graph that leads from its losses to its states.

    Attributes:
        losses: (N, K, T), the cross-entropy of each word in nats; 0 where there is only padding.
        states: by name (`hidden`, and `memory` of an LSTM), by step from 0 to T, by layer: (N K, H).
    """

    losses: Tensor
    states: dict[str, list[list[Tensor]]]


def gradient_flow(decoder: Decoder, features: Tensor, tokens: Tensor) -> list[Point]:
    """The norm of the gradient of the last word's and of the whole sentence's loss at every step and layer.

    A step is there if at least half of the captions have it. The decoder stays as it is, random generators included:
    a copy is run, in float64 on the processor, without dropout.

    Args:
        features: (N, P, C), the grids.
        tokens: (N, K, T + 1), `<start>`, words, `<end>`, then `<pad>`; a caption without words is left out.
    """
    double = copy.deepcopy(decoder).to("cpu", torch.float64).eval().requires_grad_(False)
    tokens = tokens.cpu()
    with torch.enable_grad(), torch.autocast("cpu", enabled=False):
        run = unroll(double, features.detach().to("cpu", torch.float64), tokens)
        targets = tokens[:, :, 1:].flatten(0, 1)  # (N K, T)
        losses = run.losses.flatten(0, 1)  # (N K, T)
        steps = torch.arange(1, targets.shape[1] + 1)  # (T,), the state that predicts each target
        ends = (steps * (targets != Vocabulary.pad)).amax(dim=1)  # (N K,)
        is_word = (targets != Vocabulary.pad) & (targets != Vocabulary.end)
        words = (steps * is_word).amax(dim=1)  # (N K,), the state that predicts the last word; 0 without one
        last = losses[words > 0].gather(1, words[words > 0].unsqueeze(1) - 1)  # (M, 1)
        points: list[Point] = []
        for name, states in run.states.items():
            for kind, loss in zip(LOSSES, (last, losses[words > 0]), strict=True):
                norms = gradient_norms(loss.sum(), states)[:, :, words > 0]  # (T + 1, L, M)
                points += _means(kind, name, norms, words[words > 0], ends[words > 0])
    return points


def _means(kind: str, name: str, norms: Tensor, words: Tensor, ends: Tensor) -> Iterator[Point]:
    """The points of one loss and one state from `norms` (T + 1, L, M), `words` (M,) and `ends` (M,)."""
    for step in range(len(norms)):
        there = step <= (words if kind == "last word" else ends)  # (M,)
        count = int(there.sum())
        if 2 * count < len(there) or not count:
            return
        at = words[there] - step if kind == "last word" else torch.full((count,), step)
        found = norms[at, :, there.nonzero().squeeze(1)].mean(dim=0)  # (count, L), then (L,)
        for layer, norm in enumerate(found.tolist(), start=1):
            yield Point(loss=kind, state=name, layer=layer, step=step, norm=norm, captions=count)


def gradient_norms(loss: Tensor, states: list[list[Tensor]]) -> Tensor:
    """The norms (T + 1, L, B) of the gradients of `loss` at `states`, by step and layer, each (B, H)."""
    every = [state for layers in states for state in layers]
    gradients = torch.autograd.grad(loss, every, retain_graph=True, materialize_grads=True)
    norms = torch.stack([gradient.norm(dim=1) for gradient in gradients])  # ((T + 1) L, B)
    return norms.view(len(states), -1, norms.shape[1])


def unroll(decoder: Decoder, features: Tensor, tokens: Tensor) -> Unrolled:
    """Run `decoder` by teacher forcing on `features` (N, P, C) and `tokens` (N, K, T + 1).

    The states are what the cells themselves return, so that all ways of their gradients are there: a lower layer's
    state goes to the layer above it at the same step too, and the LSTM's cell state, on a processor, to its own hidden
    state of that step (a GPU's kernel hides that one).
    """
    start = decoder.initial_state(features, beams=tokens.shape[1])
    hidden = _separate(start.hidden)
    memory = None if start.memory is None else _separate(start.memory)
    states = {"hidden": [hidden]} if memory is None else {"hidden": [hidden], "memory": [memory]}
    shape = start.hidden.shape  # (L, N, K, H)
    state = replace(
        start,
        hidden=torch.stack(hidden).view(shape),
        memory=None if memory is None else torch.stack(memory).view(shape),
    )
    words = decoder.embed(tokens[:, :, :-1])  # (N, K, T, E)
    outputs: list[Tensor] = []
    with _cells_outputs(decoder) as found:
        for t in range(words.shape[2]):
            output, _, state = decoder.advance(words[:, :, t], state)
            outputs.append(output)
            for name, values in zip(states.values(), zip(*found, strict=True), strict=True):
                name.append(list(values))
            found.clear()
    logits = decoder.classify(torch.stack(outputs, dim=2))  # (N, K, T, V)
    losses = nn.functional.cross_entropy(
        logits.flatten(0, 2), tokens[:, :, 1:].flatten(), ignore_index=Vocabulary.pad, reduction="none"
    )
    return Unrolled(losses.view(logits.shape[:3]), states)


def _separate(states: Tensor) -> list[Tensor]:
    """The states (L, N, K, H) before the first step, each layer (N K, H) a variable of its own."""
    return [layer.flatten(0, 1).detach().requires_grad_() for layer in states]


@contextmanager
def _cells_outputs(decoder: Decoder) -> Iterator[list[tuple[Tensor, ...]]]:
    """What the cells have returned since the list was cleared, in their order: (hidden,) or (hidden, memory)."""
    found: list[tuple[Tensor, ...]] = []

    def keep(cell: nn.Module, given: Any, returned: Tensor | tuple[Tensor, Tensor]) -> None:
        found.append(returned if isinstance(returned, tuple) else (returned,))

    hooks = [cell.register_forward_hook(keep) for cell in decoder.cells.cells]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def recurrent_matrices(decoder: Decoder) -> list[Matrix]:
    """The spectral radius and the largest singular value of every recurrent matrix."""
    found: list[Matrix] = []
    gates = GATES[decoder.configuration.cell]
    for layer, cell in enumerate(decoder.cells.cells, start=1):
        weights = cell.get_parameter("weight_hh").detach().to("cpu", torch.float64)
        for gate, matrix in zip(gates, weights.chunk(len(gates)), strict=True):  # (H, H) each
            radius = float(torch.linalg.eigvals(matrix).abs().max())
            largest = float(torch.linalg.matrix_norm(matrix, ord=2))
            found.append(Matrix(layer, gate, spectral_radius=radius, largest_singular_value=largest))
    return found


@torch.no_grad()
def scale_to_radius(decoder: Decoder, radius: float) -> None:
    """Scale every recurrent matrix of `decoder` to this spectral radius."""
    for cell in decoder.cells.cells:
        weights = cell.get_parameter("weight_hh")
        for matrix in weights.chunk(len(GATES[decoder.configuration.cell])):  # (H, H), a view
            matrix.mul_(radius / float(torch.linalg.eigvals(matrix.double()).abs().max()))
