"""Every kind of data set through its one door: what is read, how splits are made, what is refused."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from captioner.batch.style import TextStyle
from captioner.batch.writers.csv_table import write_csv
from captioner.batch.writers.jsonl import write_jsonl
from captioner.datasets.arranging import split_of_digest
from captioner.datasets.kinds import Kind, load_data_set, load_split
from captioner.datasets.records import DataSet
from captioner.datasets.shapes import ShapesOptions, write
from captioner.errors import DatasetError
from tests.batch.writers.samples import failure, pairs, row

SHARED = Path(__file__).parents[3] / "shared" / "data"


def pictures(folder: Path, *names: str) -> None:
    """Files that are called like pictures; nobody reads them here."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def said(data_set: DataSet) -> dict[str, dict[str, tuple[str, ...]]]:
    """The captions of each picture of each split."""
    return {
        split: {record.image.name: record.captions for record in records} for split, records in data_set.splits.items()
    }


def refused(path: Path, *words: str, kind: Kind = "auto") -> None:
    with pytest.raises(DatasetError) as caught:
        load_data_set(path, kind)
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


# --- Tables -----------------------------------------------------------------------------------------------------------

CSV = 'image,caption,split\na.jpg,A dog runs.,train\nb.jpg,"A cat, asleep.",val\na.jpg,A dog.,train\nc.jpg,Cows.,test\n'
EXPECTED = {
    "train": {"a.jpg": ("A dog runs.", "A dog.")},
    "dev": {"b.jpg": ("A cat, asleep.",)},
    "test": {"c.jpg": ("Cows.",)},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pictures(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    return tmp_path


@pytest.mark.parametrize(
    "content",
    [
        CSV.encode(),
        b"\xef\xbb\xbf" + CSV.replace("\n", "\r\n").encode(),
        CSV.replace(",", ";").replace("cat;", "cat,").encode(),
        CSV.replace(",", "\t").replace("cat\t", "cat,").encode(),
        CSV.replace("image,caption,split", '"Image",CAPTION , split').encode(),
        CSV.replace("a.jpg", "./a.jpg").encode(),
        CSV.replace("image,caption", '"image", "caption"').replace("jpg,", "jpg, ").encode(),
        b" \n , ,\n" + CSV.replace("\n", "\n  \n , , \n").encode(),
    ],
    ids=["plain", "as Excel saves it", "semicolons", "tabs", "capitals", "dotted", "spaced", "blank lines"],
)
def test_a_csv_table(folder: Path, content: bytes) -> None:
    (folder / "my.csv").write_bytes(content)
    assert said(load_data_set(folder / "my.csv")) == EXPECTED
    assert said(load_data_set(folder)) == EXPECTED  # the only table in its folder
    assert load_split(folder, "dev")[0].image == folder / "b.jpg"


def test_a_jsonl_table(folder: Path) -> None:
    lines = [line.split(",", 1) for line in CSV.splitlines()[1:]]
    rows = [
        {"image": image, "caption": rest.rpartition(",")[0].strip('"'), "split": rest.rpartition(",")[2]}
        for image, rest in lines
    ]
    (folder / "my.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert said(load_data_set(folder / "my.jsonl")) == EXPECTED
    (folder / "my.json").write_text(json.dumps(rows))
    assert said(load_data_set(folder / "my.json")) == EXPECTED


def test_what_captioner_caption_writes_can_be_learnt_from(tmp_path: Path) -> None:
    """Its rows with an error have no caption: their pictures are left out, with that reason."""
    rows = pairs(row("one.jpg", "a dog runs"), failure("two.jpg"), row("three.jpg", "a cat, and a dog"))
    pictures(tmp_path, "one.jpg", "two.jpg", "three.jpg")
    for name, writer in (("out.csv", write_csv), ("out.jsonl", write_jsonl)):
        writer(iter(rows), tmp_path / name, TextStyle())
        data_set = load_data_set(tmp_path / name)
        captions = {record.image.name: record.captions for records in data_set.splits.values() for record in records}
        assert captions == {"one.jpg": ("a dog runs",), "three.jpg": ("a cat, and a dog",)}
        assert [(each.image.name, each.reason) for each in data_set.left_out] == [("two.jpg", "It has no caption.")]
        assert not [note for note in data_set.notes if "not used" in note]


def test_what_the_contact_sheet_saves_is_found_from_where_the_job_ran(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page saves to the browser's folder; its pictures are named as the job named them."""
    pictures(tmp_path, "photos/a.jpg", "photos/b.jpg")
    (tmp_path / "Downloads").mkdir()
    (tmp_path / "Downloads" / "captions.csv").write_bytes(
        b'image,caption\r\nphotos/a.jpg,A dog.\r\nphotos/b.jpg,"\'=1, it says"\r\n'
    )
    monkeypatch.chdir(tmp_path)
    splits = load_data_set(Path("Downloads/captions.csv")).splits
    found = {str(record.image): record.captions for records in splits.values() for record in records}
    assert found == {"photos/a.jpg": ("A dog.",), "photos/b.jpg": ("'=1, it says",)}


@pytest.mark.parametrize("place", ["", "images/", "Images/"])
def test_pictures_may_lie_in_a_folder_beside_the_table(tmp_path: Path, place: str) -> None:
    pictures(tmp_path, f"{place}x/a.jpg", f"{place}x/b.jpg")
    (tmp_path / "t.csv").write_text("image,caption,split\nx/a.jpg,A dog,train\nx/b.jpg,A cat,dev\n")
    assert load_split(tmp_path / "t.csv", "train")[0].image == tmp_path / place / "x" / "a.jpg"


def test_names_may_be_spelled_in_another_form_than_on_the_disk(tmp_path: Path) -> None:
    pictures(tmp_path, unicodedata.normalize("NFD", "café.jpg"), unicodedata.normalize("NFC", "Größe.jpg"), "x/a.jpg")
    names = [unicodedata.normalize("NFC", "café.jpg"), unicodedata.normalize("NFD", "Größe.jpg"), r"x\a.jpg"]
    (tmp_path / "t.csv").write_text("image,caption\n" + "".join(f"{name},A dog\n" for name in names), encoding="utf-8")
    records = [record for split in load_data_set(tmp_path / "t.csv").splits.values() for record in split]
    assert len(records) == 3
    assert all(record.image.is_file() for record in records)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ["must begin with a line that names the columns image and caption, but it is empty"]),
        (b'"image,caption"\na.jpg,A dog\n', ["names the columns image and caption, found '\"image,caption\"'"]),
        (b"file,text\na.jpg,A dog\n", ["names the columns image and caption, found 'file,text'"]),
        (b"image,caption\n", ["has no rows"]),
        (b"image,caption\na.jpg,A caf\xe9\n", ["is not UTF-8 at byte 25; convert it to UTF-8"]),
        ("image,caption\na.jpg,A dog\n".encode("utf-16"), ["is UTF-16; convert it to UTF-8"]),
        (b"image,caption\na.jpg,A dog, asleep\n", ["line 2: found 3 fields", "in double quotes"]),
        (b'image,caption\na.jpg,"A dog\n', ["is not CSV", "check its quotes"]),
        (b"image,caption\n ,A dog\n", ["line 2: a caption without a picture, 'A dog'"]),
        (b"image,caption,split\na.jpg,A dog,tain\n", ["line 2: 'tain' is no split; write train, dev (or val) or test"]),
        (
            b"image,caption,split\na.jpg,A dog,train\na.jpg,Dogs,dev\n",
            ["line 3: a.jpg is listed in train and again in dev"],
        ),
        (b"image,caption,split\na.jpg,A dog,train\nb.jpg,Cats,\n", ["a split for 1 pictures and none for 1 (b.jpg)"]),
        (b"image,caption\na.jpg,!!!\nb.jpg, . \n", ["has no picture with a caption that has a word in it"]),
        (b"image,caption\nx.jpg,A dog\n", ["no picture of", "is there: x.jpg was looked for in", "put the pictures"]),
    ],
)
def test_tables_that_cannot_be_used(folder: Path, content: bytes, words: list[str]) -> None:
    (folder / "my.csv").write_bytes(content)
    refused(folder / "my.csv", str(folder / "my.csv"), *words)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"picture": "a.jpg"}], ["entry 1 has no 'caption'"]),
        ([{"caption": "A dog"}], ["entry 1 has no 'image'"]),
        ([{"image": "a.jpg", "caption": 7}], ["'caption' must be text, found 7"]),
        ([7], ["entry 1: expected an object, found 7"]),
        ({"dataset": "x"}, ["is no table: expected rows like"]),
        (
            {"images": [{"sentences": 7, "filename": "a.jpg", "split": "train"}]},
            ["'sentences' must be a list, found 7"],
        ),
        ({"images": [{"sentences": [], "filename": "a.jpg", "split": "x"}]}, ["entry 1: 'x' is no split"]),
        ({"images": [], "annotations": []}, ["is not COCO's captions JSON"]),
        ({"images": [{"id": 1}], "annotations": []}, ["'images', entry 1 has no 'file_name'"]),
        (
            {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"image_id": 2, "caption": "A dog"}]},
            ["entry 1 is of image 2, which 'images' lacks"],
        ),
        (
            {"images": [{"id": 1, "file_name": "a.jpg"}] * 2, "annotations": []},
            ["entry 2: the id 1 is taken already"],
        ),
    ],
)
def test_json_that_cannot_be_used(folder: Path, rows: object, words: list[str]) -> None:
    (folder / "my.json").write_text(json.dumps(rows))
    refused(folder / "my.json", str(folder / "my.json"), *words)


