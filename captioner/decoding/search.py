"""Beam search over many images at once; greedy decoding is beam_size 1.

Search knows no model. It receives a step function and a state that it can re-order, and it decides which hypotheses
live on. The rules:

- Each image has K = beam_size slots. A hypothesis that has ended keeps its slot, with its score frozen, until a
  hypothesis with a better score takes it. An image stops when all its slots have ended, and then leaves the batch.
- Hypotheses compare by log_probability / length ** length_penalty, where length counts <end>. This is the simplest form
  of length normalisation; Wu et al. 2016 (arXiv:1609.08144, equation 14) use ((5 + length) / 6) ** alpha instead.
- What is not allowed gets -inf and nothing is renormalised, so a score is the one of teacher forcing.
- Equal scores: first the hypothesis that has ended, then the lower slot, then the lower token id.
- Every operation works on each image alone, so a result does not depend on the rest of the batch.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, Self, TypeVar

import torch
from torch import Tensor

from captioner.decoding.options import DecodingOptions
from captioner.errors import DecodingError

# Rounding may lift a log-probability a little above 0; logits passed by mistake are far above.
_ROUNDING = 1e-3


@dataclass(frozen=True)
class Hypothesis:
    """One caption that has ended.

    tokens: the T word ids, without <start> and <end>.
    log_probabilities: T + 1 natural logarithms, one for each token and one for <end>.
    score: log_probability / (T + 1) ** length_penalty.
    attention: (T + 1, P), the weights behind each token and behind <end>; None if the step function gives none.
        Not part of equality.
    """

    tokens: tuple[int, ...]
    log_probabilities: tuple[float, ...]
    score: float
    attention: Tensor | None = field(default=None, compare=False)

    @property
    def log_probability(self) -> float:
        """The log-probability of the whole caption, <end> included."""
        return math.fsum(self.log_probabilities)


class SearchState(Protocol):
    """What a step function carries from step to step, for N images of K beams. A value: search never changes it."""

    def reorder(self, images: Tensor, beams: Tensor) -> Self:
        """The state of M of the N images, with other beams.

        images: (M,) int64, the rows to keep, strictly increasing; so M = N means all of them.
        beams: (M, K) int64, for each kept image the old beam that goes into each new slot.
        """


StateT = TypeVar("StateT", bound=SearchState)


class StepFunction(Protocol[StateT]):
    """One step of a decoder."""

    def __call__(self, tokens: Tensor, state: StateT, /) -> tuple[Tensor, Tensor | None, StateT]:
        """Feed one token to each beam.

        tokens: (N, K) int64. K is 1 in the first step and beam_size afterwards. A slot that has ended is fed <pad>, and
        what comes out for it is ignored.

        Returns log_probabilities (N, K, V), floating point; attention (N, K, P) or None; and the next state.
        """


class _Beams(NamedTuple):
    """The slots of the images in the batch after a step. After an unfilled slot (too few candidates) score is -inf."""

    tokens: Tensor  # (N, K) int64: what was appended, <pad> for a slot that had ended before
    parents: Tensor  # (N, K) int64: the slot of the step before that it was appended to
    log_probabilities: Tensor  # (N, K): of the token alone, 0 for a slot that had ended before
    totals: Tensor  # (N, K): the sums so far
    scores: Tensor  # (N, K): the totals, length-normalised; best first
    ended: Tensor  # (N, K) bool: ended or unfilled


class _Step(NamedTuple):
    """What the way back needs of one step. The N images are rows `images` of the whole batch."""

    images: Tensor  # (N,)
    beams: _Beams
    attention: Tensor | None  # (N, slots of the step before, P)


@torch.no_grad()
def search(
    step: StepFunction[StateT],
    state: StateT,
    *,
    num_images: int,
    start: int,
    end: int,
    pad: int,
    forbidden: Sequence[int],
    options: DecodingOptions,
    device: torch.device | str = "cpu",
) -> list[list[Hypothesis]]:
    """The best captions of each image, best first: num_captions of them, fewer where fewer are possible, at least one.

    state: of num_images images with ONE beam each; after the first step it is re-ordered to beam_size beams.
    start, end, pad: token ids. start is fed first, pad to slots that have ended.
    forbidden: token ids that never come out; <start> and <pad> are not forbidden unless they are listed.
    device: where the tokens for the first step are made; it must be the one of the model.

    Raises DecodingError if the step function returns wrong shapes or values that are no log-probabilities (NaN, inf,
    positive), if a token id does not exist or <end> is forbidden, or if an image has no possible caption.
    """
    if end in forbidden:
        raise DecodingError(f"The end token {end} is forbidden, so no caption could end; take it off the list.")
    if num_images == 0:
        return []
    images = torch.arange(num_images, device=device)
    tokens = torch.full((num_images, 1), start, device=device)
    beams: _Beams | None = None
    steps: list[_Step] = []
    for num_words in range(options.max_length + 1):
        log_probabilities, attention, state = step(tokens, state)
        _check_shapes(log_probabilities, attention, tokens)
        if beams is None:
            _check_tokens([start, end, pad, *forbidden], log_probabilities.shape[2])
            beams = _empty_beams(log_probabilities)
        mask = _mask(num_words, options, end=end, forbidden=forbidden, like=log_probabilities)
        divisor = float((num_words + 1) ** options.length_penalty)
        beams = _extend(beams, log_probabilities + mask, options.beam_size, divisor, end=end, pad=pad)
        steps.append(_Step(images, beams, attention))
        going = (~beams.ended.all(dim=1)).nonzero().squeeze(1)  # (M,)
        if len(going) == 0:  # at the latest after max_length words, where nothing but <end> is allowed
            break
        # Beams are re-ordered in every step anyway, so dropping the images that have stopped costs nothing.
        stopped = len(going) < len(images)
        if stopped or options.beam_size > 1:
            state = state.reorder(going, beams.parents[going])
        if stopped:
            images = images[going]
            beams = _Beams(*(tensor[going] for tensor in beams))
        tokens = beams.tokens.masked_fill(beams.ended, pad)
    return _collect(steps, options.num_captions, end=end, pad=pad)


def _check_shapes(log_probabilities: Tensor, attention: Tensor | None, tokens: Tensor) -> None:
    for name, tensor in (("log_probabilities", log_probabilities), ("attention", attention)):
        if tensor is not None and (tensor.dim() != 3 or tensor.shape[:2] != tokens.shape):
            raise DecodingError(
                f"The step function returned {name} of shape {tuple(tensor.shape)} for tokens of shape "
                f"{tuple(tokens.shape)}; it must return (images, beams, ...)."
            )
    if not log_probabilities.is_floating_point():
        raise DecodingError(f"The step function returned {log_probabilities.dtype}; it must return floating point.")


def _check_tokens(tokens: Iterable[int], vocabulary_size: int) -> None:
    for token in tokens:
        if not 0 <= token < vocabulary_size:
            raise DecodingError(f"There is no token {token}: the vocabulary of the model has {vocabulary_size}.")


def _dtype(log_probabilities: Tensor) -> torch.dtype:
    # Sums keep the precision of the model, but at least float32: bfloat16 would round a sum of 30 to a quarter.
    return torch.promote_types(log_probabilities.dtype, torch.float32)


def _empty_beams(log_probabilities: Tensor) -> _Beams:
    """The empty hypothesis of each image, in one slot, (N, 1)."""
    zeros = log_probabilities.new_zeros(log_probabilities.shape[:2], dtype=_dtype(log_probabilities))
    none = torch.zeros_like(zeros, dtype=torch.int64)
    unfilled = torch.full_like(zeros, -math.inf)
    return _Beams(none, none, zeros, totals=zeros, scores=unfilled, ended=torch.zeros_like(zeros, dtype=torch.bool))


def _mask(num_words: int, options: DecodingOptions, *, end: int, forbidden: Sequence[int], like: Tensor) -> Tensor:
    """(V,): 0 where a token is allowed after num_words words, -inf elsewhere. To be added, so that NaN stays NaN."""
    if num_words == options.max_length:
        mask = like.new_full(like.shape[-1:], -math.inf, dtype=_dtype(like))
        mask[end] = 0
        return mask
    mask = like.new_zeros(like.shape[-1:], dtype=_dtype(like))
    mask[list(forbidden)] = -math.inf
    if num_words < options.min_length:
        mask[end] = -math.inf
    return mask


def _extend(beams: _Beams, log_probabilities: Tensor, beam_size: int, divisor: float, *, end: int, pad: int) -> _Beams:
    """The best beam_size hypotheses among those that have ended and all extensions of the others.

    log_probabilities: (N, K, V), -inf for what is not allowed. K is 1 in the first step and beam_size afterwards.
    divisor: length ** length_penalty of the extended hypotheses, all of which have one length.
    """
    num_slots = log_probabilities.shape[1]
    # No slot can contribute more than beam_size, so that all but the first line works on small tensors.
    values, tokens = _best_extensions(log_probabilities, ~beams.ended, beam_size)  # (N, K, W)
    values = values.masked_fill(beams.ended[:, :, None], -math.inf)  # what has ended is not extended
    extended = (beams.totals[:, :, None] + values) / divisor  # (N, K, W)
    frozen = beams.scores.masked_fill(~beams.ended, -math.inf)  # (N, K)
    # In the first step there may be fewer extensions than slots to fill; hence the padding.
    frozen = torch.nn.functional.pad(frozen, (0, beam_size - num_slots), value=-math.inf)  # (N, beam_size)
    candidates = torch.cat([frozen, extended.flatten(1)], dim=1)  # (N, beam_size + K * W)
    scores, chosen = candidates.sort(dim=1, descending=True, stable=True)  # stable: the order of candidates breaks ties
    scores, chosen = scores[:, :beam_size], chosen[:, :beam_size]

    unfilled = scores == -math.inf
    was_ended = chosen < beam_size
    position = (chosen - beam_size).clamp(min=0)  # in (K * W), for the extensions
    parents = torch.where(was_ended, chosen.clamp(max=num_slots - 1), position // values.shape[2])
    appended = tokens.flatten(1).gather(1, position).masked_fill(was_ended | unfilled, pad)
    appended_values = values.flatten(1).gather(1, position).masked_fill(was_ended, 0.0)
    return _Beams(
        tokens=appended,
        parents=parents,
        log_probabilities=appended_values,
        totals=beams.totals.gather(1, parents) + appended_values,
        scores=scores,
        ended=was_ended | unfilled | (appended == end),
    )


def _best_extensions(log_probabilities: Tensor, live: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The best W = min(count, V) values of each slot and their tokens, both (N, K, W), in the order of the tokens.

    topk may choose any of several equal values. Where the choice matters a stable sort makes it: lower ids first.
    """
    vocabulary_size = log_probabilities.shape[2]
    width = min(count, vocabulary_size)
    values, tokens = log_probabilities.topk(min(count + 1, vocabulary_size), dim=2)  # one more, to see ties; NaN first
    if bool((live & ~(values[:, :, 0] <= _ROUNDING)).any()):  # NaN compares false
        raise DecodingError(
            "The step function returned values that are no log-probabilities (NaN or above 0); "
            "the model is broken or gives something else, such as logits."
        )
    if vocabulary_size > width:
        tied = live & (values[:, :, width - 1] == values[:, :, width]) & (values[:, :, width] > -math.inf)  # (N, K)
        if bool(tied.any()):
            order = log_probabilities[tied].sort(dim=1, descending=True, stable=True)  # (ties, V)
            values[tied] = order.values[:, : width + 1]
            tokens[tied] = order.indices[:, : width + 1]
    tokens, order_of_tokens = tokens[:, :, :width].sort(dim=2)
    return values.gather(2, order_of_tokens), tokens


