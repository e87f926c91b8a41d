"""The benchmarks of the service in short: what must hold on any machine, however busy. Times are for the long forms."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.bench_hostile import bombing, corpus_files
from tests.benchmarks.bench_overload import overload
from tests.benchmarks.bench_soak import reloads, soak
from tests.benchmarks.bench_stalled import measure as stalled
from tests.benchmarks.bench_stops import measure as stops
from tests.benchmarks.load import REAL, broken, judged, percentile, running, small_photo, stand_in
from tests.bombs import bombs


def of_counts(report: dict[str, Any]) -> list[str]:
    """The bounds that were not kept, but for those on times and rates."""
    timed = ("p99", "goodput", "ms", "seconds")
    return [each for each in broken(report) if not any(word in each for word in timed)]


def test_overload_is_turned_away_and_told_when_to_come_back() -> None:
    report = overload(2.0)
    assert of_counts(report) == []
    assert report["requests"] == 400
    assert 0 < report["accepted"] < 200
    assert report["503 with Retry-After"] == 400 - report["accepted"]


def test_stalled_clients_stop_nobody() -> None:
    report = stalled(40, 40, rounds=1, seconds=1.5)
    assert of_counts(report) == []
    assert report["requests"] == 30


def test_a_stop_loses_no_request() -> None:
    report = stops(stand_in(), [small_photo()], 2, 0.6, seed=1, at_once=2)
    assert broken(report) == []
    assert report["stops with any in flight"] == 2


@pytest.fixture
def tiny(tiny_bundle: Path) -> list[str]:
    """The command of the real service with a small network."""
    return [*REAL, "--processes", "2", "--bundle", str(tiny_bundle)]


def test_bombs_are_refused_in_little_memory(tiny: list[str]) -> None:
    report = bombing(1, tiny)
    assert of_counts(report) == []
    assert len(report["bombs"]) == 12


def test_bombs_are_bombs() -> None:
    """Small, and all different."""
    files = list(bombs().values())
    assert all(len(file) < 2**20 for file in files)
    assert len(set(files)) == 12


def test_every_kind_of_request_and_new_models(tiny: list[str], tmp_path: Path) -> None:
    with running(tiny, log=tmp_path / "log") as service:
        assert of_counts(reloads(service, tmp_path / "log", 2, clients=2)) == []
        report = soak(service, 2, 3.0, last=10, window=5)
        assert service.stop() == 0
    assert of_counts(report) == []
    assert "photo: 200" in report["answers"]


def test_a_corpus_must_be_the_one_that_is_pinned(tmp_path: Path) -> None:
    archive = tmp_path / "pillow.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name in ("pillow-1/Tests/images/a/b.png", "pillow-1/src/c.png"):
            member = tarfile.TarInfo(name)
            member.size = 3
            tar.addfile(member, io.BytesIO(b"abc"))
    with pytest.raises(SystemExit, match="is not the source distribution"):
        list(corpus_files(archive))
    sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
    assert list(corpus_files(archive, sha256)) == [("a/b.png", b"abc")]


def test_a_figure_beside_its_bound() -> None:
    report = {"a": judged(1, at_most=1), "b": {"c": judged(1.1, at_most=1), "d": judged(0.9, at_least=1)}}
    assert broken(report) == ["/b/c", "/b/d"]
    assert percentile([3.0, 1.0, 2.0, 4.0], 0.5) == 3.0
    assert percentile([1.0], 0.99) == 1.0
