"""A gzip file that is read anywhere in it."""

from __future__ import annotations

import gzip
import random
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from captioner.batch.gzip_file import GzipFile

CONTENT = random.Random(1).randbytes(3 * 2**20) + bytes(5 * 2**20) + random.Random(2).randbytes(3 * 2**20)


@pytest.fixture(params=["one member", "many members", "tiny members", "padded"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[GzipFile]:
    step = {"many members": 300_000, "tiny members": 2000}.get(request.param, len(CONTENT))
    data = b"".join(gzip.compress(CONTENT[begin : begin + step], 1) for begin in range(0, len(CONTENT), step))
    (tmp_path / "a.gz").write_bytes(data + bytes(40_000 if request.param == "padded" else 0))
    with closing(GzipFile(str(tmp_path / "a.gz"))) as opened:
        yield opened


def test_forward_backward_and_beyond_the_end(file: GzipFile) -> None:
    chance = random.Random(3)
    assert file.read_at(0, 10) == CONTENT[:10]
    for _ in range(60):
        begin, size = chance.randrange(len(CONTENT)), chance.choice([0, 1, 1000, 50_000])
        assert file.read_at(begin, size) == CONTENT[begin : begin + size]
    assert file.read_at(len(CONTENT) - 5, 100) == CONTENT[-5:]
    assert file.read_at(len(CONTENT) + 5, 100) == b""
    assert file.holds(len(CONTENT))
    assert not file.holds(len(CONTENT) + 1)
    file.read_to_end()
    assert file.read_at(0, len(CONTENT)) == CONTENT


def test_a_file_that_breaks_off_or_is_damaged(tmp_path: Path) -> None:
    whole = gzip.compress(CONTENT, 1)
    for data, error in (
        (whole[:-1], OSError),
        (whole[: len(whole) // 2], OSError),
        (whole[:-8] + b"abcd" + whole[-4:], zlib.error),
        (b"no gzip file", zlib.error),
        (whole + b"rubbish", zlib.error),
    ):
        (tmp_path / "a.gz").write_bytes(data)
        with closing(GzipFile(str(tmp_path / "a.gz"))) as file, pytest.raises(error):
            file.read_to_end()


def test_backward_reading_does_not_unpack_everything_again(tmp_path: Path) -> None:
    (tmp_path / "a.gz").write_bytes(gzip.compress(CONTENT, 1))
    with closing(GzipFile(str(tmp_path / "a.gz"))) as file:
        file.read_to_end()
        before = _bytes_read()
        for begin in range(len(CONTENT) - 100_000, len(CONTENT) - 2_000_000, -100_000):
            assert file.read_at(begin, 10) == CONTENT[begin : begin + 10]
        assert _bytes_read() - before < 19 * 1.2 * 2**20  # at most from one mark to the next, each time


def _bytes_read() -> int:
    """By this process so far, from whatever file."""
    if not Path("/proc/self/io").exists():
        pytest.skip("this system does not count what a process reads")
    return int(Path("/proc/self/io").read_text().split("rchar: ")[1].split()[0])
