"""What a job writes where, and that a person's texts are neither lost nor touched twice."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from captioner.batch.job import Job
from captioner.batch.outputs import OutputFile, Outputs, undo
from captioner.batch.policies import Existing
from captioner.batch.sources import find_items
from captioner.batch.style import TextStyle
from captioner.batch.writers.jsonl import write_jsonl
from captioner.batch.writers.sidecar_names import SidecarNames
from captioner.batch.writers.sidecars import SidecarWriter
from captioner.errors import ConfigurationError
from captioner.ledger import Done, Ledger, Share


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.jsonl", ("jsonl", "a.jsonl")),
        ("b/A.CSV", ("csv", "b/A.CSV")),
        ("set.tar", ("shards", "set.tar")),
        ("page.html", ("sheet", "page.html")),
        ("coco:a.json", ("coco", "a.json")),
        ("alt:b:c.json", ("alt", "b:c.json")),
        ("jsonl:table.csv", ("jsonl", "table.csv")),
        ("/dev/stdout", ("jsonl", "/dev/stdout")),
        ("c:a.jsonl", ("jsonl", "c:a.jsonl")),
    ],
)
def test_the_format_of_a_file(text: str, expected: tuple[str, str]) -> None:
    assert OutputFile.parse(text) == OutputFile(expected[0], Path(expected[1]))


def test_an_ending_that_tells_no_format() -> None:
    with pytest.raises(ConfigurationError, match=r"The ending of a\.json tells no format: name it, as in coco:a\.json"):
        OutputFile.parse("a.json")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four pictures, one with a person's text."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in "abcd":
        (folder / f"{name}.jpg").write_text(name)
    (folder / "a.txt").write_text("a person's\n")
    return folder


@pytest.fixture
def job(folder: Path) -> Iterator[Job]:
    """A job whose pictures are captioned, with their names, and nothing written."""
    with Ledger(":memory:") as ledger:
        number = ledger.job(key="k", command={}, settings="s")
        job = Job(ledger=ledger, number=number, model="m", share=Share(batch_size=9), max_bytes=9)
        job.plan(find_items([folder]))
        caption(job)
        yield job


def caption(job: Job) -> None:
    batch = job.ledger.lease(job.number, job.share, seconds=60.0)
    assert batch is not None
    entries = [pending.entry for pending in batch.pending]
    rows = [
        {"caption": f"text of {entry.source[-5:-4].decode()}", "confidence": 0.5, "model": "m"} for entry in entries
    ]
    digests = [entry.source + b"%d" % entry.mtime_ns for entry in entries]
    done = [
        Done(entry=e, digest=d, row=json.dumps(r), error=None) for e, d, r in zip(entries, digests, rows, strict=True)
    ]
    job.ledger.record(job.number, batch, done)


def outputs_of(job: Job, existing: Existing, *files: Path) -> Outputs:
    style = TextStyle()
    sidecars = SidecarWriter(names=SidecarNames.of(job.items()), style=style, policy=existing)
    return Outputs(style=style, sidecars=sidecars, files=[(OutputFile("jsonl", file), write_jsonl) for file in files])


def texts(folder: Path) -> dict[str, str]:
    return {path.stem: path.read_text() for path in sorted(folder.glob("*.txt"))}


@pytest.mark.parametrize("existing", [Existing.OVERWRITE, Existing.APPEND, Existing.PREPEND])
def test_a_text_that_somebody_edits_after_it_was_written_is_left_alone(
    existing: Existing, folder: Path, job: Job
) -> None:
    outputs_of(job, existing).publish(job)
    (folder / "b.txt").write_text("edited")
    (folder / "c.txt").unlink()
    (folder / "e.jpg").write_text("e")  # a new one, so that everything is published again
    job.plan(find_items([folder]))
    caption(job)
    outputs = outputs_of(job, existing)
    assert not outputs.is_published(job)
    outputs.publish(job)
    assert texts(folder)["b"] == "edited"
    assert "c" not in texts(folder)
    assert texts(folder)["e"] == "text of e\n"
    assert texts(folder)["a"].count("text of a") == 1
    assert outputs.is_published(job)


def test_a_file_that_cannot_be_written_does_not_keep_the_others_from_it(folder: Path, job: Job) -> None:
    (folder / "here").mkdir()
    good, bad = folder / "good.jsonl", folder / "gone/bad.jsonl"
    outputs = outputs_of(job, Existing.SKIP, bad, good)
    outputs.publish(job)
    assert [str(file.path) for file in outputs.published] == [str(good)]
    assert len(outputs.broken) == 1
    assert "gone/bad.jsonl could not be written: No such file or directory." in outputs.broken[0]
    assert len(good.read_text().splitlines()) == 4
    assert not outputs.is_published(job)
    bad.parent.mkdir()
    outputs.publish(job)
    assert (outputs.broken, bad.read_bytes()) == ([], good.read_bytes())
    assert outputs.is_published(job)


def test_a_text_that_cannot_be_written_is_a_problem_until_it_can(folder: Path, job: Job) -> None:
    (folder / "b.txt").mkdir()
    outputs = outputs_of(job, Existing.SKIP)
    outputs.publish(job)
    assert list(outputs.problems) == [str(folder / "b.jpg")]
    assert texts_of(folder, "acd") == ["a person's\n", "text of c\n", "text of d\n"]
    (folder / "b.txt").rmdir()
    outputs.publish(job)
    assert outputs.problems == {}
    assert texts_of(folder, "b") == ["text of b\n"]
    assert outputs.is_published(job)


def texts_of(folder: Path, names: str) -> list[str]:
    return [(folder / f"{name}.txt").read_text() for name in names]


def test_undo_goes_back_to_the_first_text_and_forgets_what_it_took_back(folder: Path, job: Job) -> None:
    outputs_of(job, Existing.OVERWRITE).publish(job)
    (folder / "d.txt").write_text("edited")
    done = undo(job.ledger, job.number, None)
    assert (done.back, done.edited, done.problems) == (3, [str(folder / "d.txt")], {})
    assert texts(folder) == {"a": "a person's\n", "d": "edited"}
    assert [change.target for change in job.ledger.changes(job.number)] == [str(folder / "d.txt").encode()]
    assert not outputs_of(job, Existing.OVERWRITE).is_published(job)
    outputs_of(job, Existing.SKIP).publish(job)
    assert texts(folder) == {"a": "a person's\n", "b": "text of b\n", "c": "text of c\n", "d": "edited"}


def test_pictures_that_have_a_text_need_none_only_if_nothing_else_is_asked_for(folder: Path, job: Job) -> None:
    items = {Path(item.source).stem: item for item in job.items()}
    (folder / "c.txt").write_text(" \n")
    skipping = outputs_of(job, Existing.SKIP)
    assert [name for name, item in items.items() if skipping.skips(item)] == ["a"]
    assert not any(map(outputs_of(job, Existing.APPEND).skips, items.values()))
    assert not any(map(outputs_of(job, Existing.SKIP, folder / "rows.jsonl").skips, items.values()))
