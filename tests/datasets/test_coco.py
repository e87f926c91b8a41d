"""Captions in COCO's layouts and in ours: what is read, how files are paired, and that mistakes are one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as some

from captioner.datasets.coco import References, match, read_captions, read_references, read_results
from captioner.errors import DatasetError

SHARED = Path(__file__).parents[3] / "shared" / "data"
needs_shared = pytest.mark.skipif(
    not SHARED.is_dir(), reason="needs ../shared/data, which only the project's machines have"
)

COCO: dict[str, Any] = {
    "info": {"year": 2017},
    "images": [{"id": 7, "file_name": "b.jpg", "height": 5}, {"id": "x", "file_name": "a.jpg"}, {"id": 3}],
    "annotations": [
        {"id": 1, "image_id": "x", "caption": "A dog. "},
        {"id": 2, "image_id": 7, "caption": "Two cats."},
        {"id": 3, "image_id": "7", "caption": "Caf\u00e9 cats\u2028."},
        {"id": 4, "image_id": 3, "caption": "A horse."},
    ],
}
RESULTS = [{"image_id": 3, "caption": "horse"}, {"image_id": "7", "caption": ""}, {"image_id": "x", "caption": "dog"}]


def write(folder: Path, content: object, name: str = "file.json") -> Path:
    """Bytes and text as they are, anything else as JSON."""
    file = folder / name
    if not isinstance(content, bytes):
        content = (content if isinstance(content, str) else json.dumps(content)).encode()
    file.write_bytes(content)
    return file


def lines(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def refused(read: Callable[[], object], *words: str) -> None:
    """`read` raises a DatasetError of one line in which all the words are."""
    with pytest.raises(DatasetError) as caught:
        read()
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


# --- References -------------------------------------------------------------------------------------------------------


def test_references_in_the_order_of_the_images(tmp_path: Path) -> None:
    found = read_references(write(tmp_path, COCO))
    assert list(found) == ["7", "x", "3"]
    assert found["7"] == References(("Two cats.", "Caf\u00e9 cats\u2028."), "b.jpg")
    assert found["x"] == References(("A dog.",), "a.jpg")
    assert found["3"] == References(("A horse.",), None)


def test_a_byte_order_mark_and_indentation_do_no_harm(tmp_path: Path) -> None:
    file = write(tmp_path, b"\xef\xbb\xbf" + json.dumps(COCO, indent=1).replace("\n", "\r\n").encode())
    assert len(read_references(file)) == 3


def changed(**changes: Any) -> dict[str, Any]:
    return {**COCO, **changes}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", ["is empty"]),
        (" \n", ["is empty"]),
        ("{", ["is not JSON (", "line 1 column 2"]),
        ("A dog", ["is not JSON"]),
        ("[" * 100_000, ["is not JSON (it is nested too deeply)"]),
        (b"\xff\xd8\xff\xe0", ["is not UTF-8 at byte 0; convert it"]),
        (
            RESULTS,
            ["expected an object with the lists 'images' and 'annotations'", "a list that begins with", "'image_id'"],
        ),
        (
            {"images": [], "dataset": "coco"},
            ["is not COCO's captions JSON", "found an object with 'images', 'dataset'"],
        ),
        ({"images": {}, "annotations": []}, ["is not COCO's captions JSON"]),
        ("7", ["found 7"]),
        (changed(images=[]), ["lists no images"]),
        (changed(images=[7]), ["'images', entry 1: expected an object, found 7"]),
        (changed(images=[{"file_name": "a.jpg"}]), ["entry 1 has no 'id': found an object with 'file_name'"]),
        (changed(images=[{"id": 1.5}]), ["entry 1: 'id' must be a whole number or text, found 1.5"]),
        (changed(images=[{"id": True}]), ["found true"]),
        (changed(images=[{"id": 1}, {"id": "1"}]), ["entry 2: the id 1 is taken already"]),
        (changed(images=[{"id": 1, "file_name": None}]), ["'file_name' must be text, found null"]),
        (changed(images=[*COCO["images"], {"id": 9, "file_name": "z.jpg"}]), ["image 9 (z.jpg) has no caption"]),
        (changed(images=COCO["images"][:2]), ["entry 4 is of image 3, which 'images' lacks"]),
        (changed(annotations=[{"image_id": 7}]), ["'annotations', entry 1 has no 'caption'"]),
        (changed(annotations=[{"image_id": 7, "caption": ["a"]}]), ["'caption' must be text, found a list"]),
        (changed(annotations=[{"image_id": 7, "caption": " "}]), ["entry 1: image 7 (b.jpg) has an empty caption"]),
    ],
)
def test_references_that_cannot_be_used(tmp_path: Path, content: object, words: list[str]) -> None:
    file = write(tmp_path, content)
    refused(lambda: read_references(file), str(file), *words)


@pytest.mark.parametrize("read", [read_references, read_results, read_captions])
def test_a_file_that_is_not_there(tmp_path: Path, read: Callable[[Path], object]) -> None:
    refused(lambda: read(tmp_path / "gone.json"), "gone.json cannot be read: No such file or directory; check the path")
    refused(lambda: read(tmp_path), "cannot be read: Is a directory")


# --- Results ----------------------------------------------------------------------------------------------------------


def test_results_in_their_order_with_ids_as_text(tmp_path: Path) -> None:
    found = read_results(write(tmp_path, RESULTS))
    assert list(found.items()) == [("3", "horse"), ("7", ""), ("x", "dog")]


@pytest.mark.parametrize("number", [1, 2])
def test_our_own_rows_are_named_by_their_pictures(tmp_path: Path, number: int) -> None:
    rows = [
        {"image": "/photos/b.jpg", "caption": "cats", "score": -1.5, "alternatives": []},
        {"image": "C:\\photos\\a.jpg", "caption": "dog"},
    ]
    found = read_results(write(tmp_path, lines(*rows[:number]) + "\n", "rows.jsonl"))
    assert found == dict([("b.jpg", "cats"), ("a.jpg", "dog")][:number])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", ["is empty"]),
        (COCO, ["holds no results", "found an object with 'info', 'images', 'annotations'"]),
        ([], ["holds no results; give"]),
        ({"7": "cats"}, ["expected a list of objects with 'image_id' and 'caption'", "'7'"]),
        ([{"caption": "cats"}], ["entry 1 names no image", "found an object with 'caption'"]),
        ([*RESULTS, "dog"], ['entry 4: expected an object, found "dog"']),
        ([{"image_id": 7}], ["entry 1 has no 'caption'"]),
        ([{"image_id": None, "caption": "dog"}], ["must be a whole number or text, found null"]),
        ([{"image_id": 7, "caption": None}], ["'caption' must be text, found null"]),
        ([*RESULTS, {"image_id": "3", "caption": "dog"}], ["entry 4: image 3 has a caption already"]),
        (lines({"image": "a.jpg", "caption": "dog"}) + "{oops}\n", [", line 2, is not JSON"]),
        (
            lines(*({"image": f"x/{name}.jpg", "error": {"type": "t", "detail": "d"}} for name in "abcd")),
            ["pictures that could not be captioned (a.jpg, b.jpg, c.jpg, ...)", "caption these again"],
        ),
    ],
)
def test_results_that_cannot_be_used(tmp_path: Path, content: object, words: list[str]) -> None:
    file = write(tmp_path, content)
    refused(lambda: read_results(file), str(file), *words)


# --- Pairs ------------------------------------------------------------------------------------------------------------

REFERENCES = {
    "7": References(("Two cats.", "Cats."), "train/b.jpg"),
    "x": References(("A dog.", "Dog."), "a.jpg"),
    "3": References(("A horse.", "Horse."), None),
}


def test_results_are_paired_by_id_or_by_file_name_in_the_order_of_the_references() -> None:
    pairs = match({"3": "horse", "other/a.jpg": "dog", "b.jpg": ""}, REFERENCES)
    assert pairs.image_ids == ("7", "x", "3")
    assert pairs.names == ("train/b.jpg", "a.jpg", "3")
    assert pairs.captions == ("", "dog", "horse")
    assert pairs.references == (("Two cats.", "Cats."), ("A dog.", "Dog."), ("A horse.", "Horse."))
    assert pairs.warnings() == []


def test_an_id_goes_before_a_file_name() -> None:
    references = {"1.jpg": References(("one",), "2.jpg"), "2.jpg": References(("two",), "1.jpg")}
    assert match({"2.jpg": "b", "1.jpg": "a"}, references).captions == ("a", "b")


def test_other_images_are_counted_on_each_side_and_three_are_named() -> None:
    results = {"7": "cats", **{f"stranger{number}": "" for number in range(4)}}
    refused(
        lambda: match(results, REFERENCES),
        "2 of 3 images without a result (x (a.jpg), 3)",
        " and 4 of 5 results without references (stranger0, stranger1, stranger2, ...)",
        "complete the results",
    )
    refused(lambda: match({"7": "", "x": ""}, REFERENCES), "1 of 3 images without a result (3)")
    refused(
        lambda: match({"7": "", "x": "", "3": "", "z": ""}, REFERENCES),
        "1 of 4 results without references (z)",
    )


def test_two_results_of_one_image_and_two_images_of_one_name_are_refused() -> None:
    refused(lambda: match({"7": "cats", "b.jpg": "cats"}, REFERENCES), "The results 7 and b.jpg are of one image, 7")
    twins = {"1": References(("one",), "x/a.jpg"), "2": References(("two",), "y/a.jpg")}
    refused(lambda: match({"a.jpg": "one", "2": "two"}, twins), "a.jpg fits the images 1, 2")
    assert match({"1": "one", "2": "two"}, twins).captions == ("one", "two")


def test_few_references_and_a_single_image_are_told() -> None:
    single = {"1": References(("one",), None), "2": References(("two",), None)}
    (told,) = match({"1": "", "2": ""}, single).warnings()
    assert told.startswith("One reference only for every image: BLEU and ROUGE-L come out far lower than with five")
    (told,) = match({"1": "", "2": ""}, {**single, "2": References(("two", "zwei"), None)}).warnings()
    assert told.startswith("One reference only for 1 of 2 images")
    (told,) = match({"7": ""}, {"7": REFERENCES["7"]}).warnings()
    assert told.startswith("There is one image only: CIDEr-D is 0")


@given(captions=some.dictionaries(some.integers(0, 99), some.text(max_size=9), min_size=1), dice=some.randoms())
def test_pairs_do_not_depend_on_the_order_of_results_nor_on_how_images_are_named(
    captions: dict[int, str], dice: Any
) -> None:
    references = {str(number): References(("one", "two"), f"{number}.jpg") for number in captions}
    by_id = {str(number): caption for number, caption in captions.items()}
    shuffled = list(captions.items())
    dice.shuffle(shuffled)
    by_name = {f"folder/{number}.jpg": caption for number, caption in shuffled}
    assert match(by_id, references) == match(by_name, references)
    assert match(by_id, references).captions == tuple(captions.values())


# --- Captions to judge ------------------------------------------------------------------------------------------------

EXPECTED = {"b.jpg": ("Two cats, asleep.", "Cats."), "a.jpg": ('A "good" dog.',)}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("coco.json", {
            "images": [{"id": 1, "file_name": "b.jpg"}, {"id": 2, "file_name": "a.jpg"}],
            "annotations": [
                {"image_id": 1, "caption": "Two cats, asleep."},
                {"image_id": 2, "caption": 'A "good" dog.'},
                {"image_id": 1, "caption": "Cats."},
            ],
        }),
        ("x.token.txt", 'b.jpg#0\tTwo cats, asleep.\nb.jpg#1\tCats.\na.jpg#0\tA "good" dog.\n'),
        ("x.csv", 'image,caption\r\nb.jpg,"Two cats, asleep."\r\nb.jpg,Cats.\r\n\r\na.jpg,"A ""good"" dog."\r\n'),
        ("y.csv", '\ufeff"Caption",id, Image\n"Two cats, asleep.",1,b.jpg\nCats.,2,b.jpg\n"A ""good"" dog.",,a.jpg\n'),
        ("rows.jsonl", lines(
            {"image": "b.jpg", "caption": "Two cats, asleep."},
            {"image": "c.jpg", "error": {"type": "UnreadableImage", "detail": "no picture"}},
            {"image": "b.jpg", "caption": "Cats."},
            {"image": "a.jpg", "caption": 'A "good" dog.'},
        )),
        ("results.json", [
            {"image_id": "b.jpg", "caption": "Two cats, asleep."},
            {"image_id": "b.jpg", "caption": "Cats."},
            {"image_id": "a.jpg", "caption": 'A "good" dog.'},
        ]),
    ],
)  # fmt: skip
def test_every_kind_of_caption_file_is_recognised_by_its_content(tmp_path: Path, name: str, content: object) -> None:
    for file in (write(tmp_path, content, name), write(tmp_path, content, "file")):
        found = read_captions(file)
        assert found == EXPECTED
        assert list(found) == list(EXPECTED)


def test_a_name_keeps_its_folders(tmp_path: Path) -> None:
    assert list(read_captions(write(tmp_path, "image,caption\nx/a.jpg,dog\ny/a.jpg,dog\n"))) == ["x/a.jpg", "y/a.jpg"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", ["is no caption file that is known here", "it is empty"]),
        ("\n\n", ["it is empty"]),
        ("A dog runs.\nA cat.\n", ["expected COCO's captions JSON", "its first line is 'A dog runs.'"]),
        ("image|caption\na.jpg|dog\n", ["CSV that begins with 'image,caption'", "'image|caption'"]),
        (b"image,caption\na.jpg,caf\xe9\n", ["is not UTF-8 at byte 23"]),
        ("image,caption\n", ["has no captions"]),
        ("image,caption\na.jpg,a dog, a cat\n", ["line 2: found 3 fields where the first line has 2", "double quotes"]),
        ("image,caption\na.jpg\n", ["line 2: found 1 fields"]),
        ('image,caption\na.jpg,"a dog\n', ["is not CSV (", "check its quotes"]),
        ("image,caption\na.jpg, \n", ["has an empty caption of a.jpg"]),
        ("image,caption\n,A dog\n", ["has a caption without a picture, 'A dog'"]),
        ("a.jpg#0\tdog\nb.jpg\n", ["line 2: expected 'photo.jpg#0<TAB>caption'"]),
        (COCO, ["image 3 has no 'file_name'", "add it"]),
        (RESULTS, ["'image_id' must be text, found 3"]),
        (lines({"image": "a.jpg", "caption": ""}), ["has an empty caption of a.jpg"]),
        (lines({"image": "a.jpg", "error": {}}), ["has no captions"]),
        ('{"image": ', ["is not JSON"]),
        ({"dataset": "coco"}, ["holds no results"]),
    ],
)
def test_caption_files_that_cannot_be_used(tmp_path: Path, content: object, words: list[str]) -> None:
    file = write(tmp_path, content)
    refused(lambda: read_captions(file), str(file), *words)


# --- Real files -------------------------------------------------------------------------------------------------------


@needs_shared
def test_coco_itself() -> None:
    file = SHARED / "coco-sample" / "annotations" / "captions_train2017.json"
    references = read_references(file)
    assert len(references) == 80
    assert all(len(group.captions) == 5 for group in references.values())
    results = {str(group.file_name): group.captions[0] for group in references.values()}
    pairs = match(results, references)
    assert all(caption == group[0] for caption, group in zip(pairs.captions, pairs.references, strict=True))
    assert sum(map(len, read_captions(file).values())) == 400


@needs_shared
def test_flickr8k_as_captions_to_judge() -> None:
    found = read_captions(SHARED / "flickr8k" / "Flickr8k.token.txt")
    assert sum(map(len, found.values())) == 35_455
