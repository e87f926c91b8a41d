"""The data module: captions as ids, batches with padding, and pictures that may be varied."""

from __future__ import annotations

import csv
import pickle
from pathlib import Path

import pytest
import torch

from captioner.errors import ConfigurationError, DatasetError
from captioner.geometry import Geometry
from captioner.preprocessing import Augmentation, Preprocessing, pixels_of
from captioner.text.vocabulary import Vocabulary
from captioner.training.batch import Batch
from captioner.training.data import CaptionDataModule
from tests.conftest import Draw

CAPTIONS = {
    "a.png": ["A dog runs .", "The dog sits on the left !"],
    "b.png": ["A cat .", "A cat sits .", "Two cats and a dog"],
    "c.png": ["A zebra runs ."],
}


@pytest.fixture
def root(tmp_path: Path, draw: Draw) -> Path:
    root = tmp_path / "toy"
    (root / "Images").mkdir(parents=True)
    lines = []
    for seed, (name, captions) in enumerate(CAPTIONS.items()):
        draw(60, 40, seed=seed).save(root / "Images" / name)
        lines += [f"{name}#{number}\t{caption}\n" for number, caption in enumerate(captions)]
    (root / "toy.token.txt").write_text("".join(lines))
    (root / "toy.trainImages.txt").write_text("a.png\nb.png\n")
    (root / "toy.devImages.txt").write_text("c.png\n")
    return root


def make(
    root: Path, *, captions_per_image: int = 5, max_words: int = 20, num_workers: int = 0, min_count: int = 1,
    augmentation: Augmentation = Augmentation(), strict: bool = False,
) -> CaptionDataModule:  # fmt: skip
    data = CaptionDataModule(
        str(root),
        Preprocessing(geometry=Geometry(size=24)),
        augmentation,
        batch_size=2,
        captions_per_image=captions_per_image,
        min_count=min_count,
        max_words=max_words,
        num_workers=num_workers,
        cache=str(root.parent / "cache"),
        strict=strict,
    )
    data.setup()
    return data


def first(loader: object) -> Batch:
    assert isinstance(loader, torch.utils.data.DataLoader)
    batch = next(iter(loader))
    assert isinstance(batch, Batch)
    return batch


def by_picture(batch: Batch) -> dict[int, list[list[int]]]:
    """The rows of each picture without padding; a row of padding only is no caption."""
    rows = {int(index): tokens.tolist() for index, tokens in zip(batch.indices, batch.tokens, strict=True)}
    return {
        index: [[token for token in row if token != Vocabulary.pad] for row in found if any(row)]
        for index, found in rows.items()
    }


def test_the_vocabulary_is_that_of_training(root: Path) -> None:
    data = make(root)
    assert data.vocabulary.ordinary[:3] == ("a", "dog", "cat")
    assert "zebra" not in data.vocabulary.words
    assert make(root, min_count=2).vocabulary.ordinary == ("a", "dog", "cat", "sits", "the")


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


def test_pixels_are_the_pictures_of_the_indices(root: Path, draw: Draw) -> None:
    data = make(root)
    batch = first(data.train_dataloader())
    assert batch.pixels is not None
    for index, pixels in zip(batch.indices.tolist(), batch.pixels, strict=True):
        assert torch.equal(pixels, pixels_of(Geometry(size=24).apply(draw(60, 40, seed=index))))


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


def test_training_is_shuffled_and_validation_is_in_order(root: Path) -> None:
    (root / "toy.devImages.txt").unlink()
    (root / "toy.trainImages.txt").write_text("a.png\n")
    (root / "toy.devImages.txt").write_text("c.png\nb.png\n")
    data = make(root)
    assert [image.name for image in data.images("dev")] == ["c.png", "b.png"]
    assert first(data.val_dataloader()).indices.tolist() == [0, 1]
    assert len(data.train_dataloader()) == 1  # fewer pictures than a batch: it is kept all the same
    assert data.references("dev")[0] == [["a", "zebra", "runs"]]


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


@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_worker_processes_give_the_same(root: Path) -> None:
    alone, with_workers = make(root), make(root, num_workers=1)
    for one, other in ((alone.val_dataloader(), with_workers.val_dataloader()),):
        a, b = first(one), first(other)
        assert a.pixels is not None
        assert b.pixels is not None
        assert torch.equal(a.pixels, b.pixels)
        assert torch.equal(a.tokens, b.tokens)


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


def test_a_batch_moves_as_a_whole(root: Path) -> None:
    batch = first(make(root).val_dataloader())
    moved = batch.to(torch.device("meta"))
    assert moved.pixels is not None
    assert {moved.pixels.device.type, moved.tokens.device.type, moved.indices.device.type} == {"meta"}
    assert moved.features is None
