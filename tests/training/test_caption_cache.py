"""Captions are tokenised once; what has changed, or is not whole, is tokenised again."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from captioner.datasets.records import Record
from captioner.training.caption_cache import numbered_captions
from captioner.training.caption_index import NumberedCaptions, Words

Splits = dict[str, list[Record]]
SPLITS = {
    "train": [Record(Path("a"), ("A dog runs .", "The dog's ball")), Record(Path("b"), ("Two cafés",))],
    "dev": [Record(Path("c"), ("a zebra runs",))],
}


def check(found: tuple[Words, dict[str, NumberedCaptions]], splits: Splits) -> None:
    """Compare with what is numbered without a cache."""
    words = Words()
    expected = {split: NumberedCaptions.of(records, words) for split, records in splits.items()}
    assert list(found[0]) == list(words)
    assert list(found[1]) == list(expected)
    for split, captions in expected.items():
        for one, other in (
            (found[1][split].numbers, captions.numbers),
            (found[1][split].ends, captions.ends),
        ):
            assert one.dtype == other.dtype
            assert np.array_equal(one, other)


def caches(folder: Path) -> dict[str, int]:
    """The files of a cache, each with its number on the disk, which another file in its place would not have."""
    return {file.name: file.stat().st_ino for file in folder.iterdir()}


def test_captions_are_tokenised_once(tmp_path: Path) -> None:
    cache = tmp_path / "new" / "cache"
    check(numbered_captions(SPLITS, cache), SPLITS)
    written = caches(cache)
    assert [Path(name).suffix for name in written] == [".numbers"]
    check(numbered_captions(SPLITS, cache), SPLITS)
    assert caches(cache) == written


@given(some.lists(some.lists(some.text(), max_size=3), max_size=4), some.integers(0, 4))
def test_whatever_is_said_comes_back(
    tmp_path_factory: pytest.TempPathFactory, captions: list[list[str]], of_train: int
) -> None:
    cache = tmp_path_factory.mktemp("cache")
    records = [Record(Path(str(number)), tuple(said)) for number, said in enumerate(captions)]
    splits = {"train": records[:of_train], "dev": records[of_train:]}
    for _ in range(2):
        check(numbered_captions(splits, cache), splits)


CHANGED: dict[str, Splits] = {
    "a word": {**SPLITS, "dev": [Record(Path("c"), ("a zebra rans",))]},
    "where a caption ends": {**SPLITS, "train": [Record(Path("a"), ("A dog runs .The", " dog's ball", "Two cafés"))]},
    "where a split ends": {"train": [*SPLITS["train"], *SPLITS["dev"]], "dev": []},
    "a picture less": {**SPLITS, "train": SPLITS["train"][:1]},
    "the names of the splits": {"dev": SPLITS["train"], "train": SPLITS["dev"]},
}


@pytest.mark.parametrize("changed", CHANGED.values(), ids=CHANGED)
def test_other_captions_are_tokenised(changed: Splits, tmp_path: Path) -> None:
    numbered_captions(SPLITS, tmp_path)
    check(numbered_captions(changed, tmp_path), changed)
    assert len(caches(tmp_path)) == 2


def test_the_numbers_of_another_tokenizer_are_not_taken(tmp_path: Path) -> None:
    numbered_captions(SPLITS, tmp_path, tokenizer="ours, 1")
    before = caches(tmp_path)
    numbered_captions(SPLITS, tmp_path, tokenizer="ours, 2")
    after = caches(tmp_path)
    assert len(after) == 2
    assert after.items() > before.items()
    for name in before:  # nor are they under a name that is not theirs
        for other in after.keys() - before.keys():
            (tmp_path / other).write_bytes((tmp_path / name).read_bytes())
            taken = (tmp_path / other).stat().st_ino
            numbered_captions(SPLITS, tmp_path, tokenizer="ours, 2")
            assert (tmp_path / other).stat().st_ino != taken


@pytest.mark.parametrize("length", [0, 10, 32, 33, 200, -1])
def test_a_file_that_was_cut_off_is_made_anew(length: int, tmp_path: Path) -> None:
    numbered_captions(SPLITS, tmp_path)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    file.write_bytes(whole[:length])
    check(numbered_captions(SPLITS, tmp_path), SPLITS)
    assert file.read_bytes() == whole


@pytest.mark.parametrize("place", [0, 31, 32, 40, -1])
def test_a_file_that_was_damaged_is_made_anew(place: int, tmp_path: Path) -> None:
    numbered_captions(SPLITS, tmp_path)
    (file,) = tmp_path.iterdir()
    whole = file.read_bytes()
    damaged = bytearray(whole)
    damaged[place] ^= 1
    file.write_bytes(damaged)
    check(numbered_captions(SPLITS, tmp_path), SPLITS)
    assert file.read_bytes() == whole


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file")
    check(numbered_captions(SPLITS, tmp_path / "file"), SPLITS)
    numbered_captions(SPLITS, tmp_path / "cache")
    (file,) = (tmp_path / "cache").iterdir()
    file.unlink()
    file.mkdir()  # neither read nor written over, and nothing is left of the attempt
    check(numbered_captions(SPLITS, tmp_path / "cache"), SPLITS)
    assert [each.name for each in (tmp_path / "cache").iterdir()] == [file.name]


def test_a_cache_that_may_only_be_read(tmp_path: Path) -> None:
    """Whoever tests as root may write all the same, and then there is a file."""
    tmp_path.chmod(0o500)
    try:
        check(numbered_captions(SPLITS, tmp_path), SPLITS)
        check(numbered_captions(SPLITS, tmp_path), SPLITS)
    finally:
        tmp_path.chmod(0o700)
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_two_processes_at_once(tmp_path: Path) -> None:
    """Each has its own half-written file, and one whole file stays."""
    context = multiprocessing.get_context("fork")  # as loaders do; to import torch in both would take seconds
    gate = context.Barrier(2)
    both = [context.Process(target=_number, args=(gate, tmp_path)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    (file,) = tmp_path.iterdir()
    before = file.stat().st_ino
    check(numbered_captions(SPLITS, tmp_path), SPLITS)
    assert file.stat().st_ino == before


def _number(gate: object, cache: Path) -> None:
    gate.wait()  # type: ignore[attr-defined]  # multiprocessing.Barrier is a function
    for _ in range(20):
        check(numbered_captions(SPLITS, cache), SPLITS)
        for file in cache.glob("*.numbers"):
            file.unlink(missing_ok=True)  # so that both write again and again
    check(numbered_captions(SPLITS, cache), SPLITS)
