"""Reward: the official scorers' numbers, for captions given as ids."""

from __future__ import annotations

import pytest
from pycocoevalcap.bleu.bleu import Bleu
from pycocoevalcap.cider.cider import Cider

from captioner.text.vocabulary import Vocabulary
from captioner.training.reward import Reward

END = Vocabulary.end
REFERENCES = [
    [[4, 5, 6, 7, END], [4, 5, 8, 7, 9, END]],
    [[10, 5, 11, END], [10, 12, 5, 11, 6, END], [4, 10, END]],
    [[13, 14, 15, 16, 17, 18, END]],
]
CAPTIONS = [[4, 5, 6, 7, END], [10, 5, 11], [4, 5, 8, 7, END], [13, 14, 15, 16, 4, 4, END]]
PICTURES = [0, 1, 1, 2]


def official(bleu_weight: float) -> list[float]:
    """What pycocoevalcap says of the same captions, whose words are the ids written out."""
    rewards = []
    for caption, picture in zip(CAPTIONS, PICTURES, strict=True):
        texts = {n: [" ".join(map(str, reference)) for reference in group] for n, group in enumerate(REFERENCES)}
        # the others score their own references: only the document frequencies of all of them matter
        hypotheses = {n: [group[0]] for n, group in texts.items()} | {picture: [" ".join(map(str, caption))]}
        cider = Cider().compute_score(texts, hypotheses)[1][picture]
        bleu = Bleu(4).compute_score(texts, hypotheses, verbose=0)[1][3][picture]
        rewards.append(float((1 - bleu_weight) * cider + bleu_weight * bleu))
    return rewards


@pytest.mark.parametrize("bleu_weight", [0.0, 0.3, 1.0])
def test_the_reward_is_what_the_official_scorers_say(bleu_weight: float) -> None:
    rewards = Reward(REFERENCES, bleu_weight=bleu_weight)(CAPTIONS, PICTURES)
    assert rewards.tolist() == pytest.approx(official(bleu_weight), abs=1e-4)


def test_a_caption_earns_by_ending() -> None:
    reward = Reward(REFERENCES)
    ended, cut = reward([[10, 5, 11, END], [10, 5, 11]], [1, 1]).tolist()
    assert ended > cut
