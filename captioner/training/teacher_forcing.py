"""Teacher forcing: the given words go in, and the loss of the words that should follow comes out.

Between two cuts of the gradient lies a segment. Without cuts the loss is that of an ordinary graph. With them, the
gradients of a segment are computed as soon as its loss is known, and its graph is dropped before the next one begins: a
caption of 2,000 words then needs the memory of one segment. The loss that is returned carries these gradients with it,
so that one `backward()` on it does what it does on any loss.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from captioner.model.decoder import Decoder
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
        pieces = list(zip(torch.split(inputs, segments, dim=2), torch.split(targets, segments, dim=2), strict=True))
        if self.truncation.mode == "full" or not torch.is_grad_enabled():
            previous: Tensor | None = None
            for piece in pieces:
                loss, carried, previous = self._segment(decoder, *piece, weights, carried, previous, own_words)
                total = total + loss
            return total
        return total + self._in_segments(decoder, pieces, weights, carried, own_words, loss_scale)

    def _in_segments(
        self,
        decoder: Decoder,
        pieces: list[tuple[Tensor, Tensor]],
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
        carried = replace(carried, state=replace(state, **leaves))
        total, previous = weights.new_zeros(()), None
        for inputs, targets in pieces:
            loss, carried, previous = self._segment(decoder, inputs, targets, weights, carried, previous, own_words)
            found = list(torch.autograd.grad(loss * loss_scale, sources, allow_unused=True))
            for place in range(len(sources)):  # one by one, so that no third set of gradients is alive
                gradients[place] = _sum(gradients[place], found[place])
            del found
            total = total + loss.detach()
            carried = carried.weighted(0.0)
        known: Tensor = _KnownGradients.apply(total, loss_scale, gradients, *origins.values(), *parameters)
        return known

    def _segment(
        self,
        decoder: Decoder,
        inputs: Tensor,
        targets: Tensor,
        weights: Tensor,
        carried: Carried,
        previous: Tensor | None,
        own_words: float,
    ) -> tuple[Tensor, Carried, Tensor | None]:
        """The loss of `inputs` and `targets` (N, K, T) of one segment, and what it hands to the next.

        `previous` is the last output (N, K, E) of the segment before, without gradient, from which a word may be drawn.
        """
        asked = targets != Vocabulary.pad  # (N, K, T)
        penalty = weights.new_zeros(())
        if own_words == 0.0 and self.truncation.kept_weight == 1.0:
            outputs, attention, state = decoder.unroll(inputs, carried.state)
            looked = carried.looked
            if looked is not None and attention is not None:
                looked = looked + (attention * asked.unsqueeze(-1)).sum(dim=2, dtype=looked.dtype)
                penalty = _growth(carried.looked, looked, weights)
            carried = Carried(state, looked)
        else:
            steps: list[Tensor] = []
            for t in range(inputs.shape[2]):
                if t > 0:
                    carried = carried.weighted(self.truncation.kept_weight)
                tokens = inputs[:, :, t]
                if own_words > 0.0 and previous is not None:
                    tokens = _some_drawn(decoder, tokens, previous, own_words)
                output, attention, state = decoder.advance(decoder.embed(tokens), carried.state)
                looked = carried.looked
                if looked is not None and attention is not None:
                    looked = looked + attention * asked[:, :, t, None]
                    penalty = penalty + _growth(carried.looked, looked, weights)
                carried = Carried(state, looked)
                previous = output.detach()
                steps.append(output)
            outputs = torch.stack(steps, dim=2)  # (N, K, T, E)
        words = weights.unsqueeze(2).expand(targets.shape)[asked]  # (M,), the weights of the words that are asked for
        loss = weighted_cross_entropy(
            decoder.classify(outputs[asked]), targets[asked], words, label_smoothing=self.options.label_smoothing
        )
        return loss + self.options.attention_regularisation * penalty, carried, previous


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


def _growth(before: Tensor | None, after: Tensor, weights: Tensor) -> Tensor:
    """How much a step or a segment adds to the weighted sum of `unevenness`."""
    if before is None:
        return weights.new_zeros(())
    return (weights * (unevenness(after) - unevenness(before))).sum()


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
