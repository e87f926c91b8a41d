"""Teacher forcing: the given words go in, and the loss of the words that should follow comes out.

Between two cuts of the gradient lies a segment. Without cuts the loss is that of an ordinary graph. With them, the
gradients of a segment are computed as soon as its loss is known, and its graph is dropped before the next one begins: a
caption of 2,000 words then needs the memory of one segment. The loss that is returned carries these gradients with it,
so that one `backward()` on it does what it does on any loss.

A caption that has ended leaves the step. Only torch's kernels for whole sequences, which a decoder without attention
can use, go through its padding.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from captioner.model.decoder import Decoder, DecoderState
from captioner.text.vocabulary import Vocabulary
from captioner.training.losses import CrossEntropyOptions, caption_weights, unevenness, weighted_cross_entropy
from captioner.training.truncation import Carried, Truncation


@dataclass(frozen=True, kw_only=True)
class TeacherForcing:
    """The loss of given captions.

    Attributes:
        options: what is minimised.
        truncation: where the gradient is cut on its way back through time.
    """

    options: CrossEntropyOptions
    truncation: Truncation

    def loss(
        self,
        decoder: Decoder,
        features: Tensor,
        inputs: Tensor,
        targets: Tensor,
        *,
        own_words: float = 0.0,
        loss_scale: float = 1.0,
    ) -> Tensor:
        """One number with its gradient.

        Args:
            decoder: in training mode if its dropout is to work.
            features: (N, P, C), the grids of N pictures.
            inputs: (N, K, T) ids: `<start>`, then the words of K captions of each picture.
            targets: (N, K, T) ids that should follow; `<pad>` where nothing is asked.
            own_words: the share of the inputs, but for the first, in whose place the model's own draw is fed.
            loss_scale: what the loss will be multiplied by before `backward()` (mixed precision in float16 does), so
                that the gradients of a segment are as safe from underflow as those of a whole caption.
        """
        precision = torch.promote_types(features.dtype, torch.float32)
        weights = caption_weights(targets, self.options.mean, precision)
        state = decoder.initial_state(features, beams=inputs.shape[1])
        looked: Tensor | None = None
        total = weights.new_zeros(())
        if decoder.attention is not None and self.options.attention_regularisation > 0.0:
            looked = weights.new_zeros(*inputs.shape[:2], features.shape[1])  # (N, K, P)
            total = self.options.attention_regularisation * (weights * unevenness(looked)).sum()
        segments = self.truncation.segments(inputs.shape[2])
        carried = Carried(state, looked)
        going = iter(_going_on(targets))
        pieces = [
            _Piece(*piece, list(itertools.islice(going, piece[0].shape[2])))
            for piece in zip(torch.split(inputs, segments, dim=2), torch.split(targets, segments, dim=2), strict=True)
        ]
        if self.truncation.mode == "full" or not torch.is_grad_enabled():
            for piece in pieces:
                loss, carried = self._segment(decoder, piece, weights, carried, own_words)
                total = total + loss
            return total
        return total + self._in_segments(decoder, pieces, weights, carried, own_words, loss_scale)

    def _in_segments(
        self,
        decoder: Decoder,
        pieces: list[_Piece],
        weights: Tensor,
        carried: Carried,
        own_words: float,
        loss_scale: float,
    ) -> Tensor:
        """The loss of all `pieces`, one after the other, with no more than the graph of one of them."""
        state = carried.state
        given = {"hidden": state.hidden, "memory": state.memory, "values": state.values, "keys": state.keys}
        origins = {name: value for name, value in given.items() if value is not None}
        leaves = {name: value.detach().requires_grad_() for name, value in origins.items()}
        parameters = [parameter for parameter in decoder.parameters() if parameter.requires_grad]
        sources = [*leaves.values(), *parameters]
        gradients: list[Tensor | None] = [None] * len(sources)
        state = DecoderState(leaves["hidden"], leaves.get("memory"), leaves["values"], leaves.get("keys"))
        carried = replace(carried, state=state)
        total = weights.new_zeros(())
        for piece in pieces:
            loss, carried = self._segment(decoder, piece, weights, carried, own_words)
            found = list(torch.autograd.grad(loss * loss_scale, sources, allow_unused=True))
            for place in range(len(sources)):  # one by one, so that no third set of gradients is alive
                gradients[place] = _sum(gradients[place], found[place])
            del found
            total = total + loss.detach()
            carried = carried.weighted(0.0)
        known: Tensor = _KnownGradients.apply(total, loss_scale, gradients, *origins.values(), *parameters)
        return known

    def _segment(
        self, decoder: Decoder, piece: _Piece, weights: Tensor, carried: Carried, own_words: float
    ) -> tuple[Tensor, Carried]:
        """The loss of one segment, its captions' words having `weights` (N, K), and what it hands to the next."""
        penalty = weights.new_zeros(())
        if decoder.attention is None and own_words == 0.0 and self.truncation.kept_weight == 1.0:
            outputs, _, state = decoder.unroll(piece.inputs, carried.state)  # whole sequences, padding included
            outputs, places = outputs.flatten(0, 2), piece.places.flatten()  # (N K T, E), (N K T,)
            carried = replace(carried, state=state)
        else:
            outputs, places, penalty, carried = self._steps(decoder, piece, weights, carried, own_words)
        targets = piece.targets.flatten()[places]  # (S,)
        asked = targets != Vocabulary.pad
        of_words = weights.unsqueeze(2).expand(piece.targets.shape).flatten()[places[asked]]  # (M,)
        loss = weighted_cross_entropy(
            decoder.classify(outputs[asked]), targets[asked], of_words, label_smoothing=self.options.label_smoothing
        )
        return loss + self.options.attention_regularisation * penalty, carried

    def _steps(
        self, decoder: Decoder, piece: _Piece, weights: Tensor, carried: Carried, own_words: float
    ) -> tuple[Tensor, Tensor, Tensor, Carried]:
        """One time step after the other, which captions leave when they have ended.

        Returns:
            The outputs (S, E) of all steps, the places (S,) of their words, what they add to the sum of `unevenness`,
            and what is handed on.
        """
        outputs: list[Tensor] = []
        places: list[Tensor] = []
        penalty = weights.new_zeros(())
        every = piece.places  # (N, K, T)
        given = decoder.embed(piece.inputs).unbind(2) if own_words == 0.0 else None  # T times (N, K, E)
        for t, kept in enumerate(piece.going_on):
            if t > 0:
                carried = carried.weighted(self.truncation.kept_weight)
            if kept is not None:
                carried = carried.only(kept)
            before = carried.state
            if given is not None:
                vectors = before.of(given[t])
            else:
                tokens = before.of(piece.inputs[:, :, t])
                if carried.output is not None:
                    tokens = _some_drawn(decoder, tokens, carried.output, own_words)
                vectors = decoder.embed(tokens)
            output, attention, state = decoder.advance(vectors, before)
            looked: Tensor | None = None
            if carried.looked is not None and attention is not None:
                asked = before.of(piece.targets[:, :, t]) != Vocabulary.pad  # (N, K), or (B, 1) of the rows
                looked = carried.looked + attention * asked.unsqueeze(-1)
                growth = unevenness(looked) - unevenness(carried.looked)  # (N, K)
                penalty = penalty + (before.of(weights) * growth).sum()
            carried = Carried(state, looked, output.detach())
            outputs.append(output.flatten(0, 1))
            places.append(before.of(every[:, :, t]).flatten())
        return torch.cat(outputs), torch.cat(places), penalty, carried


