"""Self-critical training: the model draws captions, and learns from their rewards (arXiv:1612.00563, arXiv:2003.09971).

The gradient is that of REINFORCE: the log-probability of each drawn word times the advantage of its caption, which is
the caption's reward less a baseline. SCST (Rennie et al. 2017, equation 7) takes the reward of the greedy caption as
the baseline, NSC (Luo 2020) the mean reward of the other captions that were drawn for the same picture.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from captioner.decoding.options import DecodingOptions
from captioner.decoding.search import search
from captioner.errors import ConfigurationError
from captioner.model.decoder import Decoder
from captioner.text.vocabulary import Vocabulary
from captioner.training.devices import share_of
from captioner.training.reward import Reward

BASELINES = ("others", "greedy")
_NEVER_DRAWN = [Vocabulary.pad, Vocabulary.start, Vocabulary.unk]  # as search never returns them


@dataclass(frozen=True, kw_only=True)
class SelfCriticalOptions:
    """How self-critical training draws and rewards captions.

    Args:
        samples: captions drawn for each picture, 2 or more with the baseline `others`.
        baseline: `others` (the mean reward of the picture's other captions) or `greedy` (the reward of the greedy one).
        bleu_weight: the weight of a caption's BLEU-4 in its reward, 0 to 1; CIDEr-D has the rest.
        max_length: most words of a drawn caption; one that has not ended by then gets no `<end>`, and its reward shows.
    """

    samples: int = 5
    baseline: str = "others"
    bleu_weight: float = 0.0
    max_length: int = 20

    def __post_init__(self) -> None:
        if self.baseline not in BASELINES:
            raise ConfigurationError(f"baseline '{self.baseline}' is unknown; choose one of {', '.join(BASELINES)}")
        if self.samples < 1 + (self.baseline == "others"):
            raise ConfigurationError(
                f"self_critical.samples is {self.samples}; the baseline '{self.baseline}' needs "
                f"{1 + (self.baseline == 'others')} or more"
            )
        if not 0.0 <= self.bleu_weight <= 1.0:
            raise ConfigurationError(f"self_critical.bleu_weight is {self.bleu_weight}; it must be between 0 and 1")
        if self.max_length < 1:
            raise ConfigurationError(f"self_critical.max_length is {self.max_length}; it must be 1 or more")


@dataclass(frozen=True)
class Drawn:
    """K captions of each of N pictures, drawn from the model.

    Attributes:
        tokens: (N, K, T) int64, `<end>` included where the caption ended, then `<pad>`.
        log_probabilities: (N, K, T), of each token when it was drawn, with gradient; 0 at `<pad>`.
    """

    tokens: Tensor
    log_probabilities: Tensor

    def captions(self) -> list[list[int]]:
        """The N K captions as ids, those of a picture one after the other, `<end>` included."""
        return [[token for token in row if token != Vocabulary.pad] for row in self.tokens.flatten(0, 1).tolist()]


def draw(decoder: Decoder, features: Tensor, *, samples: int, max_length: int) -> Drawn:
    """Draw `samples` (K) captions of each picture from the model's own distribution, `features` being (N, P, C).

    The words that search never returns are never drawn either, and `<end>` is not the first word; the probabilities are
    those of what remains. The gradient passes through the same pass that draws, with the same dropout.
    """
    state = decoder.initial_state(features, beams=samples)
    tokens = torch.full((len(features), samples), Vocabulary.start, device=features.device)  # (N, K); (B, 1) of rows
    everyone = torch.arange(tokens.numel(), device=features.device).view(tokens.shape)  # (N, K)
    forbidden = torch.zeros(len(decoder.bias), device=features.device)  # (V,)
    forbidden[_NEVER_DRAWN] = -math.inf
    no_end = forbidden.clone()
    no_end[Vocabulary.end] = -math.inf
    drawn, log_probabilities = [], []
    for t in range(max_length + 1):
        output, _, state = decoder.advance(decoder.embed(tokens), state)
        logits = decoder.classify(output)  # (N, K, V), or (B, 1, V)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32)) + (no_end if t == 0 else forbidden)
        distribution = torch.log_softmax(logits, dim=-1).flatten(0, 1)  # (B, V) of the B captions that go on
        with torch.no_grad():
            chosen = torch.multinomial(distribution.exp(), 1).squeeze(1)  # (B,)
        log_probability = distribution.gather(1, chosen.unsqueeze(1)).squeeze(1)  # (B,)
        if t == max_length:  # only the end may follow: a caption that draws something else stays without it
            ended = chosen == Vocabulary.end
            chosen = chosen.masked_fill(~ended, Vocabulary.pad)
            log_probability = log_probability.masked_fill(~ended, 0.0)
        places = state.of(everyone).flatten()  # (B,)
        drawn.append(torch.full_like(everyone, Vocabulary.pad).flatten().index_copy(0, places, chosen))  # (N K,)
        log_probabilities.append(log_probability.new_zeros(everyone.numel()).index_copy(0, places, log_probability))
        kept = (chosen != Vocabulary.end).nonzero().squeeze(1)  # what has ended leaves the step
        if not len(kept):
            break
        if len(kept) < len(chosen):
            state, chosen = state.only(kept), chosen[kept]
        tokens = chosen.view(state.hidden.shape[1:3])
    return Drawn(
        torch.stack(drawn, dim=1).view(*everyone.shape, -1),
        torch.stack(log_probabilities, dim=1).view(*everyone.shape, -1),
    )


def greedy_captions(decoder: Decoder, features: Tensor, *, max_length: int) -> list[list[int]]:
    """The greedy caption of each picture of `features` (N, P, C) as ids, `<end>` included; without dropout."""
    learning = decoder.training
    decoder.eval()
    try:
        with torch.no_grad():
            found = search(
                decoder.step,
                decoder.initial_state(features),
                num_images=len(features),
                start=Vocabulary.start,
                end=Vocabulary.end,
                pad=Vocabulary.pad,
                forbidden=_NEVER_DRAWN,
                options=DecodingOptions(beam_size=1, max_length=max_length),
                device=features.device,
            )
    finally:
        decoder.train(learning)
    return [[*best.tokens, Vocabulary.end] for (best,) in found]


def advantages(rewards: Tensor, greedy: Tensor | None = None) -> Tensor:
    """`rewards` (N, K) less their baseline: `greedy` (N,), or without it the mean of the picture's other captions."""
    if greedy is not None:
        return rewards - greedy.unsqueeze(1)
    samples = rewards.shape[1]
    # r - (S - r) / (K - 1) = K / (K - 1) (r - S / K), where S is the sum over the picture's captions
    return (rewards - rewards.mean(dim=1, keepdim=True)) * (samples / (samples - 1))


def policy_loss(drawn: Drawn, advantage: Tensor) -> Tensor:
    """The number whose gradient is REINFORCE's: minus the mean over all drawn words of advantage times log-probability.

    `advantage` is (N, K) and gets no gradient.
    """
    words = (drawn.tokens != Vocabulary.pad).sum()
    return -(advantage.detach().unsqueeze(2) * drawn.log_probabilities).sum() / words


class SelfCritical:
    """The objective of self-critical training: what it rewards, and the loss of one batch."""

    def __init__(
        self, options: SelfCriticalOptions, captions: Sequence[Sequence[Sequence[int]]], *, bad_endings: Iterable[int]
    ) -> None:
        """Prepare the reward.

        Args:
            captions: of each picture of the training split those that people wrote, as ids, `<end>` included.
            bad_endings: the ids of words after which another must follow.
        """
        self._options = options
        self._reward = Reward(captions, bleu_weight=options.bleu_weight)
        self._bad_endings = frozenset(bad_endings)

    def loss(
        self, decoder: Decoder, features: Tensor, pictures: Sequence[int]
    ) -> tuple[Tensor, dict[str, Tensor | float]]:
        """Draw captions and reward them.

        Args:
            features: (N, P, C).
            pictures: the N pictures' places in the training split.

        Returns:
            The loss (one number), and the figures of the log: the mean `reward`, the share of `bad_endings`, the mean
            number of `words`, and with the baseline `greedy` its mean reward, `greedy_reward`.
        """
        options = self._options
        drawn = draw(decoder, features, samples=options.samples, max_length=options.max_length)
        captions = drawn.captions()
        rewards = self._reward(captions, [picture for picture in pictures for _ in range(options.samples)])
        rewards = rewards.view(len(pictures), options.samples).to(features.device)  # (N, K)
        figures: dict[str, Tensor | float] = {
            "reward": rewards.mean(),
            "bad_endings": sum(map(self._ends_badly, captions)) / len(captions),
            "words": sum(map(len, captions)) / len(captions) - 1,
        }
        greedy: Tensor | None = None
        if options.baseline == "greedy":
            greedy = self._reward(greedy_captions(decoder, features, max_length=options.max_length), pictures)
            greedy = greedy.to(features.device)  # (N,)
            figures["greedy_reward"] = greedy.mean()
        loss = policy_loss(drawn, advantages(rewards, greedy)) * share_of((drawn.tokens != Vocabulary.pad).sum())
        return loss, figures

    def _ends_badly(self, caption: Sequence[int]) -> bool:
        return caption[-1] != Vocabulary.end or caption[-2] in self._bad_endings
