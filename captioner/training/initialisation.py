"""Starting from a bundle: a new network takes over its weights and the vectors of the words that both know."""

from __future__ import annotations

import torch

from captioner.bundle import Bundle
from captioner.model.caption_model import CaptionModel
from captioner.text.vocabulary import Vocabulary


def copy_weights(start: Bundle, model: CaptionModel, vocabulary: Vocabulary) -> int:
    """Copy the weights of `start` into `model`, whose words are `vocabulary`; both have the same configuration.

    Returns:
        How many ordinary words both vocabularies share. Words that `start` does not know keep their random vectors.
    """
    state = start.model.state_dict()
    fresh = model.state_dict()
    known = {word: i for i, word in enumerate(start.vocabulary.words)}
    pairs = [(i, known[word]) for i, word in enumerate(vocabulary.words) if word in known]
    new, old = (torch.tensor(ids) for ids in zip(*pairs, strict=True))
    for name in ("decoder.embedding.weight", "decoder.bias"):  # the two that have a row a word
        rows = fresh[name].clone()
        rows[new] = state[name][old]
        state[name] = rows
    model.load_state_dict(state)
    return len(set(start.vocabulary.ordinary) & set(vocabulary.ordinary))
