"""The generated toy data set: its grammar, its pictures (read back from their pixels), its splits and its files."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from captioner.datasets.shapes import (
    COLOURS,
    SHAPES,
    SIDE,
    SIZES,
    Counted,
    Example,
    Item,
    Look,
    Meaning,
    Placed,
    Related,
    Scene,
    ShapesOptions,
    all_meanings,
    caption,
    compose,
    draw,
    examples,
    understand,
    write,
)
from captioner.errors import DatasetError

PREPARE = Path(__file__).parents[2] / "data" / "shapes" / "prepare.py"
MEANINGS = [meaning for family in all_meanings().values() for meaning in family]
FEW = ShapesOptions(train=12, dev=3, test=3)

meanings = st.one_of(*(st.sampled_from(family) for family in all_meanings().values()))
seeds = st.integers(0, 2**32)


@pytest.fixture(scope="module")
def splits() -> dict[str, list[Example]]:
    return examples()


# --- the grammar


@pytest.mark.parametrize(
    ("meaning", "sentence"),
    [
        (Placed(Look("small", "red", "circle"), 0, 0), "a small red circle at the top left"),
        (Placed(Look("small", "red", "circle"), 1, 2), "a small red circle at the right"),
        (Placed(Look("large", "black", "cross"), 1, 1), "a large black cross in the middle"),
        (Counted("two", Look("large", "blue", "square")), "two large blue squares"),
        (Counted("four", Look("small", "black", "cross")), "four small black crosses"),
        (
            Related(Look("small", "green", "triangle"), "left of", Look("large", "yellow", "star")),
            "a small green triangle left of a large yellow star",
        ),
    ],
)
def test_captions_read_as_the_grammar_says(meaning: Meaning, sentence: str) -> None:
    assert caption(meaning) == sentence


def test_no_two_meanings_share_a_caption() -> None:
    assert {name: len(family) for name, family in all_meanings().items()} == {
        "placed": 540,
        "counted": 180,
        "related": 7080,
    }
    assert len({caption(meaning) for meaning in MEANINGS}) == len(MEANINGS) == 7800


@given(meaning=meanings, one=seeds, other=seeds)
def test_different_scenes_of_one_meaning_have_its_caption(meaning: Meaning, one: int, other: int) -> None:
    scenes = [compose(meaning, random.Random(seed)) for seed in (one, other)]
    assert [understand(scene) for scene in scenes] == [meaning, meaning]
    assert (draw(scenes[0]).tobytes() == draw(scenes[1]).tobytes()) == (one == other)


def test_a_scene_that_the_grammar_cannot_say_is_refused() -> None:
    red, blue = (Item("circle", (16.0, y), 6.0, colour) for y, colour in ((16.0, (200, 0, 0)), (48.0, (0, 0, 200))))
    for items in ((), (red, blue, red), (red,) * 5):
        with pytest.raises(DatasetError, match="cannot say"):
            understand(Scene((255, 255, 255), items))


# --- the pictures, read without any knowledge of how they were drawn


@dataclass(frozen=True)
class Blob:
    """One patch of pixels that touch and are not background: its look, and the middle of its bounding box."""

    look: Look
    x: float
    y: float


def blobs(picture: Image.Image) -> list[Blob]:
    """All patches of the picture, in no particular order."""
    data = picture.tobytes()
    pixels = {(i % SIDE, i // SIDE): tuple(data[3 * i : 3 * i + 3]) for i in range(SIDE * SIDE)}
    background = pixels[0, 0]
    left = {place: pixel for place, pixel in pixels.items() if contrast(pixel, background) > 30}
    found = []
    while left:
        patch: dict[tuple[int, int], tuple[int, ...]] = {}
        front = [next(iter(left))]
        while front:
            x, y = front.pop()
            if (x, y) in left:
                patch[x, y] = left.pop((x, y))
                front += itertools.product((x - 1, x, x + 1), (y - 1, y, y + 1))
        found.append(blob(patch, background))
    return found


def contrast(pixel: tuple[int, ...], other: tuple[int, ...]) -> int:
    return max(abs(a - b) for a, b in zip(pixel, other, strict=True))


def blob(patch: dict[tuple[int, int], tuple[int, ...]], background: tuple[int, ...]) -> Blob:
    # The commonest pixel is one of the inside: those of the edge are mixed with the background.
    inside = Counter(patch.values()).most_common(1)[0][0]
    red, green, blue = inside
    covered = [
        place for place, pixel in patch.items() if contrast(pixel, background) * 2 > contrast(inside, background)
    ]
    columns, rows = [x for x, _ in covered], [y for _, y in covered]
    assert 0 < min(columns + rows) <= max(columns + rows) < SIDE - 1, "a shape is cut off"
    width, height = max(columns) - min(columns) + 1, max(rows) - min(rows) + 1
    x, y = (min(columns) + max(columns) + 1) / 2, (min(rows) + max(rows) + 1) / 2
    widths = [rows.count(row) / width for row in range(min(rows), max(rows) + 1)]
    shape = "star" if (int(x), max(rows)) not in covered else shape_of(widths)  # only a star stands on two legs
    return Blob(Look("small" if max(width, height) < 18 else "large", colour_of(red, green, blue), shape), x, y)


def shape_of(widths: list[float]) -> str:
    """The shape by which part of its bounding box's width each row of it fills, from the top down."""
    filled = sum(widths) / len(widths)
    if filled > 0.67:
        return "square" if filled > 0.92 else "circle"
    # A triangle is widest at the bottom, a cross in the middle.
    widest = [(row + 0.5) / len(widths) for row, width in enumerate(widths) if width == max(widths)]
    return "triangle" if sum(widest) / len(widest) > 0.75 else "cross"