def test_columns_that_are_not_used_are_told(folder: Path) -> None:
    (folder / "my.csv").write_text(CSV.replace("split", "part"))
    notes = load_data_set(folder / "my.csv").notes
    assert notes[0] == f"{folder / 'my.csv'}: not used: part; the columns that are used are image, caption, split"


def test_images_without_captions_are_left_out(folder: Path) -> None:
    (folder / "my.csv").write_text(
        "image,caption,split\na.jpg,A dog,train\nb.jpg,...,train\nc.jpg,,dev\na.jpg,?!,train\n"
    )
    data_set = load_data_set(folder / "my.csv")
    assert said(data_set) == {"train": {"a.jpg": ("A dog",)}}
    assert [(each.image.name, each.split, each.reason) for each in data_set.left_out] == [
        ("b.jpg", "train", "None of its captions has a word."),
        ("c.jpg", "dev", "It has no caption."),
    ]


# --- Splits by digest -------------------------------------------------------------------------------------------------


def test_splits_that_nobody_names_are_made_by_digest_and_told(tmp_path: Path) -> None:
    names = [f"{number}.jpg" for number in range(200)]
    pictures(tmp_path, *names)
    (tmp_path / "t.csv").write_text("image,caption\n" + "".join(f"{name},A dog\n" for name in names))
    data_set = load_data_set(tmp_path / "t.csv")
    sizes = {split: len(records) for split, records in data_set.splits.items()}
    (note,) = data_set.notes
    assert note == (
        f"{tmp_path / 't.csv'} names no splits, so the digests of the pictures' names have made them: "
        f"{sizes['train']} train, {sizes['dev']} dev, {sizes['test']} test (docs/training.md)"
    )
    # the rule, written a second time: the first 8 bytes of the digest as a share of the whole
    shares = {name: int(hashlib.sha256(name.encode()).hexdigest()[:16], 16) / 16**16 for name in names}
    assert {record.image.name for record in data_set.splits["dev"]} == {
        name for name, share in shares.items() if 0.8 <= share < 0.9
    }
    assert 140 <= sizes["train"] <= 180
    assert sum(sizes.values()) == 200


