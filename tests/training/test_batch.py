"""Batches: pictures and captions in a few tensors, with padding, which move together."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from captioner.text.vocabulary import Vocabulary
from tests.conftest import Draw
from tests.training.toy import by_picture, first, make, toy_set


@pytest.fixture
def root(tmp_path: Path, draw: Draw) -> Path:
    return toy_set(tmp_path / "toy", draw)


def test_a_batch(root: Path) -> None:
    data = make(root)
    batch = first(data.train_dataloader())
    vocabulary = data.vocabulary
    assert batch.tokens.shape == (2, 3, 8)  # the longest caption has six words
    assert batch.features is None
    assert batch.pixels is not None
    assert batch.pixels.shape == (2, 24, 24, 3)
    assert batch.pixels.dtype == torch.uint8
    start, end = Vocabulary.start, Vocabulary.end
    expected = [[start, *vocabulary.encode(words.split()), end] for words in ("a dog runs", "the dog sits on the left")]
    assert by_picture(batch)[0] == expected
    assert len(by_picture(batch)[1]) == 3
    row = batch.tokens[batch.indices.tolist().index(0)]
    assert row[2].tolist() == [Vocabulary.pad] * 8  # a.png has no third caption
    assert row[0].tolist()[-3:] == [Vocabulary.pad] * 3


def test_a_batch_moves_as_a_whole(root: Path) -> None:
    batch = first(make(root).val_dataloader())
    moved = batch.to(torch.device("meta"))
    assert moved.pixels is not None
    assert {moved.pixels.device.type, moved.tokens.device.type, moved.indices.device.type} == {"meta"}
    assert moved.features is None
