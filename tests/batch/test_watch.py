"""New pictures in folders, with a clock that the tests turn."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from captioner.batch.items import Item
from captioner.batch.selection import Selection
from captioner.batch.sources import SourceError
from captioner.batch.survey import Survey
from captioner.batch.watch import watch
from captioner.errors import ConfigurationError

Step = Callable[[], object]
FULL = "abc"


class Story:
    """What happens in the pauses: one step in each, then Ctrl-C; each pause lasts as long as it was asked for."""

    def __init__(self, *steps: Step) -> None:
        self._steps = list(steps)
        self.now = 0.0
        self.pauses: list[float] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds
        if not self._steps:
            raise KeyboardInterrupt
        self._steps.pop(0)()


def nothing() -> None:
    pass


def put(path: Path, content: str = FULL, seconds: int = 1) -> None:
    """A file that was changed `seconds` after 1970."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    os.utime(path, (seconds, seconds))


def told(
    folder: Path,
    *steps: Step,
    settle_seconds: float = 0,
    selection: Selection | None = None,
    survey: Survey | None = None,
) -> list[tuple[float, list[str]]]:
    """At which second which files were handed out."""
    story = Story(*steps)
    rounds: Iterator[list[Item]] = watch(
        [folder], selection, survey, settle_seconds=settle_seconds, clock=story.clock, sleep=story.sleep
    )
    return [(story.now, [item.relative for item in items]) for items in rounds]


def test_what_is_there_comes_first_then_what_is_new(tmp_path: Path) -> None:
    put(tmp_path / "b.jpg")
    put(tmp_path / "a/a.jpg")
    assert told(tmp_path, nothing, lambda: put(tmp_path / "a/c.jpg"), nothing, nothing) == [
        (1, ["a/a.jpg", "b.jpg"]),
        (3, ["a/c.jpg"]),
    ]


def test_a_file_that_grows_is_not_complete(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    steps = [lambda size=size: put(path, "x" * size) for size in range(1, 6)]
    assert told(tmp_path, *steps, nothing, nothing) == [(6, ["a.jpg"])]


def test_nor_is_one_whose_time_changes(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    steps = [lambda second=second: put(path, FULL, second) for second in range(1, 6)]
    assert told(tmp_path, *steps, nothing, nothing) == [(6, ["a.jpg"])]


def test_it_has_to_settle(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    put(path)
    steps = [nothing, nothing, lambda: put(path, "longer"), *[nothing] * 6]
    assert told(tmp_path, *steps, settle_seconds=4) == [(7, ["a.jpg"])]


def test_a_file_that_is_replaced_comes_again_and_so_does_one_that_was_away(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    put(path)
    steps = [nothing, nothing, lambda: put(path, FULL, 2), nothing, path.unlink, lambda: put(path, FULL, 2), nothing]
    assert [second for second, _ in told(tmp_path, *steps)] == [1, 4, 7]


def test_temporary_and_hidden_names_are_left_until_they_are_renamed(tmp_path: Path) -> None:
    endings = [".part", ".crdownload", ".TMP", "~"]
    for number, ending in enumerate(endings):
        put(tmp_path / f"{number}.jpg{ending}")
    put(tmp_path / ".hidden.jpg")
    put(tmp_path / ".folder/a.jpg")
    everything = Selection(include=("*",), hidden=True)
    steps = [nothing, nothing, lambda: (tmp_path / "0.jpg.part").rename(tmp_path / "0.jpg"), nothing]
    assert told(tmp_path, *steps, selection=everything) == [(4, ["0.jpg"])]


def test_a_folder_that_vanishes_is_one_failure_and_its_files_do_not_come_again(tmp_path: Path) -> None:
    put(tmp_path / "in/a.jpg")
    survey = Survey()
    away, back = (
        lambda: (tmp_path / "in").rename(tmp_path / "out"),
        lambda: (tmp_path / "out").rename(tmp_path / "in"),
    )
    steps = [nothing, away, nothing, back, nothing, lambda: put(tmp_path / "in/b.jpg"), nothing, nothing]
    assert told(tmp_path / "in", *steps, survey=survey) == [(1, ["a.jpg"]), (7, ["b.jpg"])]
    assert [failure.source for failure in survey.failures] == [str(tmp_path / "in")]


def test_folders_inside_each_other_and_counts(tmp_path: Path) -> None:
    put(tmp_path / "in/a.jpg")
    put(tmp_path / "in/a.txt")
    survey, story = Survey(), Story(nothing, nothing, nothing)
    rounds = watch(
        [tmp_path, tmp_path / "in", tmp_path], None, survey, settle_seconds=0, clock=story.clock, sleep=story.sleep
    )
    assert [[item.source for item in items] for items in rounds] == [[str(tmp_path / "in/a.jpg")]]
    assert survey.other_files == 2


def test_the_pause_is_as_long_as_a_listing_took(tmp_path: Path) -> None:
    story = Story(nothing)

    def clock() -> float:
        story.now += 7
        return story.now

    assert list(watch([tmp_path], clock=clock, sleep=story.sleep)) == []
    assert story.pauses == [7, 7]


def test_wrong_numbers_and_paths_are_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no folder .*gone"):
        watch([tmp_path / "gone"])
    with pytest.raises(ConfigurationError):
        watch([tmp_path], interval_seconds=0)
    with pytest.raises(ConfigurationError):
        watch([tmp_path], settle_seconds=-1)