@dataclass(frozen=True)
class _Piece:
    """What lies between two cuts.

    Attributes:
        inputs: (N, K, T) ids.
        targets: (N, K, T) ids.
        going_on: see `_going_on`, of these T steps.
    """

    inputs: Tensor
    targets: Tensor
    going_on: list[Tensor | None]

    @property
    def places(self) -> Tensor:
        """(N, K, T), the place of each word among all of them."""
        return torch.arange(self.targets.numel(), device=self.targets.device).view(self.targets.shape)


def _going_on(targets: Tensor) -> list[Tensor | None]:
    """Which rows each of T steps goes on with: those whose `targets` (N, K, T) still ask for something.

    Returns:
        Their places (B,) among the rows of the step before, at first all N K; None where no row has left. The longest
        caption stays to the end, so that a batch is never empty.
    """
    steps = torch.arange(1, targets.shape[2] + 1, device=targets.device)
    ends = ((targets != Vocabulary.pad) * steps).amax(dim=2).flatten().cpu()  # (N K,), copied once a batch
    ends[ends.argmax()] = targets.shape[2]
    before = torch.ones_like(ends, dtype=torch.bool)
    found: list[Tensor | None] = []
    for t in range(targets.shape[2]):
        going = ends > t
        left = bool((going != before).any())
        found.append(going[before].nonzero().squeeze(1).to(targets.device) if left else None)
        before = going
    return found


class _KnownGradients(torch.autograd.Function):
    """A loss whose gradients were computed on the way to it."""

    @staticmethod
    def forward(ctx: Any, loss: Tensor, loss_scale: float, gradients: list[Tensor | None], *sources: Tensor) -> Tensor:
        """The `loss`; the `gradients` are those of `loss * loss_scale` with respect to `sources`."""
        ctx.loss_scale, ctx.gradients = loss_scale, gradients
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        """The known gradients times the gradient that comes from outside."""
        factor = outer[0] / ctx.loss_scale
        return (None, None, None, *(None if known is None else known * factor for known in ctx.gradients))


def _some_drawn(decoder: Decoder, tokens: Tensor, output: Tensor, own_words: float) -> Tensor:
    """`tokens` (N, K), each replaced with probability `own_words` by a draw after `output` (N, K, E)."""
    with torch.no_grad():
        distribution = torch.softmax(decoder.classify(output).float(), dim=-1)  # (N, K, V)
        drawn = torch.multinomial(distribution.flatten(0, 1), 1).view_as(tokens)
        return torch.where(torch.rand(tokens.shape, device=tokens.device) < own_words, drawn, tokens)


def _sum(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    if one is None or other is None:
        return other if one is None else one
    return one + other
