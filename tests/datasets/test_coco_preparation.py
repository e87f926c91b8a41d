"""data/coco/prepare.py on a replica of the published archives, from a server that is right and from one that is not."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from captioner.datasets.kinds import load_data_set
from captioner.errors import DatasetError
from tests.datasets import replica
from tests.datasets.faulty_server import Faults, serve

PROJECT = Path(__file__).parents[2]
PREPARE = PROJECT / "data" / "coco" / "prepare.py"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published")
    for year in ("2014", "2017"):
        replica.publish(folder, year)
    return folder


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
def mirror(published: Path, faults: Faults) -> Iterator[str]:
    with serve(published, faults) as address:
        yield address


def prepare(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the recipe as a user does, in `folder`, with the data set in `folder`/raw."""
    command = [sys.executable, PREPARE, "--root", "raw", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    return subprocess.run(
        list(map(str, command)), cwd=folder, capture_output=True, text=True, check=False, timeout=120, env=environment
    )


def files(root: Path) -> set[str]:
    return {file.relative_to(root).parts[0] for file in root.rglob("*") if file.is_file()}


def test_2014_from_nothing(tmp_path: Path, mirror: str) -> None:
    done = prepare(tmp_path, "--from", mirror, "--subset")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    root = tmp_path / "raw"
    assert files(root) == {"train2014", "val2014", "annotations", "dataset_coco.json", "SHA256SUMS"}
    assert sorted(file.name for file in (root / "annotations").iterdir()) == [
        "captions_train2014.json",
        "captions_val2014.json",
    ]
    lines = done.stdout.splitlines()
    assert lines[0].startswith("to fetch: annotations_trainval2014.zip, 0.000 GB")  # before anything is fetched
    assert "train2014: 12 pictures" in lines
    assert "the list of train2014 has 12 pictures, and 82,783 are published" in lines
    assert "Karpathy's split train has 15 pictures, and 113,287 are published" in lines
    assert f"{Path('raw/dataset_coco.json')}: 15 train, 3 dev, 3 test, 105 captions" in lines
    assert lines[-1] == "all 21 pictures can be read"
    splits = load_data_set(root / "dataset_coco.json").splits
    assert {split: len(records) for split, records in splits.items()} == replica.KARPATHY
    assert all(record.image.is_file() for records in splits.values() for record in records)


def test_a_second_run_fetches_nothing(tmp_path: Path, mirror: str, faults: Faults) -> None:
    assert prepare(tmp_path, "--from", mirror, "--subset").returncode == 0
    faults.requests.clear()
    again = prepare(tmp_path, "--from", mirror, "--subset")
    assert again.returncode == 0
    assert "to fetch" not in again.stdout
    assert faults.requests == []


def test_2017_with_its_test_pictures(tmp_path: Path, mirror: str) -> None:
    done = prepare(tmp_path, "--year", "2017", "--test", "--from", mirror, "--subset")
    assert done.returncode == 0, done.stderr
    assert "test2017: 3 pictures" in done.stdout
    assert len(list((tmp_path / "raw" / "test2017").iterdir())) == replica.TEST
    splits = load_data_set(tmp_path / "raw" / "annotations" / "captions_train2017.json").splits
    assert {split: len(records) for split, records in splits.items()} == {"train": 12, "dev": 9}
    assert load_data_set(tmp_path / "raw").splits == splits  # there is nothing else in it


def test_other_counts_than_published_are_an_error(tmp_path: Path, mirror: str) -> None:
    done = prepare(tmp_path, "--from", mirror)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: the list of train2014 has 12 pictures, and 82,783 are published; delete it ")


@pytest.mark.parametrize("ranges", [True, False])
def test_a_server_that_cuts_connections(tmp_path: Path, mirror: str, faults: Faults, ranges: bool) -> None:
    faults.cut_after, faults.ranges = (9_000, True) if ranges else (None, False)
    faults.statuses = [200, 200, 503]
    done = prepare(tmp_path, "--from", mirror, "--subset")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "all 21 pictures can be read"
    asked = {asked for asked in faults.ranges_asked if asked}
    assert bool(asked) == ranges


def test_what_is_there_is_adopted(tmp_path: Path, published: Path, mirror: str, faults: Faults) -> None:
    root = tmp_path / "raw"
    root.mkdir()
    for archive in ("annotations/annotations_trainval2014.zip", "zips/train2014.zip"):
        (root / Path(archive).name).write_bytes((published / archive).read_bytes())
    done = prepare(tmp_path, "--from", mirror, "--subset")
    assert done.returncode == 0, done.stderr
    assert f"{Path('raw/train2014.zip')} is there: adopted" in done.stdout
    assert {path for _, path, _ in faults.requests} == {"/caption_datasets.zip", "/zips/val2014.zip"}


def test_pictures_that_are_missing_are_fetched_and_broken_ones_are_listed(
    tmp_path: Path, mirror: str, faults: Faults
) -> None:
    assert prepare(tmp_path, "--from", mirror, "--subset").returncode == 0
    first, second, *_ = sorted((tmp_path / "raw" / "train2014").iterdir())
    first.unlink()
    faults.requests.clear()
    assert prepare(tmp_path, "--from", mirror, "--subset").returncode == 0
    assert {path for _, path, _ in faults.requests} == {"/zips/train2014.zip"}
    assert first.is_file()
    second.write_bytes(b"no picture")
    broken = prepare(tmp_path, "--from", mirror, "--subset")
    assert broken.returncode == 3
    assert broken.stdout.splitlines()[-1].startswith(f"1 picture is left out, such as raw/train2014/{second.name}: ")
    with (tmp_path / "raw" / "left-out.csv").open(newline="") as table:
        (row,) = csv.DictReader(table)
    assert (Path(row["image"]).name, row["split"]) == (second.name, "train2014")


def test_an_archive_that_is_damaged_is_one_sentence(tmp_path: Path, published: Path, mirror: str) -> None:
    root = tmp_path / "raw"
    root.mkdir()
    content = (published / "zips" / "train2014.zip").read_bytes()
    (root / "train2014.zip").write_bytes(content[:-100])
    done = prepare(tmp_path, "--from", mirror, "--subset")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "train2014.zip is damaged" in line
    (root / "train2014.zip").write_bytes(content.replace(content[2000:2010], bytes(10)))
    (root / "SHA256SUMS").unlink()
    done = prepare(tmp_path, "--from", mirror, "--subset")
    assert "is damaged (Bad CRC-32" in done.stderr


def test_a_full_disk_is_told_before_anything_is_fetched(tmp_path: Path, mirror: str, faults: Faults) -> None:
    (tmp_path / "raw").mkdir()
    command = [sys.executable, str(PREPARE), "--root", "raw", "--from", mirror, "--subset"]
    script = 'mount -t tmpfs -o size=20k tmpfs raw || exit 99; exec "$@"'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", *command],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60,
        env={**os.environ, "PYTHONPATH": str(PROJECT)},
    )  # fmt: skip
    if done.returncode == 99 or "unshare" in done.stderr:
        pytest.skip("no file system can be mounted here")
    assert done.returncode == 1
    assert "error: COCO 2014 needs 0.00 GB, and the disk of raw has 0.00 GB free: make room, or choose" in done.stderr
    assert {method for method, _, _ in faults.requests} == {"HEAD"}


def test_a_root_of_several_data_sets_asks_for_the_file(tmp_path: Path, mirror: str) -> None:
    assert prepare(tmp_path, "--from", mirror, "--subset").returncode == 0
    with pytest.raises(DatasetError, match=r"dataset_coco\.json \(karpathy\), captions_train2014\.json \(coco\): name"):
        load_data_set(tmp_path / "raw")
