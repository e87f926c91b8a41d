"""The data module: its vocabulary, captions as ids, splits in order, and pictures that are left out."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

from captioner.errors import ConfigurationError, DatasetError
from captioner.geometry import Geometry
from captioner.preprocessing import pixels_of
from captioner.text.vocabulary import Vocabulary
from captioner.training.data import CaptionDataModule
from tests.conftest import Draw
from tests.training.toy import by_picture, first, make, toy_set


@pytest.fixture
def root(tmp_path: Path, draw: Draw) -> Path:
    return toy_set(tmp_path / "toy", draw)


def test_the_vocabulary_is_that_of_training(root: Path) -> None:
    data = make(root)
    assert data.vocabulary.ordinary[:3] == ("a", "dog", "cat")
    assert "zebra" not in data.vocabulary.words
    assert make(root, min_count=2).vocabulary.ordinary == ("a", "dog", "cat", "sits", "the")


def test_an_unknown_word_is_unk(root: Path) -> None:
    data = make(root)
    (caption,) = by_picture(first(data.val_dataloader()))[0]
    assert caption[2] == Vocabulary.unk


def test_long_captions_are_cut(root: Path) -> None:
    data = make(root, max_words=2)
    batch = first(data.train_dataloader())
    assert batch.tokens.shape[2] == 4  # the last id is predicted only: two words are fed
    assert by_picture(batch)[0][1] == [Vocabulary.start, *data.vocabulary.encode(["the", "dog", "sits"])]
    a_cat = [Vocabulary.start, *data.vocabulary.encode(["a", "cat"]), Vocabulary.end]
    assert by_picture(batch)[1][0] == a_cat  # of exactly two words, it keeps its end


def test_training_is_shuffled_and_validation_is_in_order(root: Path) -> None:
    (root / "toy.devImages.txt").unlink()
    (root / "toy.trainImages.txt").write_text("a.png\n")
    (root / "toy.devImages.txt").write_text("c.png\nb.png\n")
    data = make(root)
    assert [image.name for image in data.images("dev")] == ["c.png", "b.png"]
    assert first(data.val_dataloader()).indices.tolist() == [0, 1]
    assert len(data.train_dataloader()) == 1  # fewer pictures than a batch: it is kept all the same
    assert data.references("dev")[0] == [["a", "zebra", "runs"]]


@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_worker_processes_give_the_same(root: Path) -> None:
    alone, with_workers = make(root), make(root, num_workers=1)
    for one, other in ((alone.val_dataloader(), with_workers.val_dataloader()),):
        a, b = first(one), first(other)
        assert a.pixels is not None
        assert b.pixels is not None
        assert torch.equal(a.pixels, b.pixels)
        assert torch.equal(a.tokens, b.tokens)


@pytest.mark.parametrize(
    ("root", "name"),
    [("data/shapes", "shapes"), ("data/shapes/raw", "shapes"), ("data/..", "here"), (".", "here")],
)
def test_the_name_of_a_data_set_is_that_of_its_folder(
    root: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    (here / "data" / "shapes" / "raw").mkdir(parents=True)
    monkeypatch.chdir(here)
    assert CaptionDataModule(root).dataset_name == name


def test_the_name_of_a_table_is_that_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "holidays.csv").touch()
    (tmp_path / "coco" / "raw" / "annotations").mkdir(parents=True)
    official = tmp_path / "coco" / "raw" / "annotations" / "captions_train2017.json"
    official.touch()
    assert CaptionDataModule(str(tmp_path / "holidays.csv")).dataset_name == "holidays"
    assert CaptionDataModule(str(official)).dataset_name == "coco"


def test_pictures_that_cannot_be_used_are_left_out_and_listed(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (root / "Images" / "a.png").write_bytes(b"no picture")
    (root / "Images" / "b.png").unlink()
    with (root / "toy.token.txt").open("a") as lines:
        lines.write("d.png#0\tA dog .\n")
    (root / "toy.trainImages.txt").write_text("a.png\nb.png\nd.png\n")
    (root / "Images" / "d.png").write_bytes((root / "Images" / "c.png").read_bytes())  # c.png is in the dev split
    with pytest.raises(DatasetError, match=r"no picture of the split 'train' of .* can be used; see .*left-out\.csv"):
        make(root)
    listed = root.parent / "cache" / "left-out.csv"
    with listed.open(newline="") as table:
        rows = {Path(row["image"]).name: (row["split"], row["reason"]) for row in csv.DictReader(table)}
    assert rows["a.png"] == (
        "train",
        "The file holds no picture that is known here: use JPEG, PNG, WebP, GIF, BMP or TIFF.",
    )
    assert rows["b.png"] == ("train", "The file cannot be read: No such file or directory.")
    assert rows["d.png"] == ("train", f"The same picture is in another split, as {root / 'Images' / 'c.png'}.")
    assert capsys.readouterr().err == (
        f"3 pictures are left out, such as {root / 'Images' / 'a.png'}: {rows['a.png'][1].rstrip('.')} "
        f"(all of them: {listed})\n"
    )


def test_what_is_left_of_a_split_is_trained_on(root: Path, draw: Draw) -> None:
    (root / "Images" / "a.png").unlink()
    data = make(root)
    assert [record.image.name for record in data.records("train")] == ["b.png"]
    assert "left" not in data.vocabulary.words  # only a.png has it
    batch = first(data.train_dataloader())
    assert batch.pixels is not None
    assert torch.equal(batch.pixels[0], pixels_of(Geometry(size=24).apply(draw(60, 40, seed=1))))
    draw(60, 40, seed=0).save(root / "Images" / "a.png")
    assert len(make(root).records("train")) == 2
    assert not (root.parent / "cache" / "left-out.csv").exists()


def test_strict_leaves_nothing_out(root: Path) -> None:
    make(root, strict=True)
    (root / "Images" / "a.png").write_bytes(b"no picture")
    with pytest.raises(DatasetError, match=r"^1 picture is left out, such as .*a\.png: .* and data\.strict is true$"):
        make(root, strict=True)


def test_a_data_set_that_is_not_there_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no data set .*gone; check the path"):
        CaptionDataModule(str(tmp_path / "gone"))


def test_words_that_are_all_too_rare(root: Path) -> None:
    with pytest.raises(DatasetError, match=r"no word of .* occurs 9 times in training; lower data\.min_count"):
        make(root, min_count=9)


@pytest.mark.parametrize("setting", ["batch_size", "captions_per_image", "min_count", "max_words"])
def test_a_number_that_is_too_small_is_named(setting: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"data\.{setting} is 0"):
        CaptionDataModule("data", **{setting: 0})  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"data\.num_workers is -1; it must be 0 or more"):
        CaptionDataModule("data", num_workers=-1)
