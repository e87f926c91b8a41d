"""Downloads from a server that does wrong: what arrives is the file, whole, or one sentence says why not."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from captioner.datasets.download import SUMS, check_room, download, size_of
from captioner.errors import DatasetError
from tests.datasets.faulty_server import Faults, serve

PROJECT = Path(__file__).parents[2]
CONTENT = b"".join(hashlib.sha256(bytes([number % 256, number // 256])).digest() for number in range(2_000))  # 64,000
SUM = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def published(tmp_path: Path) -> Path:
    folder = tmp_path / "published"
    folder.mkdir()
    (folder / "a.zip").write_bytes(CONTENT)
    return folder


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
def url(published: Path, faults: Faults) -> Iterator[str]:
    with serve(published, faults) as address:
        yield f"{address}/a.zip"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "raw" / "a.zip"


def left(target: Path) -> set[str]:
    return {file.name for file in target.parent.iterdir()}


def refusal(url: str, target: Path) -> str:
    """The sentence of the error that a download ends with."""
    with pytest.raises(DatasetError) as caught:
        download(url, target, attempts=3, pause_seconds=0.0)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_its_size_and_its_sum(url: str, target: Path, faults: Faults) -> None:
    assert size_of(url) == len(CONTENT)
    download(url, target)
    assert target.read_bytes() == CONTENT
    assert left(target) == {"a.zip", SUMS}
    assert (target.parent / SUMS).read_text() == f"{SUM}  a.zip\n"
    asked = len(faults.requests)
    download(url, target)  # it is there
    assert len(faults.requests) == asked


def test_the_list_of_sums_is_what_sha256sum_reads(url: str, target: Path) -> None:
    download(url, target)
    done = subprocess.run(["sha256sum", "-c", SUMS], cwd=target.parent, capture_output=True, text=True, check=False)
    assert done.stdout == "a.zip: OK\n", done.stderr


def test_cut_connections_are_resumed_where_they_broke(url: str, target: Path, faults: Faults) -> None:
    faults.cut_after = 15_000
    download(url, target, attempts=2, pause_seconds=0.0)
    assert target.read_bytes() == CONTENT
    assert faults.ranges_asked == [None, *(f"bytes={start}-" for start in (15_000, 30_000, 45_000, 60_000))]


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=some.integers(4_000, 70_000), kept=some.integers(0, 64_000), ranges=some.booleans(), tags=some.booleans())
def test_whatever_came_before_the_file_is_the_same(
    url: str, target: Path, faults: Faults, cut: int, kept: int, ranges: bool, tags: bool
) -> None:
    target.unlink(missing_ok=True)
    faults.ranges, faults.validators = ranges, tags
    faults.cut_after = kept or 1
    refused = kept < len(CONTENT)
    if refused:
        with pytest.raises(DatasetError, match="run the same command again"):
            download(url, target, attempts=1, pause_seconds=0.0)
        assert target.with_name("a.zip.part").stat().st_size == (kept or 1)
    faults.cut_after = cut if ranges else None
    download(url, target, attempts=2, pause_seconds=0.0)
    assert target.read_bytes() == CONTENT
    assert left(target) == {"a.zip", SUMS}


def test_a_server_that_knows_no_ranges_begins_anew(url: str, target: Path, faults: Faults) -> None:
    faults.cut_after, faults.ranges = 15_000, False
    assert "15,000 bytes of it are kept" in refusal(url, target)
    faults.cut_after = None
    download(url, target)
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("validators", [True, False])
def test_a_file_that_changed_meanwhile_is_not_glued_to_the_old_one(
    url: str, published: Path, target: Path, faults: Faults, validators: bool
) -> None:
    faults.cut_after, faults.validators = 15_000, validators
    with pytest.raises(DatasetError):
        download(url, target, attempts=1, pause_seconds=0.0)
    new = CONTENT[::-1] if validators else CONTENT[::-1][:50_000]  # without validators only the size tells
    (published / "a.zip").write_bytes(new)
    faults.cut_after = None
    download(url, target, pause_seconds=0.0)
    assert target.read_bytes() == new


def test_a_wrong_length_is_one_sentence(url: str, target: Path, faults: Faults) -> None:
    faults.extra_length = 10
    assert refusal(url, target).startswith(f"{url} could not be fetched (the ")
    assert not target.exists()
    faults.extra_length = 0
    download(url, target, pause_seconds=0.0)
    assert target.read_bytes() == CONTENT


def test_a_busy_server_is_asked_again(url: str, target: Path, faults: Faults) -> None:
    faults.statuses = [503, 429]
    download(url, target, attempts=3, pause_seconds=0.0)
    assert target.read_bytes() == CONTENT
    faults.statuses = [503] * 9
    target.unlink()
    assert "could not be fetched (HTTP Error 503" in refusal(url, target)


def test_pauses_become_longer(url: str, target: Path, faults: Faults) -> None:
    faults.statuses = [503, 503, 503]
    began = time.monotonic()
    download(url, target, attempts=4, pause_seconds=0.05)
    assert time.monotonic() - began >= 0.05 + 0.1 + 0.2


def test_what_is_not_there_is_told_at_once(url: str, target: Path, faults: Faults) -> None:
    assert refusal(url.replace("a.zip", "b.zip"), target).endswith(
        "b.zip is not to be had: the server answers 404 Not Found; check the address"
    )
    assert len(faults.requests) == 1
    with pytest.raises(DatasetError, match="404"):
        size_of(url.replace("a.zip", "b.zip"))
    assert "begin it with http://" in refusal("file:///etc/passwd", target)


def test_a_server_that_is_not_there(tmp_path: Path, published: Path, target: Path) -> None:
    with serve(published, Faults()) as address:
        pass
    assert "could not be fetched (Connection refused); 0 bytes" in refusal(f"{address}/a.zip", target)
    with pytest.raises(DatasetError, match=r"cannot be reached \(Connection refused\); check the connection"):
        size_of(f"{address}/a.zip", pause_seconds=0.0)


def test_another_file_than_the_first_time_is_refused(url: str, published: Path, target: Path) -> None:
    download(url, target)
    target.write_bytes(b"altered")
    assert "is not what a.zip was the first time" in refusal(url, target)
    target.unlink()
    (published / "a.zip").write_bytes(b"another edition")
    message = refusal(url, target)
    assert f"{SUMS} has {SUM[:12]}" in message
    assert not target.exists()


def test_the_disk_is_looked_at_before_anything_is_fetched(tmp_path: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"^COCO needs 1000000000\.00 GB, and the disk of .* GB free: make room, or "
    ):
        check_room(tmp_path, 10**18, "COCO")


def test_a_part_is_fetched_by_one_process_at_a_time(url: str, target: Path, faults: Faults) -> None:
    import fcntl

    target.parent.mkdir()
    with target.with_name("a.zip.part").open("wb") as part:
        fcntl.flock(part, fcntl.LOCK_EX)
        assert "is being fetched by another process" in refusal(url, target)


def test_a_process_that_was_killed_is_gone_on_with(url: str, target: Path, faults: Faults) -> None:
    """Ctrl-C while the server is silent: what has come is kept, and only the rest is asked for."""
    faults.cut_after = 20_000
    program = f"""