@given(
    some.text(some.characters(exclude_characters="/\\"), min_size=1), some.sampled_from(["", "a/", "/x/y/", "c:\\d\\"])
)
def test_an_image_stays_in_its_split_wherever_it_lies(name: str, folder: str) -> None:
    assert (
        split_of_digest(folder + name) == split_of_digest(name) == split_of_digest(unicodedata.normalize("NFD", name))
    )


@pytest.mark.parametrize("count", [2, 3, 4])
def test_a_few_pictures_still_have_something_to_learn_and_to_validate(tmp_path: Path, count: int) -> None:
    names = [f"{number}.jpg" for number in range(count)]
    pictures(tmp_path, *names)
    (tmp_path / "t.csv").write_text("image,caption\n" + "".join(f"{name},A dog\n" for name in names))
    splits = load_data_set(tmp_path / "t.csv").splits
    assert splits["train"]
    assert splits["dev"]
    assert sum(map(len, splits.values())) == count


# --- Sidecars ---------------------------------------------------------------------------------------------------------


def test_sidecars(tmp_path: Path) -> None:
    pictures(tmp_path, "a.jpg", "sub/b.PNG", "sub/c.jpg", "sub/c.png", "lonely.jpg", ".hidden/d.jpg", "notes.txt")
    (tmp_path / "a.txt").write_text("A dog runs.\n\nA dog.\n[machine-made by default@0123456789ab]\n")
    (tmp_path / "sub" / "b.caption").write_text("A cat.", encoding="utf-8-sig")
    (tmp_path / "sub" / "c.jpg.txt").write_text("Cows\r\n")
    (tmp_path / "sub" / "c.txt").write_text("of which of the two?")
    (tmp_path / ".hidden" / "d.txt").write_text("A secret.")
    data_set = load_data_set(tmp_path)
    captions = {record.image: record.captions for records in data_set.splits.values() for record in records}
    assert captions == {
        tmp_path / "a.jpg": ("A dog runs.", "A dog."),
        tmp_path / "sub" / "b.PNG": ("A cat.",),
        tmp_path / "sub" / "c.jpg": ("Cows",),
    }
    assert [each.image.name for each in data_set.left_out] == ["lonely.jpg", "c.png"]


