"""Self-critical training: what is drawn, what it is compared with, and the gradient of the expected reward."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from captioner.bundle import load_bundle
from captioner.errors import ConfigurationError
from captioner.model.configuration import DecoderConfiguration
from captioner.model.decoder import Decoder
from captioner.text.vocabulary import Vocabulary
from captioner.training.reward import Reward
from captioner.training.self_critical import (
    Drawn,
    SelfCriticalOptions,
    advantages,
    draw,
    greedy_captions,
    policy_loss,
)
from tests.training.running import column, recipe, train

PAD, START, END, UNK = Vocabulary.pad, Vocabulary.start, Vocabulary.end, Vocabulary.unk
WORDS = 7  # the vocabulary: four special words and three ordinary ones


def decoder_of(**settings: Any) -> Decoder:
    torch.manual_seed(0)
    configuration = DecoderConfiguration(embedding_size=4, hidden_size=5, attention_size=3, **settings)
    decoder = Decoder(configuration, vocabulary_size=WORDS, channels=6)
    torch.nn.init.normal_(decoder.bias)
    return decoder.double()


def log_probability(decoder: Decoder, features: torch.Tensor, caption: list[int], max_length: int) -> torch.Tensor:
    """Of one caption of one picture (1, P, C), by teacher forcing over the words that may be drawn."""
    logits = decoder(features, torch.tensor([[[START, *caption]]]))[0][0, 0]  # (T + 1, V)
    total = torch.zeros((), dtype=torch.float64)
    for t, token in enumerate(caption):
        allowed = logits[t].clone()
        allowed[[PAD, START, UNK] + ([END] if t == 0 else [])] = -math.inf
        total = total + torch.log_softmax(allowed, dim=0)[token]
    return total


def test_captions_come_as_often_as_the_model_says() -> None:
    decoder, features = decoder_of(dropout=0.0), torch.randn(1, 2, 6, dtype=torch.float64)
    drawn = draw(decoder, features, samples=20_000, max_length=2)
    counts = Counter(map(tuple, drawn.captions()))
    for caption in ([4, END], [5, 6, END], [6, 6, END]):
        expected = log_probability(decoder, features, caption, 2).exp().item()
        error = math.sqrt(expected * (1 - expected) / 20_000)
        assert counts[tuple(caption)] / 20_000 == pytest.approx(expected, abs=4 * error)


def test_what_is_drawn_could_have_been_searched() -> None:
    decoder = decoder_of(dropout=0.0)
    drawn = draw(decoder, torch.randn(3, 2, 6, dtype=torch.float64), samples=200, max_length=4)
    assert drawn.tokens.shape[:2] == (3, 200)
    for row in drawn.tokens.flatten(0, 1).tolist():
        words = [token for token in row if token != PAD]
        assert row == words + [PAD] * (len(row) - len(words))  # nothing after the end
        assert not {START, UNK} & set(words)
        assert words[0] != END
        assert END not in words[:-1]
        assert len(words) - (words[-1] == END) <= 4


def test_the_log_probabilities_are_those_of_teacher_forcing() -> None:
    decoder, features = decoder_of(dropout=0.0), torch.randn(2, 2, 6, dtype=torch.float64)
    drawn = draw(decoder, features, samples=6, max_length=3)
    sums = drawn.log_probabilities.sum(dim=2).flatten()
    for row, caption in enumerate(drawn.captions()):
        expected = log_probability(decoder, features[row // 6 : row // 6 + 1], caption, 3)
        assert sums[row].item() == pytest.approx(expected.item(), abs=1e-5)  # they are kept in float32


@given(st.lists(st.lists(st.floats(0, 10), min_size=3, max_size=3), min_size=1, max_size=4))
def test_the_baseline_is_the_mean_of_the_others(rewards: list[list[float]]) -> None:
    found = advantages(torch.tensor(rewards, dtype=torch.float64)).tolist()
    for row, expected in zip(found, rewards, strict=True):
        for k, value in enumerate(row):
            others = [reward for other, reward in enumerate(expected) if other != k]
            assert value == pytest.approx(expected[k] - sum(others) / 2, abs=1e-9)


def test_the_gradient_is_that_of_the_expected_reward() -> None:
    """Against the exact gradient, which the few captions that are possible here let us add up."""
    decoder, features = decoder_of(dropout=0.0), torch.randn(1, 2, 6, dtype=torch.float64)
    parameter = decoder.bias
    reward = {4: 1.0, 5: 0.2, 6: -0.5}

    def worth(caption: list[int]) -> float:
        return sum(reward.get(token, 0.0) for token in caption)

    # max_length 1: a word, and then the end or not; what is not the end leaves the word alone
    exact = torch.zeros((), dtype=torch.float64)
    for word in (4, 5, 6):
        exact = exact + log_probability(decoder, features, [word], 1).exp() * worth([word])
    (expected,) = torch.autograd.grad(exact, parameter)

    samples = 100_000
    drawn = draw(decoder, features, samples=samples, max_length=1)
    rewards = torch.tensor([[worth(caption) for caption in drawn.captions()]], dtype=torch.float64)
    number = (drawn.tokens != PAD).sum() / samples  # the loss is a mean over words, the expectation one over captions
    (found,) = torch.autograd.grad(-policy_loss(drawn, advantages(rewards)) * number, parameter)
    torch.testing.assert_close(found, expected, atol=0.01, rtol=0.0)
    assert float(expected.abs().max()) > 0.05


def test_a_better_caption_becomes_more_probable_and_padding_counts_for_nothing() -> None:
    values = torch.zeros(1, 2, 3, requires_grad=True)
    tokens = torch.tensor([[[4, 5, END], [4, END, PAD]]])
    loss = policy_loss(Drawn(tokens, values), advantages(torch.tensor([[1.0, 0.0]])))
    (gradient,) = torch.autograd.grad(loss, values)
    assert gradient[0, 0].tolist() == pytest.approx([-0.2, -0.2, -0.2])
    assert gradient[0, 1, :2].tolist() == pytest.approx([0.2, 0.2])


def test_the_greedy_caption_takes_the_best_word_and_leaves_dropout_as_it_was() -> None:
    decoder, features = decoder_of(dropout=0.5), torch.randn(1, 2, 6, dtype=torch.float64)
    (found,) = greedy_captions(decoder, features, max_length=3)
    assert decoder.training
    decoder.eval()
    caption: list[int] = []
    for t in range(3):
        logits = decoder(features, torch.tensor([[[START, *caption]]]))[0][0, 0, -1]
        logits[[PAD, START, UNK] + ([END] if t == 0 else [])] = -math.inf
        caption.append(int(logits.argmax()))
        if caption[-1] == END:
            break
    assert found == caption + ([] if caption[-1] == END else [END])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"samples": 1}, "self_critical.samples is 1; the baseline 'others' needs 2 or more"),
        ({"samples": 0, "baseline": "greedy"}, "samples is 0; the baseline 'greedy' needs 1 or more"),
        ({"baseline": "mean"}, "baseline 'mean' is unknown; choose one of others, greedy"),
        ({"bleu_weight": 1.5}, "bleu_weight is 1.5; it must be between 0 and 1"),
        ({"max_length": 0}, "max_length is 0; it must be 1 or more"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigurationError, match=sentence):
        SelfCriticalOptions(**options)


@pytest.mark.parametrize("baseline", ["others", "greedy"])
def test_it_learns_to_say_what_is_rewarded(baseline: str) -> None:
    decoder, features = decoder_of(dropout=0.0).float(), torch.randn(2, 2, 6)
    reward = Reward([[[4, 5, 6, END]], [[6, 6, 5, 4, END]], [[5, 5, END]]])
    optimizer = torch.optim.Adam(decoder.parameters(), lr=0.03)
    means = []
    for _ in range(150):
        drawn = draw(decoder, features, samples=8, max_length=6)
        rewards = reward(drawn.captions(), [0] * 8 + [1] * 8).view(2, 8)
        greedy = reward(greedy_captions(decoder, features, max_length=6), [0, 1]) if baseline == "greedy" else None
        optimizer.zero_grad()
        policy_loss(drawn, advantages(rewards, greedy)).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        means.append(float(rewards.mean()))
    assert sum(means[-10:]) > 2 * sum(means[:10])


# --- the command


def test_an_untrained_model_is_refused(shapes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["--config", recipe(tmp_path, shapes), "--output", tmp_path / "run", "--model.self_critical.samples=3"]
    assert train(*command) == 1
    assert "train it with cross-entropy first, and give that bundle by --init-from" in capsys.readouterr().err


@pytest.mark.parametrize("baseline", ["others", "greedy"])
def test_a_run_logs_its_rewards_and_the_bundle_says_how(
    shapes: Path, finished: Path, tmp_path: Path, baseline: str
) -> None:
    command = [
        "--config", recipe(tmp_path, shapes), "--output", tmp_path / "run", "--init-from", finished / "bundle",
        f"--model.self_critical.baseline={baseline}", "--model.self_critical.max_length=8",
    ]  # fmt: skip
    assert train(*command) == 0
    (reward,) = column(tmp_path / "run", "reward_epoch")
    steps = column(tmp_path / "run", "reward_step")
    assert len(steps) == 3
    assert reward == pytest.approx(sum(steps) / 3)
    assert 0 < reward < 10
    assert all(0 <= share <= 1 for share in column(tmp_path / "run", "bad_endings_epoch"))
    if baseline == "greedy":
        (greedy,) = column(tmp_path / "run", "greedy_reward")
        assert 0 < greedy < 10
    *_, phase = load_bundle(tmp_path / "run" / "bundle").training["phases"]
    assert phase["settings"]["self_critical"] == asdict(SelfCriticalOptions(baseline=baseline, max_length=8))


def test_shares_of_captions_are_counted_by_their_words() -> None:
    rows = list(itertools.chain([4, 5, END], [4, END, PAD]))
    assert Drawn(torch.tensor(rows).view(1, 2, 3), torch.zeros(1, 2, 3)).captions() == [[4, 5, END], [4, END]]