def colour_of(red: int, green: int, blue: int) -> str:
    """The colour by plain comparisons of the three channels."""
    if max(red, green, blue) < 80:
        return "black"
    if red > 150 and blue < 110:
        return "yellow" if green > 130 else "red"
    if green > 1.4 * max(red, blue):
        return "green"
    assert blue > green, "a colour without a name"
    return "purple" if red > 1.2 * green else "blue"


def sentence_of(found: list[Blob]) -> str:
    """The caption of what was found, worded here a second time."""
    words = [f"{blob.look.size} {blob.look.colour} {blob.look.shape}" for blob in found]
    if len(found) == 1:
        row = "top" if found[0].y < 22 else "bottom" if found[0].y > 42 else ""
        column = "left" if found[0].x < 22 else "right" if found[0].x > 42 else ""
        place = " ".join(word for word in (row, column) if word)
        return f"a {words[0]} at the {place}" if place else f"a {words[0]} in the middle"
    if len(set(words)) == 1:
        plural = "es" if words[0].endswith("s") else "s"
        return f"{('two', 'three', 'four')[len(found) - 2]} {words[0]}{plural}"
    first, second = found  # and no third
    apart = (abs(first.x - second.x), abs(first.y - second.y))
    assert max(apart) > 2 * min(apart), "the relation is not plain to see"
    if apart[0] > apart[1]:
        return f"a {words[0]} left of a {words[1]}" if first.x < second.x else f"a {words[1]} left of a {words[0]}"
    return f"a {words[0]} above a {words[1]}" if first.y < second.y else f"a {words[1]} above a {words[0]}"


@given(meaning=meanings, seed=seeds)
def test_the_picture_shows_what_the_caption_says(meaning: Meaning, seed: int) -> None:
    picture = draw(compose(meaning, random.Random(seed)))
    assert (picture.mode, picture.size) == ("RGB", (SIDE, SIDE))
    assert sentence_of(blobs(picture)) == caption(meaning)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("shape", SHAPES)
def test_every_look_can_be_told_from_its_pixels(size: str, colour: str, shape: str) -> None:
    look = Look(size, colour, shape)
    for seed in range(5):
        picture = draw(compose(Counted("four", look), random.Random(seed)))
        assert [blob.look for blob in blobs(picture)] == [look] * 4


# --- the splits


def test_the_splits_have_the_counts_that_the_readme_promises(splits: dict[str, list[Example]]) -> None:
    readme = PREPARE.with_name("README.md").read_text(encoding="utf-8")
    for split, members in splits.items():
        distinct = len({member.caption for member in members})
        assert f"| {split} | {len(members):,} | {distinct:,} |" in readme
    total = len({member.caption for members in splits.values() for member in members})
    assert total >= 2000
    assert f"{total:,} distinct captions" in readme


