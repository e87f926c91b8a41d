"""What is read and drawn for one picture: the right pixels, varied in training alone, and its captions."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch

from captioner.errors import DatasetError
from captioner.geometry import Geometry
from captioner.preprocessing import Augmentation, pixels_of
from tests.conftest import Draw
from tests.training.toy import by_picture, first, make, toy_set


@pytest.fixture
def root(tmp_path: Path, draw: Draw) -> Path:
    return toy_set(tmp_path / "toy", draw)


def test_pixels_are_the_pictures_of_the_indices(root: Path, draw: Draw) -> None:
    data = make(root)
    batch = first(data.train_dataloader())
    assert batch.pixels is not None
    for index, pixels in zip(batch.indices.tolist(), batch.pixels, strict=True):
        assert torch.equal(pixels, pixels_of(Geometry(size=24).apply(draw(60, 40, seed=index))))


def test_captions_are_drawn_anew_in_training_and_are_the_first_ones_in_validation(root: Path) -> None:
    data = make(root, captions_per_image=1)
    loader = data.train_dataloader()
    drawn = []
    for epoch in range(40):
        loader.batches.set_epoch(epoch)
        torch.manual_seed(epoch // 2)  # what others draw does not matter
        drawn.append(tuple(by_picture(first(loader))[1][0]))
        assert tuple(by_picture(first(loader))[1][0]) == drawn[-1]  # of one epoch, always the same
    assert len(set(drawn)) == 3
    (root / "toy.trainImages.txt").write_text("a.png\n")
    (root / "toy.devImages.txt").write_text("b.png\n")
    data = make(root, captions_per_image=1)
    validated = {tuple(by_picture(first(data.val_dataloader()))[0][0]) for _ in range(10)}
    assert len(validated) == 1


def test_a_picture_whose_caption_says_left_is_never_mirrored(root: Path, draw: Draw) -> None:
    data = make(root, augmentation=Augmentation(flip=True))
    plain = pixels_of(Geometry(size=24).apply(draw(60, 40, seed=0)))  # "on the left"
    other = pixels_of(Geometry(size=24).apply(draw(60, 40, seed=1)))
    mirrored = 0
    loader = data.train_dataloader()
    for epoch in range(30):
        loader.batches.set_epoch(epoch)
        batch = first(loader)
        assert batch.pixels is not None
        pixels = dict(zip(batch.indices.tolist(), batch.pixels, strict=True))
        assert torch.equal(pixels[0], plain)
        mirrored += torch.equal(pixels[1], other.flip(1))
    assert 5 <= mirrored <= 25


def test_validation_is_not_varied(root: Path, draw: Draw) -> None:
    data = make(root, augmentation=Augmentation(min_scale=0.3, flip=True, colour=0.5))
    batch = first(data.val_dataloader())
    assert batch.pixels is not None
    assert torch.equal(batch.pixels[0], pixels_of(Geometry(size=24).apply(draw(60, 40, seed=2))))


def test_what_a_worker_receives_can_be_sent_to_it(root: Path) -> None:
    loader = make(root, augmentation=Augmentation(min_scale=0.5, colour=0.1)).train_dataloader()
    assert pickle.loads(pickle.dumps((loader.dataset, loader.collate_fn)))


@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_picture_that_cannot_be_read_is_named_in_one_sentence(root: Path, num_workers: int) -> None:
    data = make(root, num_workers=num_workers)
    (root / "Images" / "c.png").write_bytes(b"no picture")  # it was one when all were looked at
    batch = next(iter(data.val_dataloader()))
    with pytest.raises(DatasetError, match=r"^picture .*c\.png of the data set cannot be used: [^\n]*$"):
        data.transfer_batch_to_device(batch, torch.device("cpu"), 0)
