"""The average of bundles: the mean of their weights, of models that were trained from the same start only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from captioner.bundle import Bundle, load_bundle, save_bundle
from captioner.decoding.options import DecodingOptions
from captioner.errors import BundleError
from captioner.model.caption_model import CaptionModel
from captioner.soup import average_bundles
from captioner.text.vocabulary import Vocabulary

START = {"data": "toy", "date": "2026-01-01", "epochs": 1, "steps": 9, "minutes": 0.1, "dev_cider": 10.0}
Write = Callable[..., Path]


@pytest.fixture
def write(tiny_bundle: Path, tmp_path: Path) -> Write:
    """Writes a bundle whose weights are those of the tiny one plus a number."""

    def written(name: str, *, add: float, licence: str = "MIT", **changes: Any) -> Path:
        bundle = load_bundle(tiny_bundle)
        bundle.model.decoder.bias.add_(add)
        own = {**START, "date": "2026-02-02", "epochs": 4, "dev_cider": 20.0 + add}
        given: dict[str, Any] = {"training": {"phases": [START, own]}, "scores": {"CIDEr-D": 1.0}, **changes}
        bundle = replace(bundle, **given)
        save_bundle(bundle, tmp_path / name, card="", licence_text=f"{licence}\n")
        return tmp_path / name

    return written


def test_the_weights_are_the_mean_and_the_history_says_of_what(write: Write, tiny_bundle: Path) -> None:
    paths = [write("a", add=1.0), write("b", add=3.0), write("b-again", add=3.0)]
    average = average_bundles(paths)
    before = load_bundle(tiny_bundle).model.state_dict()
    for name, value in average.model.state_dict().items():
        moved = 7.0 / 3.0 if name == "decoder.bias" else 0.0
        torch.testing.assert_close(value, before[name] + moved, atol=2e-3, rtol=1e-3)
    shared, last = average.training["phases"]
    assert shared == START
    assert last["average_of"] == [f"tiny@{load_bundle(path).digest}" for path in paths]
    assert [[one["dev_cider"] for one in phases] for phases in last["phases_of_each"]] == [[21.0], [23.0], [23.0]]
    assert (average.scores, average.calibration, average.digest) == ({}, {}, "unsaved")  # nobody has measured it
    assert average.licence == load_bundle(paths[0]).licence


def test_one_that_is_named_twice_counts_twice(write: Write) -> None:
    a, b = write("a", add=0.0), write("b", add=3.0)
    bias = average_bundles([a, a, b]).model.decoder.bias
    torch.testing.assert_close(bias, load_bundle(a).model.decoder.bias + 1.0, atol=2e-3, rtol=1e-3)


def _other_network(bundle: Bundle) -> dict[str, Any]:
    configuration = replace(bundle.model.decoder.configuration, hidden_size=8)
    return {"model": CaptionModel(bundle.model.encoder.configuration, configuration, vocabulary_size=24).eval()}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_other_network, "their networks"),
        (lambda bundle: {"vocabulary": Vocabulary(reversed(bundle.vocabulary.ordinary))}, "their words"),
        (
            lambda bundle: {"preprocessing": replace(bundle.preprocessing, mean=(0.5, 0.5, 0.5))},
            "their preprocessing",
        ),
        (lambda bundle: {"training": {"phases": [{**START, "date": "2026-01-03"}]}}, "not trained from the same start"),
        (lambda bundle: {"training": {}}, "not trained from the same start"),
    ],
)
def test_what_has_no_average_is_refused_in_a_sentence(
    write: Write, tiny_bundle: Path, change: Callable[[Bundle], dict[str, Any]], told: str
) -> None:
    a, b = write("a", add=0.0), write("b", add=1.0, **change(load_bundle(tiny_bundle)))
    with pytest.raises(BundleError, match=told):
        average_bundles([a, b])


def test_the_dropout_and_the_decoding_may_differ(write: Write, tiny_bundle: Path) -> None:
    start = load_bundle(tiny_bundle)
    model = CaptionModel(
        start.model.encoder.configuration,
        replace(start.model.decoder.configuration, dropout=0.1),
        vocabulary_size=len(start.vocabulary),
    ).eval()
    a = write("a", add=0.0)
    b = write("b", add=0.0, model=model, decoding=DecodingOptions(beam_size=7))
    assert average_bundles([a, b]).decoding == start.decoding


def test_one_bundle_is_no_average(write: Write) -> None:
    with pytest.raises(BundleError, match="needs two bundles or more"):
        average_bundles([write("a", add=0.0)])