def _collect(steps: Sequence[_Step], num_captions: int, *, end: int, pad: int) -> list[list[Hypothesis]]:
    """Follow the parents back from the best C = num_captions slots of each of the I images."""
    num_images = len(steps[0].images)
    device = steps[0].images.device
    scores = steps[0].beams.scores[:, :num_captions].clone()  # (I, C)
    for images, beams, _ in steps[1:]:
        scores[images] = beams.scores[:, :num_captions]
    shape = (num_images, num_captions, len(steps))
    tokens = torch.full(shape, pad, device=device)
    log_probabilities = scores.new_zeros(shape)
    attention: Tensor | None = None
    if all(each.attention is not None for each in steps) and steps[0].attention is not None:
        attention = steps[0].attention.new_zeros((*shape, steps[0].attention.shape[2]))
    slots = torch.arange(num_captions, device=device).repeat(num_images, 1)  # (I, C)
    for index in reversed(range(len(steps))):
        images, beams, weights = steps[index]  # an image that had stopped is not among them, and keeps its slots
        here = slots[images]  # (N, C)
        parents = beams.parents.gather(1, here)  # (N, C)
        tokens[images, :, index] = beams.tokens.gather(1, here)
        log_probabilities[images, :, index] = beams.log_probabilities.gather(1, here)
        if attention is not None and weights is not None:
            rows = torch.arange(len(images), device=device)[:, None]  # (N, 1)
            attention[images, :, index] = weights[rows, parents]  # (N, C, P)
        slots[images] = parents
    return [
        _hypotheses(image, *lists, None if attention is None else attention[image], end)
        for image, lists in enumerate(zip(tokens.tolist(), log_probabilities.tolist(), scores.tolist(), strict=True))
    ]


def _hypotheses(
    image: int,
    tokens: list[list[int]],
    log_probabilities: list[list[float]],
    scores: list[float],
    attention: Tensor | None,
    end: int,
) -> list[Hypothesis]:
    """The hypotheses of one image; attention is (C, T, P). A slot that was never filled has the score -inf."""
    found = []
    for slot, score in enumerate(scores):
        if score == -math.inf:
            continue
        length = tokens[slot].index(end)
        found.append(
            Hypothesis(
                tokens=tuple(tokens[slot][:length]),
                log_probabilities=tuple(log_probabilities[slot][: length + 1]),
                score=score,
                attention=None if attention is None else attention[slot, : length + 1],
            )
        )
    if not found:
        raise DecodingError(
            f"Image {image} of the batch has no possible caption: every allowed continuation has probability 0. "
            "Forbid fewer tokens, or use a larger beam_size."
        )
    return found
