"""Cross-entropy as a sum over captions, each with its weight: additive over time, and blind to padding.

The loss of a caption is equation 14 of arXiv:1502.03044 (Xu et al. 2015): the negative log-probabilities of its words,
and with doubly stochastic attention lambda times the sum over places of (1 - what attention spent there)^2. The loss of
a batch is the weighted sum over its captions, and the weights know what a mean is.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from captioner.errors import ConfigurationError
from captioner.text.vocabulary import Vocabulary

MEANS = ("token", "sentence")


@dataclass(frozen=True, kw_only=True)
class CrossEntropyOptions:
    """What cross-entropy training minimises.

    Args:
        label_smoothing: the probability mass that is spread over all words, 0 to less than 1.
        mean: `token` (every word of a batch counts alike) or `sentence` (every caption counts alike, so that a word of
            a short one counts more).
        attention_regularisation: lambda of doubly stochastic attention (arXiv:1502.03044, equation 14); 0 is none. It
            is divided by what the words of the caption are divided by.
        scheduled_sampling: the share of the words fed at the end of the run that are drawn from the model instead of
            being given; it rises in a line from 0 at the start (arXiv:1506.03099, section 2.4); 0 is none.
    """

    label_smoothing: float = 0.1
    mean: str = "token"
    attention_regularisation: float = 0.0
    scheduled_sampling: float = 0.0

    def __post_init__(self) -> None:
        if self.mean not in MEANS:
            raise ConfigurationError(f"cross_entropy.mean '{self.mean}' is unknown; choose one of {', '.join(MEANS)}")
        if not 0.0 <= self.label_smoothing < 1.0:
            raise ConfigurationError(
                f"cross_entropy.label_smoothing is {self.label_smoothing}; it must be at least 0 and less than 1"
            )
        if not 0.0 <= self.attention_regularisation < float("inf"):
            raise ConfigurationError(
                f"cross_entropy.attention_regularisation is {self.attention_regularisation}; it must be 0 or more"
            )
        if not 0.0 <= self.scheduled_sampling <= 1.0:
            raise ConfigurationError(
                f"cross_entropy.scheduled_sampling is {self.scheduled_sampling}; it must be between 0 and 1"
            )

    def counted(self, targets: Tensor) -> Tensor:
        """How many words, or captions where `mean` is `sentence`, the mean over `targets` (N, K, T) divides by."""
        words = targets != Vocabulary.pad
        return words.any(dim=2).sum() if self.mean == "sentence" else words.sum()


def caption_weights(targets: Tensor, mean: str, dtype: torch.dtype = torch.float32) -> Tensor:
    """What a word of each caption counts (N, K), as `dtype`; the weights of all words sum to 1.

    Args:
        targets: (N, K, T) ids to predict, `<pad>` where there is none; a caption that is missing is all `<pad>`.
        mean: `token` gives 1 / words of the batch, `sentence` 1 / (words of the caption * captions of the batch).
    """
    lengths = (targets != Vocabulary.pad).sum(dim=2).to(dtype)  # (N, K)
    if mean == "sentence":
        weights = 1.0 / (lengths.clamp(min=1) * (lengths > 0).sum().clamp(min=1))
    else:
        weights = (1.0 / lengths.sum().clamp(min=1)).expand(lengths.shape)
    return weights.masked_fill(lengths == 0, 0.0)


def weighted_cross_entropy(logits: Tensor, targets: Tensor, weights: Tensor, *, label_smoothing: float) -> Tensor:
    """The weighted sum (one number) of the cross-entropy of M words.

    Args:
        logits: (M, V); what is coarser than float32 is made float32.
        targets: (M,) ids.
        weights: (M,).
        label_smoothing: as in `torch.nn.CrossEntropyLoss`, which is the token mean of this.
    """
    precise = logits.to(torch.promote_types(logits.dtype, torch.float32))
    losses = F.cross_entropy(precise, targets, reduction="none", label_smoothing=label_smoothing)  # (M,)
    return torch.dot(losses, weights.to(losses.dtype))


def unevenness(looked: Tensor) -> Tensor:
    """The sum over places of (1 - a)^2 (N, K), of `looked` (N, K, P): a is what attention spent there in all steps."""
    return (1.0 - looked).square().sum(dim=-1)