from pathlib import Path
from captioner.datasets.download import download
download({url!r}, Path({str(target)!r}), attempts=9, pause_seconds=30.0)
"""
    with subprocess.Popen([sys.executable, "-c", program], cwd=PROJECT, stderr=subprocess.PIPE) as process:
        part = target.with_name("a.zip.part")
        while not (part.exists() and part.stat().st_size >= 20_000):
            time.sleep(0.02)
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        process.wait(timeout=20)
    assert process.returncode != 0
    kept = part.stat().st_size
    faults.cut_after = None
    faults.requests.clear()
    download(url, target)
    assert faults.ranges_asked == [f"bytes={kept}-"]
    assert target.read_bytes() == CONTENT


def test_a_part_that_is_complete_only_gets_its_name(url: str, target: Path, faults: Faults) -> None:
    target.parent.mkdir()
    target.with_name("a.zip.part").write_bytes(CONTENT)
    notes = {"url": url, "total": len(CONTENT), "validator": ""}
    target.with_name("a.zip.part.json").write_text(json.dumps(notes))
    download(url, target)
    assert faults.requests == []
    assert left(target) == {"a.zip", SUMS}


@pytest.mark.parametrize("announced", [True, False])
def test_a_full_disk_is_one_sentence_and_loses_nothing(
    url: str, tmp_path: Path, faults: Faults, announced: bool
) -> None:
    """A file system of 40 kB: too small for what is announced, or full in the middle of what is not."""
    program = f"""
import sys
from pathlib import Path
from captioner.datasets.download import download
from captioner.errors import DatasetError
try:
    download({url!r}, Path("small/a.zip"), attempts=2, pause_seconds=0.0)
except DatasetError as error:
    sys.exit(str(error))
"""
    script = f"""
        set -u; cd {tmp_path}; mkdir small && mount -t tmpfs -o size=40k tmpfs small || exit 99
        "$0" -c "$1"; echo "code $?" >&2
        mount -o remount,size=1m small
        "$0" -c "$1"; echo "code $?" >&2
        cp small/a.zip kept.zip
    """
    faults.lengths = announced
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    command = ["unshare", "-rm", "sh", "-c", script, sys.executable, program]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environment)
    if done.returncode == 99 or "unshare" in done.stderr:
        pytest.skip("no file system can be mounted here")
    first, second = done.stderr.split("code 1\n")
    expected = (
        "needs 0.00 GB" if announced else "a.zip.part could not be written: No space left on device; what has come"
    )
    assert expected in first
    assert first.count("\n") == 1
    assert second == "code 0\n"
    assert (tmp_path / "kept.zip").read_bytes() == CONTENT


def test_a_length_that_is_not_announced(url: str, target: Path, faults: Faults) -> None:
    faults.lengths = False
    with pytest.raises(DatasetError, match="does not say how large the file is"):
        size_of(url)
    download(url, target)
    assert target.read_bytes() == CONTENT