def test_no_held_out_caption_is_seen_in_training(splits: dict[str, list[Example]]) -> None:
    seen = {split: {member.caption for member in members} for split, members in splits.items()}
    assert not seen["train"] & seen["dev"]
    assert not seen["train"] & seen["test"]
    assert not seen["dev"] & seen["test"]


def test_the_commonest_caption_is_rare(splits: dict[str, list[Example]]) -> None:
    for members in splits.values():
        assert max(Counter(member.caption for member in members).values()) < len(members) / 100


def test_training_shows_every_pair_of_attributes() -> None:
    wanted = pairs(caption(meaning) for meaning in MEANINGS)
    for seed in (1, 2, 3):
        assert pairs(member.caption for member in examples(ShapesOptions(seed=seed))["train"]) == wanted


def pairs(captions: Iterable[str]) -> set[tuple[object, ...]]:
    """All pairs of words at their positions, with the length of the sentence, so that slots are not mixed up."""
    found: set[tuple[object, ...]] = set()
    for sentence in set(captions):
        words = sentence.split()
        found |= {(len(words), *pair) for pair in itertools.combinations(enumerate(words), 2)}
    return found


def test_the_seed_alone_decides(splits: dict[str, list[Example]]) -> None:
    assert examples() == splits
    assert examples(ShapesOptions(seed=2)) != splits


@pytest.mark.parametrize("options", [{"train": 0}, {"dev": -1}])
def test_a_split_without_pictures_is_refused(options: dict[str, int]) -> None:
    with pytest.raises(DatasetError, match="at least one"):
        ShapesOptions(**options)


def test_a_held_out_split_that_would_starve_training_is_refused() -> None:
    with pytest.raises(DatasetError, match="make it smaller"):
        examples(ShapesOptions(test=2000))


# --- the files


def test_the_files_are_in_the_flickr_layout(tmp_path: Path) -> None:
    root = tmp_path / "raw"
    assert write(root, FEW)
    lines = (root / "shapes.token.txt").read_text(encoding="utf-8").splitlines()
    captions = dict(line.split("\t") for line in lines)
    for split, members in examples(FEW).items():
        names = (root / f"shapes.{split}Images.txt").read_text(encoding="utf-8").splitlines()
        assert names == [member.name for member in members]
        for member in members:
            assert captions.pop(f"{member.name}#0") == member.caption
            with Image.open(root / "Images" / member.name) as picture:
                assert picture.tobytes() == draw(member.scene).tobytes()
    assert not captions
    assert [path.name for path in tmp_path.iterdir()] == ["raw"], "nothing half-written stays behind"


def test_writing_again_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path / "raw", FEW)
    before = contents(tmp_path)
    assert not write(tmp_path / "raw", FEW)
    assert contents(tmp_path) == before
    assert write(tmp_path / "again", FEW)
    assert contents(tmp_path / "again") == contents(tmp_path / "raw")


def contents(folder: Path) -> dict[Path, bytes]:
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_another_data_set_is_not_overwritten(tmp_path: Path) -> None:
    write(tmp_path / "raw", FEW)
    before = contents(tmp_path)
    with pytest.raises(DatasetError, match="delete it"):
        write(tmp_path / "raw", replace(FEW, seed=2))
    assert contents(tmp_path) == before
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    with pytest.raises(DatasetError, match="delete it"):
        write(tmp_path / "file", FEW)


def test_what_cannot_be_written_is_our_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    with pytest.raises(DatasetError, match="could not be written"):
        write(tmp_path / "file" / "raw", FEW)


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    assert write(tmp_path / "raw", FEW)


def test_a_lost_picture_is_noticed(tmp_path: Path) -> None:
    write(tmp_path / "raw", FEW)
    (tmp_path / "raw" / "Images" / "test_00000.png").unlink()
    with pytest.raises(DatasetError, match="not all"):
        write(tmp_path / "raw", FEW)


def test_the_command_writes_once_and_then_says_so(tmp_path: Path) -> None:
    root = tmp_path / "raw"

    def prepare(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(PREPARE), "--root", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    first, second, third = prepare(), prepare(), prepare("--seed", "2")
    assert (first.returncode, second.returncode, third.returncode) == (0, 0, 1)
    assert "9,000 training" in first.stdout
    assert "already there" in second.stdout
    assert third.stderr.startswith("error: ")
    assert third.stderr.count("\n") == 1
    assert len(list((root / "Images").iterdir())) == 9400