def test_folders_that_are_called_as_splits_are_splits(tmp_path: Path) -> None:
    for place in ("train/x", "val", "test"):
        pictures(tmp_path, f"{place}/a.jpg")
        (tmp_path / place / "a.txt").write_text(f"A picture of {place}.")
    assert said(load_data_set(tmp_path)) == {
        "train": {"a.jpg": ("A picture of train/x.",)},
        "dev": {"a.jpg": ("A picture of val.",)},
        "test": {"a.jpg": ("A picture of test.",)},
    }
    pictures(tmp_path, "b.jpg")
    assert load_data_set(tmp_path).notes  # not all pictures are in one: digests make them


def test_sidecars_that_cannot_be_used(tmp_path: Path) -> None:
    pictures(tmp_path, "a.jpg", "b.jpg")
    refused(tmp_path, "does not hold a data set: expected COCO's")
    (tmp_path / "a.txt").write_bytes(b"A caf\xe9")
    refused(tmp_path, "a.txt is not UTF-8 at byte 5")
    (tmp_path / "a.caption").write_text("A dog")
    refused(tmp_path, "a.jpg has two sidecars, a.txt and a.caption; keep one")


# --- Which kind it is -------------------------------------------------------------------------------------------------


def test_a_folder_of_two_data_sets_is_asked_about(folder: Path) -> None:
    (folder / "my.csv").write_text(CSV)
    (folder / "a.txt").write_text("A sidecar.")
    refused(folder, "holds more than one data set, my.csv (table)", "(sidecars): name the file, or say the kind")
    assert said(load_data_set(folder, "table")) == EXPECTED
    assert len(load_data_set(folder, "sidecars").left_out) == 2
    (folder / "other.jsonl").touch()
    refused(folder, "my.csv (table), other.jsonl (table)", kind="table")


def test_a_kind_that_is_said_must_be_there(folder: Path) -> None:
    (folder / "my.csv").write_text(CSV)
    refused(folder, "does not hold a data set of the kind 'flickr'", kind="flickr")
    refused(folder / "my.csv", "is a file, but a data set of the kind 'sidecars' is a folder", kind="sidecars")
    refused(folder / "gone", "there is no data set", "check the path")


