"""The shipped model: small, complete, and able to tell photos apart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from captioner.datasets.flickr import load_flickr
from captioner.evaluation import metrics, ptb
from captioner.manifest import default_bundle, read_manifest
from captioner.prediction import Captioner

ORIGINALS = Path(__file__).parents[3] / "shared" / "data" / "flickr8k-originals"
needs_photos = pytest.mark.skipif(not ORIGINALS.is_dir(), reason="the project's own photos are not on this machine")


@pytest.fixture(scope="module")
def captioner() -> Iterator[Captioner]:
    with Captioner.from_bundle(precision="float32") as loaded:
        yield loaded


def test_it_is_at_most_30_megabytes_with_card_and_licence() -> None:
    files = list(default_bundle().iterdir())
    assert sum(file.stat().st_size for file in files) <= 30e6
    assert {"README.md", "LICENSE"} <= {file.name for file in files}
    manifest = read_manifest(default_bundle())
    assert "research data" in manifest["licence"]
    assert manifest["scores"]["signature"]["split"] == "dev"
    assert all(phase["data"] == "flickr8k" for phase in manifest["training"]["phases"])


@needs_photos
def test_photos_in_their_original_size_get_sensible_captions(captioner: Captioner) -> None:
    photos = sorted(ORIGINALS.glob("*.jpg"))
    captions = [outcome.caption for outcome in captioner.stream(photos)]
    texts = [caption.text for caption in captions if caption is not None]
    assert len(texts) == len(photos)
    assert len(set(texts)) > 0.8 * len(photos)
    described = {
        record.image.name: record.captions
        for split in load_flickr(ORIGINALS.parent / "flickr8k").splits.values()
        for record in split
    }
    pairs = [
        (text, described[photo.name]) for photo, text in zip(photos, texts, strict=True) if photo.name in described
    ]
    references = [[ptb.tokenize(reference) for reference in group] for _, group in pairs]
    scores = metrics.CiderD(references).score([ptb.tokenize(text) for text, _ in pairs])
    assert scores.mean() > 40.0  # shuffled captions score about 5


@needs_photos
def test_a_caption_does_not_depend_on_the_batch(captioner: Captioner) -> None:
    photos = sorted(ORIGINALS.glob("*.jpg"))[:12]
    together = captioner.caption(photos)
    for photo, caption in zip(photos, together, strict=True):
        (alone,) = captioner.caption([photo])
        assert alone.score == pytest.approx(caption.score, abs=1e-4)
        assert alone.text == caption.text
