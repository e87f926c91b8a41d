"""Starting from a bundle: words that both vocabularies have keep their vectors."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from captioner.bundle import Bundle, load_bundle
from captioner.errors import ConfigurationError
from captioner.geometry import Geometry
from captioner.model.caption_model import CaptionModel
from captioner.text.vocabulary import Vocabulary
from captioner.training.initialisation import copy_weights, refuse_contradictions, settings_of


@pytest.fixture(scope="module")
def start(tiny_bundle: Path) -> Bundle:
    return load_bundle(tiny_bundle)


def fresh(start: Bundle, vocabulary: Vocabulary) -> CaptionModel:
    encoder, decoder = start.model.encoder.configuration, start.model.decoder.configuration
    return CaptionModel(encoder, decoder, vocabulary_size=len(vocabulary))


def test_the_same_words_give_the_same_model(start: Bundle) -> None:
    model = fresh(start, start.vocabulary)
    assert copy_weights(start, model, start.vocabulary) == len(start.vocabulary.ordinary)
    for name, value in start.model.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def test_shared_words_keep_their_vectors_and_new_ones_are_new(start: Bundle) -> None:
    vocabulary = Vocabulary(["zebra", "cat", "yak", "dog", "the"])
    model = fresh(start, vocabulary)
    before = model.decoder.embedding.weight.detach().clone()
    assert copy_weights(start, model, vocabulary) == 3
    vectors, biases = model.decoder.embedding.weight.detach(), model.decoder.bias.detach()
    old_vectors, old_biases = start.model.decoder.embedding.weight, start.model.decoder.bias
    for word in ("<pad>", "<start>", "<end>", "<unk>", "cat", "dog", "the"):
        (new,), (old,) = vocabulary.encode([word]), start.vocabulary.encode([word])
        assert torch.equal(vectors[new], old_vectors[old]), word
        assert torch.equal(biases[new], old_biases[old]), word
    for word in ("zebra", "yak"):
        (new,) = vocabulary.encode([word])
        assert torch.equal(vectors[new], before[new])
        assert biases[new].item() == 0.0
    assert torch.equal(model.decoder.initial.weight, start.model.decoder.initial.weight)
    for name, value in start.model.encoder.state_dict().items():
        assert torch.equal(model.encoder.state_dict()[name], value), name


def test_no_word_in_common(start: Bundle) -> None:
    vocabulary = Vocabulary(["zebra"])
    model = fresh(start, vocabulary)
    assert copy_weights(start, model, vocabulary) == 0
    assert torch.equal(model.decoder.embedding.weight[:4], start.model.decoder.embedding.weight[:4])


def test_the_bundle_stays_as_it_is(start: Bundle) -> None:
    before = {name: value.clone() for name, value in start.model.state_dict().items()}
    model = fresh(start, start.vocabulary)
    copy_weights(start, model, start.vocabulary)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    assert all(torch.equal(value, before[name]) for name, value in start.model.state_dict().items())


def test_a_setting_that_contradicts_the_bundle_is_named_and_dropout_is_free(start: Bundle) -> None:
    encoder, decoder = start.model.encoder.configuration, start.model.decoder.configuration
    seen = start.preprocessing
    refuse_contradictions(settings_of(encoder, replace(decoder, dropout=0.1), seen), start)
    larger = replace(seen, geometry=Geometry(size=65))
    for settings, message in (
        (settings_of(replace(encoder, cut=None), decoder, seen), "model.encoder.cut is None"),
        (settings_of(encoder, replace(decoder, hidden_size=99), seen), "model.decoder.hidden_size is 99"),
        (settings_of(encoder, decoder, larger), "data.preprocessing.geometry is"),
    ):
        with pytest.raises(ConfigurationError, match=re.escape(message)):
            refuse_contradictions(settings, start)