def test_flickr_by_its_folder_and_by_its_file(tmp_path: Path) -> None:
    write(tmp_path / "shapes", ShapesOptions(train=8, dev=4, test=4))
    by_folder, by_file = load_data_set(tmp_path / "shapes"), load_data_set(tmp_path / "shapes" / "shapes.token.txt")
    assert by_folder == by_file
    assert set(by_folder.splits) == {"train", "dev", "test"}


def test_flickr30k_which_has_no_lists(tmp_path: Path) -> None:
    lines = [f"{number}.jpg#{place}\tA dog {place} .\n" for number in range(50) for place in range(5)]
    (tmp_path / "results_20130124.token").write_text("".join(lines))
    (tmp_path / "flickr30k-images").mkdir()
    splits = load_data_set(tmp_path).splits
    assert sum(map(len, splits.values())) == 50
    assert len(splits["train"][0].captions) == 5


def test_flickr8k_with_its_file_of_lemmas(tmp_path: Path) -> None:
    write(tmp_path / "shapes", ShapesOptions(train=8, dev=4, test=4))
    (tmp_path / "shapes" / "Flickr8k.lemma.token.txt").write_text("train_00000.png#0\ta dog run\n")
    assert len(load_data_set(tmp_path / "shapes").splits) == 3


def karpathy(*images: tuple[str, str, str]) -> dict[str, Any]:
    return {
        "images": [
            {"filepath": folder, "filename": name, "split": split, "sentences": [{"raw": f"A {name}."}, {"raw": "B."}]}
            for folder, name, split in images
        ],
        "dataset": "coco",
    }


def test_karpathys_splits_of_coco(tmp_path: Path) -> None:
    pictures(tmp_path, "train2014/a.jpg", "val2014/b.jpg", "val2014/c.jpg", "val2014/d.jpg")
    images = karpathy(
        ("train2014", "a.jpg", "train"), ("val2014", "b.jpg", "val"), ("val2014", "c.jpg", "restval"),
        ("val2014", "d.jpg", "test"),
    )  # fmt: skip
    (tmp_path / "dataset_coco.json").write_text(json.dumps(images))
    for path in (tmp_path, tmp_path / "dataset_coco.json"):
        assert said(load_data_set(path)) == {
            "train": {"a.jpg": ("A a.jpg.", "B."), "c.jpg": ("A c.jpg.", "B.")},
            "dev": {"b.jpg": ("A b.jpg.", "B.")},
            "test": {"d.jpg": ("A d.jpg.", "B.")},
        }


@pytest.mark.parametrize("place", ["Flicker8k_Dataset", "flickr30k-images", "Images", "."])
def test_karpathys_splits_of_flickr(tmp_path: Path, place: str) -> None:
    pictures(tmp_path, f"{place}/a.jpg", f"{place}/b.jpg")
    content = karpathy(("", "a.jpg", "train"), ("", "b.jpg", "val"))
    for image in content["images"]:
        del image["filepath"]
    (tmp_path / "dataset_flickr8k.json").write_text(json.dumps(content))
    assert load_split(tmp_path, "dev")[0].image == tmp_path / place / "b.jpg"


def test_a_picture_in_two_splits_is_refused(tmp_path: Path) -> None:
    pictures(tmp_path, "val2014/b.jpg")
    images = karpathy(("val2014", "b.jpg", "val"), ("val2014", "b.jpg", "test"))
    (tmp_path / "dataset_coco.json").write_text(json.dumps(images))
    refused(tmp_path, "b.jpg is listed in dev and again in test: splits must not overlap")


@pytest.mark.parametrize("make", [lambda path: path, lambda path: path / "annotations" / "captions_train2017.json"])
@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data, which only the project's machines have")
def test_the_sample_of_coco(make: Callable[[Path], Path]) -> None:
    data_set = load_data_set(make(SHARED / "coco-sample"))
    records = [record for split in data_set.splits.values() for record in split]
    assert len(records) == 80
    assert all(len(record.captions) == 5 and record.image.is_file() for record in records)
    assert "names no splits" in data_set.notes[0]  # there is no captions_val2017.json beside it
