"""Teacher forcing through the step function of search: how probable given sentences are."""

from __future__ import annotations

import torch
from torch import Tensor

from captioner.decoding.search import StateT, StepFunction


@torch.no_grad()
def forced_log_probabilities(step: StepFunction[StateT], state: StateT, tokens: Tensor, *, start: int) -> Tensor:
    """The log-probability (N, K, T) of each of `tokens` (N, K, T), given the picture and the tokens before it.

    Args:
        state: of N images with ONE beam each; it is re-ordered to K beams after `start` was fed.
        tokens: K sentences of each image, padded at their ends with any token; what comes out there means nothing.
    """
    num_images, num_sentences, num_steps = tokens.shape
    images = torch.arange(num_images, device=tokens.device)
    log_probabilities, _, state = step(torch.full_like(tokens[:, :1, 0], start), state)  # (N, 1, V)
    state = state.reorder(images, torch.zeros_like(tokens[:, :, 0]))
    log_probabilities = log_probabilities.expand(-1, num_sentences, -1)  # (N, K, V)
    found = []
    for t in range(num_steps):
        if t > 0:
            log_probabilities, _, state = step(tokens[:, :, t - 1], state)
        found.append(log_probabilities.gather(2, tokens[:, :, t, None]).squeeze(2))  # (N, K)
    return torch.stack(found, dim=2)
