"""A job reads, captions and records what is not done; what captions are made of here are the bytes themselves."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.batch.items import Item
from captioner.batch.job import Job, entry_of, item_of
from captioner.batch.sources import find_items
from captioner.batch.writers.rows import one_line
from captioner.captions import Caption, Outcome
from captioner.errors import UnreadableImage
from captioner.images import ImageSource
from captioner.ledger import Done, Entry, Ledger, Share

LARGE = 2**20 + 1  # bytes: given to the reader as a path


@dataclass
class Model:
    """Captions contents with themselves, reading `ahead` batches before the first is done."""

    ahead: int = 1
    batches: list[list[str]] = field(default_factory=list)
    before_reading: dict[str, str] = field(default_factory=dict)  # what a file holds by the time that it is read

    def __call__(self, batches: Iterable[Sequence[ImageSource]]) -> Iterator[list[Outcome]]:
        waiting: list[Sequence[ImageSource]] = []
        for batch in batches:
            waiting.append(batch)
            if len(waiting) > self.ahead:
                yield self._caption(waiting.pop(0))
        for batch in waiting:
            yield self._caption(batch)

    def _caption(self, batch: Sequence[ImageSource]) -> list[Outcome]:
        self.batches.append([])
        return [self._one(source) for source in batch]

    def _one(self, source: ImageSource) -> Outcome:
        if not isinstance(source, bytes):
            name = Path(os.fspath(source)).name
            if name in self.before_reading:
                Path(os.fspath(source)).write_text(self.before_reading[name])
        try:
            content = source if isinstance(source, bytes) else Path(os.fspath(source)).read_bytes()
        except OSError as error:
            return Outcome(source=source, caption=None, error=UnreadableImage(str(error.strerror)))
        text = content[:20].decode()
        self.batches[-1].append(text)
        if text == "broken":
            return Outcome(source=source, caption=None, error=UnreadableImage("It is broken."))
        caption = Caption(
            text=text, score=-1.0, log_probability=-1.0, confidence=0.5, words=(), alternatives=(), attention=None
        )
        return Outcome(source=source, caption=caption, error=None)


def write(folder: Path, contents: Sequence[str]) -> None:
    for number, content in enumerate(contents):
        (folder / f"{number:03}.jpg").write_text(content)


def job_in(ledger: Ledger, *, batch_size: int = 2, shard: tuple[int, int] = (0, 1)) -> Job:
    number = ledger.job(key="k", command={}, settings="s")
    share = Share(batch_size=batch_size, shard=shard)
    return Job(ledger=ledger, number=number, model="m@1", share=share, max_bytes=2**22)


def captions(job: Job) -> list[str]:
    return [row["caption"] if "caption" in row else row["error"]["type"] for _, row in job.rows()]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger") as ledger:
        yield ledger


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("ahead", [0, 1, 5])
def test_each_content_is_asked_for_once(ahead: int, folder: Path, ledger: Ledger) -> None:
    contents = ["a", "b", "a", "c", "broken", "a", "b", "d", "broken"]
    write(folder, contents)
    model, job = Model(ahead=ahead), job_in(ledger)
    job.plan(find_items([folder]))
    job.run(model)
    assert captions(job) == [content if content != "broken" else "UnreadableImage" for content in contents]
    asked = [content for batch in model.batches for content in batch if content != "broken"]
    assert sorted(asked) == ["a", "b", "c", "d"]


@settings(max_examples=40)
@given(
    contents=st.lists(st.sampled_from(["a", "b", "c", "d", "e", "broken"]), max_size=12),
    batch_size=st.integers(1, 4),
    ahead=st.integers(0, 3),
    stops=st.lists(st.integers(0, 3), max_size=3),
)
def test_whenever_it_is_stopped_the_model_sees_the_same_batches(
    contents: list[str], batch_size: int, ahead: int, stops: list[int], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("pictures")
    write(folder, contents)
    with Ledger(":memory:") as one, Ledger(":memory:") as other:
        whole, straight = job_in(one, batch_size=batch_size), Model(ahead=ahead)
        whole.plan(find_items([folder]))
        whole.run(straight)
        interrupted, model = job_in(other, batch_size=batch_size), Model(ahead=ahead)
        for stop in [*stops, 10**9]:
            begun = iter(range(10**9))
            interrupted.is_to_stop = lambda begun=begun, stop=stop: next(begun) >= stop  # type: ignore[misc]
            interrupted.plan(find_items([folder]))
            interrupted.run(model)
        assert list(interrupted.rows()) == list(whole.rows())
        good = [[text for text in batch if text != "broken"] for batch in model.batches]
        expected = [[text for text in batch if text != "broken"] for batch in straight.batches]
        assert [batch for batch in good if batch] == [batch for batch in expected if batch]


def test_a_file_that_vanished_and_one_that_is_too_large(folder: Path, ledger: Ledger) -> None:
    write(folder, ["a", "b", "c"])
    items = list(find_items([folder]))
    (folder / "001.jpg").unlink()
    job = job_in(ledger)
    job.plan(items)
    job.run(Model())
    assert captions(job) == ["a", "UnreadableImage", "c"]


def test_a_large_file_that_changes_while_it_is_read_fails_and_the_next_run_captions_it(
    folder: Path, ledger: Ledger
) -> None:
    write(folder, ["a", "b" * LARGE, "c" * LARGE])
    job = job_in(ledger)
    job.plan(find_items([folder]))
    job.run(Model(before_reading={"002.jpg": "d" * LARGE}))
    assert captions(job) == ["a", "b" * 20, "UnreadableImage"]
    failed = [error["detail"] for _, error in ledger.failures(job.number)]
    assert failed == ["The file was changed while it was read: run the job again."]
    job.plan(find_items([folder]))
    job.run(Model())
    assert captions(job) == ["a", "b" * 20, "d" * 20]


def test_a_file_that_changed_before_it_was_read_is_known_as_what_was_read(folder: Path, ledger: Ledger) -> None:
    write(folder, ["a", "b"])
    before = list(find_items([folder]))
    (folder / "001.jpg").write_text("another")
    os.utime(folder / "001.jpg", ns=(1, 1))
    job = job_in(ledger)
    job.plan(before)
    model = Model()
    job.run(model)
    assert captions(job) == ["a", "another"]
    assert job.plan(find_items([folder])).pending == 0
    # Had the old one come back with its old time, it would not be taken for what was read.
    (folder / "001.jpg").write_text("b")
    os.utime(folder / "001.jpg", ns=(before[1].mtime_ns, before[1].mtime_ns))
    assert job.plan(find_items([folder])).pending == 1
    job.run(model)
    assert captions(job) == ["a", "b"]


def test_texts_are_written_while_the_batch_is_in_our_hands(folder: Path, ledger: Ledger) -> None:
    write(folder, ["a", "b", "c"])
    job = job_in(ledger)
    job.plan(find_items([folder]))
    busy: list[bool] = []
    job.write_texts = lambda outcomes: busy.append(ledger.is_busy(job.number))
    job.run(Model(ahead=0))
    assert busy
    assert all(busy)
    assert not ledger.is_busy(job.number)


def test_shards_do_it_all_between_them(folder: Path, ledger: Ledger) -> None:
    write(folder, list("abcdefghi"))
    found: list[str] = []
    for index in range(3):
        job = job_in(ledger, shard=(index, 3))
        job.plan(find_items([folder]))
        job.run(Model())
        assert job.counts().pending == 0
        found += captions(job)
    assert found == list("abghcdief"[:9])


def test_what_writes_the_outputs_gives_its_lease_back_when_it_fails(folder: Path, ledger: Ledger) -> None:
    job = job_in(ledger)

    def fail() -> None:
        assert ledger.is_busy(job.number)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        job.publish(fail)
    assert not ledger.is_busy(job.number)


TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
FOUND = st.fixed_dictionaries(
    {
        "caption": TEXT,
        "score": st.floats(-9, 0).map(lambda number: round(number, 4)),
        "words": st.lists(st.fixed_dictionaries({"word": TEXT, "probability": st.floats(0, 1)}), max_size=3),
    }
)


@settings(max_examples=60)
@given(
    found=st.dictionaries(
        st.binary(min_size=1, max_size=6).filter(lambda name: b"\0" not in name),
        FOUND | st.fixed_dictionaries({"error": st.fixed_dictionaries({"type": TEXT, "detail": TEXT})}),
        max_size=6,
    )
)
def test_the_lines_of_a_job_are_its_rows_as_json(found: dict[bytes, dict[str, Any]]) -> None:
    entries = [Entry(name, name, None, b"photos", 1, 1) for name in sorted(found)]
    with Ledger(":memory:") as ledger:
        job = job_in(ledger, batch_size=10)
        ledger.plan(job.number, entries)
        batch = ledger.lease(job.number, job.share, seconds=60.0)
        if batch is not None:
            done = [
                Done(entry=entry, digest=None, row=None, error=row["error"])
                if "error" in row
                else Done(entry=entry, digest=entry.source, row=one_line(row), error=None)
                for entry, row in ((entry, found[entry.source]) for entry in entries)
            ]
            ledger.record(job.number, batch, done)
        expected = [{"image": os.fsdecode(name), **found[name]} for name in sorted(found)]
        assert list(job.lines()) == [json.dumps(row, ensure_ascii=False) for row in expected]
        assert [row for _, row in job.rows()] == expected


def test_an_item_comes_back_from_the_ledger_as_it_was() -> None:
    for item in (Item("a/\udcff.jpg", "/a/\udcff.jpg", None, "a", 1, 2), Item("t.tar/b", "t.tar", "b", "t.tar", 3, 4)):
        assert item_of(entry_of(item)) == item
