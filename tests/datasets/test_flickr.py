"""The Flickr layout: what is read, and that contradictions are one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from captioner.datasets.flickr import load_flickr
from captioner.datasets.kinds import load_split
from captioner.datasets.records import Record
from captioner.errors import DatasetError

SHARED = Path(__file__).parents[3] / "shared" / "data" / "flickr8k"


def make(root: Path, *, images: str = "Images", official: bool = False) -> Path:
    """Three photos with two captions each, in two splits; the pictures themselves are not looked at."""
    (root / images).mkdir(parents=True)
    lines = [f"{name}.jpg#{number}\tThe {name} , caption {number} .\n" for name in "abc" for number in range(2)]
    (root / "toy.token.txt").write_text("".join(lines))
    prefix = "Flickr_8k." if official else "toy."
    (root / f"{prefix}trainImages.txt").write_text("b.jpg\na.jpg\n")
    (root / f"{prefix}devImages.txt").write_text("c.jpg\n")
    return root


@pytest.mark.parametrize("images", ["Images", "Flicker8k_Dataset", "flickr30k-images"])
@pytest.mark.parametrize("official", [True, False])
def test_records_in_the_order_of_the_list(tmp_path: Path, images: str, official: bool) -> None:
    root = make(tmp_path / "data", images=images, official=official)
    splits = load_flickr(root).splits
    assert list(splits) == ["train", "dev"]
    assert [record.image for record in splits["train"]] == [root / images / "b.jpg", root / images / "a.jpg"]
    assert splits["dev"] == [Record(root / images / "c.jpg", ("The c , caption 0 .", "The c , caption 1 ."))]
    assert load_split(root, "dev") == splits["dev"]


def test_a_caption_keeps_its_unusual_characters(tmp_path: Path) -> None:
    root = make(tmp_path)
    captions = ["A sign says \u201cstop\u2028here\u201d", "tab\tinside", "form\x0cfeed", "#1 dog # 2", "caf\u00e9\x85"]
    lines = [f"a#b.jpg#{number}\t{caption}\r\n" for number, caption in enumerate(captions)]
    (root / "toy.token.txt").write_bytes("".join(lines).encode())
    (root / "toy.trainImages.txt").write_text("a#b.jpg")
    (root / "toy.devImages.txt").unlink()
    (record,) = load_split(root, "train")
    assert record.captions == tuple(caption.strip() for caption in captions)


def test_a_byte_order_mark_and_empty_lines_do_no_harm(tmp_path: Path) -> None:
    root = make(tmp_path)
    (root / "toy.token.txt").write_bytes(b"\xef\xbb\xbf\n" + (root / "toy.token.txt").read_bytes() + b"\n\n")
    (root / "toy.trainImages.txt").write_bytes(b"\xef\xbb\xbfb.jpg\r\n\r\n a.jpg \r\n")
    assert [record.image.name for record in load_split(root, "train")] == ["b.jpg", "a.jpg"]


def test_a_photo_with_captions_may_be_in_no_split(tmp_path: Path) -> None:
    root = make(tmp_path)
    (root / "toy.trainImages.txt").write_text("a.jpg\n")
    splits = load_flickr(root).splits
    assert {split: [record.image.name for record in records] for split, records in splits.items()} == {
        "train": ["a.jpg"],
        "dev": ["c.jpg"],
    }


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("toy.token.txt", "a.jpg#0 no tab\n", "line 1: expected"),
        ("toy.token.txt", "a.jpg#0\tfine\n\na.jpg\tno number\n", "line 3: expected"),
        ("toy.token.txt", "a.jpg#0\t  \n", "line 1: expected"),
        ("toy.token.txt", b"a.jpg#0\tcaf\xe9\n", r"toy\.token\.txt is not UTF-8 at byte 11"),
        ("toy.trainImages.txt", "a.jpg\nz.jpg\n", r"lists z\.jpg, which has no caption"),
        ("toy.trainImages.txt", "a.jpg\nc.jpg\n", r"c\.jpg is listed in train and again in dev"),
        ("toy.trainImages.txt", "a.jpg\na.jpg\n", r"a\.jpg is listed in train and again in train"),
        ("toy.trainImages.txt", "\n\n", r"toy\.trainImages\.txt is empty"),
        ("other.trainImages.txt", "a.jpg\n", "two lists of the split 'train'"),
        ("other.token.txt", "", r"one caption file .*found other\.token\.txt, toy\.token\.txt"),
    ],
)
def test_files_that_contradict_each_other(tmp_path: Path, file: str, content: str | bytes, words: str) -> None:
    root = make(tmp_path)
    (root / file).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DatasetError, match=words) as caught:
        load_flickr(root)
    assert "\n" not in str(caught.value)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"no data set .*gone; check the path"):
        load_split(tmp_path / "gone", "train")
    root = make(tmp_path / "data")
    with pytest.raises(DatasetError, match=r"has no split 'test'; it has train, dev"):
        load_split(root, "test")
    (root / "Images").rmdir()
    with pytest.raises(DatasetError, match="no folder of pictures; expected one of Images"):
        load_flickr(root)
    (root / "Images").mkdir()
    (root / "toy.token.txt").unlink()
    with pytest.raises(DatasetError, match=r"one caption file named \*\.token\.txt or \*\.token, found none"):
        load_flickr(root)


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data, which only the project's machines have")
def test_flickr8k_itself() -> None:
    splits = load_flickr(SHARED).splits
    assert {split: len(records) for split, records in splits.items()} == {"train": 6000, "dev": 1000}
    assert all(len(record.captions) == 5 for records in splits.values() for record in records)
    assert all(record.image.is_file() for record in splits["dev"][::50])
