"""Cross-entropy: its weights, that padding is nothing, and torch's own loss as the reference."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from captioner.errors import ConfigurationError
from captioner.model.configuration import CELLS, DecoderConfiguration
from captioner.model.decoder import Decoder
from captioner.text.vocabulary import Vocabulary
from captioner.training.losses import MEANS, CrossEntropyOptions, caption_weights, unevenness
from captioner.training.teacher_forcing import TeacherForcing
from captioner.training.truncation import Truncation

P, C, V = 4, 3, 11
FULL = Truncation()


def make(cell: str = "lstm", num_layers: int = 1, attention: bool = True) -> Decoder:
    torch.manual_seed(0)
    configuration = DecoderConfiguration(
        cell=cell, num_layers=num_layers, attention=attention, embedding_size=5, hidden_size=6, attention_size=3
    )
    return Decoder(configuration, vocabulary_size=V, channels=C).double().eval()


def captions(lengths: list[list[int]], padding: int = 0) -> Tensor:
    """Ids (N, K, T + 1) of captions with so many words and their `<end>`; 0 words is a caption that is missing."""
    longest = max(2, max(length for row in lengths for length in row) + 2) + padding
    tokens = torch.full((len(lengths), len(lengths[0]), longest), Vocabulary.pad)
    dice = torch.Generator().manual_seed(1)
    for n, row in enumerate(lengths):
        for k, length in enumerate(row):
            if length:
                words = torch.randint(4, V, (length,), generator=dice)
                caption = torch.cat([torch.tensor([Vocabulary.start]), words, torch.tensor([Vocabulary.end])])
                tokens[n, k, : length + 2] = caption
    return tokens


def loss_and_gradients(
    decoder: Decoder, tokens: Tensor, options: CrossEntropyOptions, truncation: Truncation = FULL
) -> tuple[Tensor, list[Tensor]]:
    """Of the loss, with respect to the grid and to all parameters."""
    torch.manual_seed(2)
    features = torch.randn(len(tokens), P, C, dtype=torch.float64, requires_grad=True)
    forcing = TeacherForcing(options=options, truncation=truncation)
    loss = forcing.loss(decoder, features, tokens[:, :, :-1], tokens[:, :, 1:])
    return loss.detach(), list(torch.autograd.grad(loss, [features, *decoder.parameters()]))


@given(
    lengths=st.lists(st.lists(st.integers(0, 5), min_size=2, max_size=2), min_size=1, max_size=3),
    padding=st.integers(1, 4),
    mean=st.sampled_from(MEANS),
    cell=st.sampled_from(CELLS),
    attention=st.booleans(),
    truncation=st.sampled_from([FULL, Truncation(mode="truncated", steps=2)]),
)
@settings(max_examples=25)
def test_padding_changes_neither_loss_nor_gradient(
    lengths: list[list[int]], padding: int, mean: str, cell: str, attention: bool, truncation: Truncation
) -> None:
    decoder = make(cell, attention=attention)
    options = CrossEntropyOptions(mean=mean, attention_regularisation=0.3 if attention else 0.0)
    loss, gradients = loss_and_gradients(decoder, captions(lengths), options, truncation)
    padded_loss, padded_gradients = loss_and_gradients(decoder, captions(lengths, padding), options, truncation)
    torch.testing.assert_close(padded_loss, loss, atol=1e-12, rtol=0)
    for one, other in zip(padded_gradients, gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=0)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 0.6])
@pytest.mark.parametrize("attention", [True, False])
def test_the_token_mean_is_torchs_cross_entropy(label_smoothing: float, attention: bool) -> None:
    decoder, tokens = make(num_layers=2, attention=attention), captions([[5, 2], [0, 3], [1, 1]])
    loss, gradients = loss_and_gradients(decoder, tokens, CrossEntropyOptions(label_smoothing=label_smoothing))
    torch.manual_seed(2)
    features = torch.randn(len(tokens), P, C, dtype=torch.float64, requires_grad=True)
    logits = decoder(features, tokens[:, :, :-1])[0]
    torchs = nn.CrossEntropyLoss(ignore_index=Vocabulary.pad, label_smoothing=label_smoothing)
    expected = torchs(logits.flatten(0, 2), tokens[:, :, 1:].flatten())
    torch.testing.assert_close(loss, expected.detach(), atol=1e-12, rtol=0)
    for one, other in zip(gradients, torch.autograd.grad(expected, [features, *decoder.parameters()]), strict=True):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=0)


def test_the_sentence_mean_is_the_mean_of_each_captions_mean() -> None:
    decoder, tokens = make(), captions([[5, 2], [0, 3]])
    loss, _ = loss_and_gradients(decoder, tokens, CrossEntropyOptions(mean="sentence", label_smoothing=0.0))
    torch.manual_seed(2)
    features = torch.randn(len(tokens), P, C, dtype=torch.float64)
    log_probabilities = torch.log_softmax(decoder(features, tokens[:, :, :-1])[0], dim=-1)
    means = []
    for n, k, words in ((0, 0, 5), (0, 1, 2), (1, 1, 3)):
        found = [-log_probabilities[n, k, t, tokens[n, k, t + 1]] for t in range(words + 1)]
        means.append(torch.stack(found).mean())
    torch.testing.assert_close(loss, torch.stack(means).mean(), atol=1e-12, rtol=0)


@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize("truncation", [FULL, Truncation(mode="truncated", steps=2)])
def test_doubly_stochastic_attention_is_equation_14(mean: str, truncation: Truncation) -> None:
    decoder, lengths = make(), [[5, 2], [0, 3]]
    tokens = captions(lengths)
    options = CrossEntropyOptions(mean=mean, attention_regularisation=0.7)
    loss, gradients = loss_and_gradients(decoder, tokens, options, truncation)
    plain, _ = loss_and_gradients(decoder, tokens, CrossEntropyOptions(mean=mean))
    torch.manual_seed(2)
    features = torch.randn(len(tokens), P, C, dtype=torch.float64, requires_grad=True)
    attention = decoder(features, tokens[:, :, :-1])[1]
    assert attention is not None
    captions_with_words = [(n, k, words) for n, row in enumerate(lengths) for k, words in enumerate(row) if words]
    total = sum(words + 1 for _, _, words in captions_with_words)
    penalties = [
        (1 - attention[n, k, : words + 1].sum(dim=0)).square().sum()
        / (total if mean == "token" else (words + 1) * len(captions_with_words))
        for n, k, words in captions_with_words
    ]
    penalty = 0.7 * torch.stack(penalties).sum()
    torch.testing.assert_close(loss, plain + penalty.detach(), atol=1e-12, rtol=0)
    if truncation == FULL:  # and its gradient, beside that of the words
        options = CrossEntropyOptions(mean=mean)
        _, without = loss_and_gradients(decoder, tokens, options)
        expected = torch.autograd.grad(penalty, [features, *decoder.parameters()], allow_unused=True)
        for one, other, more in zip(gradients, without, expected, strict=True):
            torch.testing.assert_close(one, other if more is None else other + more, atol=1e-12, rtol=0)


def test_even_attention_costs_nothing() -> None:
    assert float(unevenness(torch.ones(1, 1, P))) == 0.0
    assert float(unevenness(torch.zeros(1, 1, P))) == P


@given(
    lengths=st.lists(st.lists(st.integers(0, 5), min_size=2, max_size=2), min_size=1, max_size=3),
    mean=st.sampled_from(MEANS),
)
def test_the_weights_of_all_words_sum_to_1(lengths: list[list[int]], mean: str) -> None:
    targets = captions(lengths)[:, :, 1:]
    weights = caption_weights(targets, mean, torch.float64)
    words = (targets != Vocabulary.pad).sum(dim=2)
    assert float((weights * words).sum()) == pytest.approx(1.0 if words.any() else 0.0, abs=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label_smoothing": 1.0}, r"label_smoothing is 1\.0; it must be at least 0 and less than 1"),
        ({"mean": "word"}, r"mean 'word' is unknown; choose one of token, sentence"),
        ({"attention_regularisation": -1.0}, r"attention_regularisation is -1\.0; it must be 0 or more"),
        ({"scheduled_sampling": 1.5}, r"scheduled_sampling is 1\.5; it must be between 0 and 1"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: dict[str, float | str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        CrossEntropyOptions(**options)  # type: ignore[arg-type]
