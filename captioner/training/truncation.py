"""Where backpropagation through time is cut: nowhere, every k steps, or at random with the rest re-weighted."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from captioner.errors import ConfigurationError
from captioner.model.decoder import DecoderState

MODES = ("full", "truncated", "randomised")


@dataclass(frozen=True, kw_only=True)
class Truncation:
    """How far a loss reaches back through the recurrent state; the forward pass is the same in every mode.

    `truncated` cuts the gradient after every `steps` words (Williams & Peng 1990, with as many steps forward as back).
    `randomised` cuts after each word with probability 1 / `steps`, and multiplies the gradient through every connection
    that it keeps by the inverse of the probability of keeping it, so that the mean over the draws is the full gradient
    (Tallec & Ollivier 2017, arXiv:1705.08209, with one probability for all steps).

    Args:
        mode: `full`, `truncated` or `randomised`.
        steps: words between two cuts, or their mean number; for the two modes that cut.
    """

    mode: str = "full"
    steps: int | None = None

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ConfigurationError(f"truncation.mode '{self.mode}' is unknown; choose one of {', '.join(MODES)}")
        if self.mode == "full":
            if self.steps is not None:
                raise ConfigurationError(
                    f"truncation.steps is {self.steps}, but truncation.mode is full: choose truncated or randomised"
                )
            return
        least = 2 if self.mode == "randomised" else 1  # a connection that is never kept cannot be re-weighted
        if self.steps is None or self.steps < least:
            raise ConfigurationError(
                f"truncation.steps is {self.steps}; the mode {self.mode} needs a number of {least} or more"
            )

    def segments(self, num_steps: int) -> list[int]:
        """The lengths of the pieces between two cuts; they sum to `num_steps`. Randomised, they are drawn anew."""
        if self.steps is None:
            return [num_steps]
        if self.mode == "truncated":
            whole, rest = divmod(num_steps, self.steps)
            return [self.steps] * whole + [rest] * (rest > 0)
        cut = torch.rand(num_steps - 1) < 1.0 / self.steps  # after each step but the last
        ends = [int(t) + 1 for t in cut.nonzero()] + [num_steps]
        return [end - start for start, end in zip([0, *ends], ends, strict=False)]

    @property
    def kept_weight(self) -> float:
        """What the gradient through a kept connection is multiplied by: 1 / P(kept), which is k / (k - 1)."""
        if self.steps is None or self.mode != "randomised":
            return 1.0
        return self.steps / (self.steps - 1)


@dataclass(frozen=True)
class Carried:
    """All that one step hands to the next, and so all that is cut or re-weighted between two of them.

    Attributes:
        state: the decoder's; its projected grid and keys are inputs of every step, and stay as they are.
        looked: (N, K, P), what attention has spent on each place so far; None where nothing asks for it.
        output: (N, K, E), the last step's, without gradient, from which a word may be drawn; None before the first.
    """

    state: DecoderState
    looked: Tensor | None
    output: Tensor | None = None

    def only(self, places: Tensor) -> Carried:
        """Go on with the rows at `places` (B,) int64 alone, see `DecoderState.only`; the shapes then begin (B, 1)."""
        return Carried(
            self.state.only(places),
            None if self.looked is None else self.looked.flatten(0, 1)[places].unsqueeze(1),
            None if self.output is None else self.output.flatten(0, 1)[places].unsqueeze(1),
        )

    def weighted(self, factor: float) -> Carried:
        """The same values; the gradient that flows back through them is multiplied by `factor`, or cut by 0."""
        if factor == 1.0:
            return self
        memory = self.state.memory
        state = replace(
            self.state,
            hidden=_weighted(self.state.hidden, factor),
            memory=None if memory is None else _weighted(memory, factor),
        )
        return Carried(state, None if self.looked is None else _weighted(self.looked, factor), self.output)


def _weighted(value: Tensor, factor: float) -> Tensor:
    fixed = value.detach()
    return fixed if factor == 0.0 else fixed + factor * (value - fixed)
