"""Reader: the same pixels as in process, and what happens to a child costs one picture at most.

Nothing is injected: children are stopped, killed and starved with what the operating system offers.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from captioner.errors import CaptionerError, ConfigurationError, ImageError, ImageTooLarge, UnreadableImage
from captioner.geometry import Geometry
from captioner.images import ImageLimits, ImageSource, read_image
from captioner.reader import Reader

Encode = Callable[..., bytes]
Draw = Callable[..., Image.Image]

GEOMETRY = Geometry(resize="shortest_side", size=64, resize_size=72)
HANGING_SECONDS = 600.0  # many times what anything takes, on a machine that has much else to do as well

needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="/proc is Linux's")


@pytest.fixture
def reader() -> Iterator[Reader]:
    with Reader(GEOMETRY, processes=1) as reader:
        yield reader


@pytest.fixture(scope="module")
def jpeg(draw: Draw, encode: Encode) -> bytes:
    return encode(draw(), "JPEG", quality=90)


def expected(source: ImageSource) -> np.ndarray:
    return np.asarray(GEOMETRY.apply(read_image(source)))


def is_running(pid: int) -> bool:
    """Whether a process exists and is no zombie (one that its parent has not yet asked about)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    try:
        return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + HANGING_SECONDS
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


# The same pixels


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_bytes_and_paths_give_the_same_pixels_as_in_process(
    image_format: str, tmp_path: Path, reader: Reader, draw: Draw, encode: Encode
) -> None:
    for seed, (width, height) in enumerate([(160, 120), (31, 200), (64, 64), (1, 1)]):
        data = encode(draw(width, height, seed), image_format)
        path = tmp_path / f"{seed}.bin"
        path.write_bytes(data)
        for source in (data, path, str(path)):
            pixels = reader.submit(source).result(HANGING_SECONDS)
            assert pixels.dtype == np.uint8
            assert pixels.shape == (64, 64, 3)
            assert np.array_equal(pixels, expected(data))


def test_relative_and_odd_paths(tmp_path: Path, reader: Reader, jpeg: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # after the children have started
    for name in ("a b.jpg", "naïve – 画.jpg", os.fsdecode(b"latin-\xe9.jpg"), "line\nbreak.jpg"):
        Path(name).write_bytes(jpeg)
        assert np.array_equal(reader.submit(name).result(HANGING_SECONDS), expected(jpeg))
    for wrong in ("missing.jpg", "surrogate\ud800.jpg", "nul\x00.jpg", ".", ""):
        with pytest.raises(UnreadableImage):
            reader.submit(wrong).result(HANGING_SECONDS)


def test_a_large_file_passes_both_ways(draw: Draw, encode: Encode) -> None:
    data = encode(draw(1500, 1200), "BMP")  # 5.4 MB, far more than a socket holds
    geometry = Geometry(size=1000)
    with Reader(geometry, processes=1) as reader:
        assert np.array_equal(reader.submit(data).result(HANGING_SECONDS), np.asarray(geometry.apply(read_image(data))))


def test_every_refusal_is_the_same_as_in_process(
    reader: Reader, damaged_files: dict[str, bytes], foreign_files: dict[str, bytes], bombs: dict[str, bytes]
) -> None:
    pids = reader.child_pids
    for name, data in {**damaged_files, **foreign_files, **bombs}.items():
        with pytest.raises(ImageError) as here:
            read_image(data)
        with pytest.raises(ImageError) as there:
            reader.submit(data).result(HANGING_SECONDS)
        assert (type(there.value), str(there.value)) == (type(here.value), str(here.value)), name
    assert reader.child_pids == pids


def test_limits_reach_the_child(jpeg: bytes) -> None:
    with Reader(GEOMETRY, processes=1, limits=ImageLimits(max_bytes=1000)) as reader:
        for data in (jpeg, bytes(50_000_000)):
            with pytest.raises(ImageTooLarge, match="1,000 bytes"):
                reader.submit(data).result(HANGING_SECONDS)
    with Reader(GEOMETRY, processes=1, limits=ImageLimits(max_pixels=1000)) as reader:
        future = reader.submit(jpeg)
        with pytest.raises(ImageTooLarge, match="1,000 pixels"):
            future.result(HANGING_SECONDS)


def test_many_threads_submit_at_once(draw: Draw, encode: Encode) -> None:
    pictures = [encode(draw(90, 70, seed), "PNG") for seed in range(12)]
    wrong: list[int] = []

    def ask(reader: Reader, start: int) -> None:
        for number in range(start, start + 24):
            pixels = reader.submit(pictures[number % 12]).result(HANGING_SECONDS)
            if not np.array_equal(pixels, expected(pictures[number % 12])):
                wrong.append(number)

    with Reader(GEOMETRY, processes=3) as reader:
        threads = [threading.Thread(target=ask, args=(reader, start)) for start in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


# What befalls a child


@pytest.mark.parametrize(
    ("number", "words"), [(signal.SIGSEGV, "Segmentation fault"), (signal.SIGKILL, "Killed"), (signal.SIGABRT, "Abort")]
)
def test_a_crash_costs_one_picture(number: signal.Signals, words: str, reader: Reader, jpeg: bytes) -> None:
    reader.submit(jpeg).result(HANGING_SECONDS)
    (pid,) = reader.child_pids
    os.kill(pid, signal.SIGSTOP)  # so that the picture is surely in its hands
    lost, waiting = reader.submit(jpeg), reader.submit(jpeg)
    wait_until(lost.running)
    os.kill(pid, number)
    os.kill(pid, signal.SIGCONT)
    with pytest.raises(UnreadableImage, match=words):
        lost.result(HANGING_SECONDS)
    assert np.array_equal(waiting.result(HANGING_SECONDS), expected(jpeg))
    assert reader.child_pids != (pid,)
    assert not is_running(pid)


def test_a_hang_costs_one_picture_and_no_other_waits_for_it(jpeg: bytes) -> None:
    with Reader(GEOMETRY, processes=2, timeout_seconds=2.0) as reader:
        for future in [reader.submit(jpeg) for _ in range(8)]:
            future.result(HANGING_SECONDS)
        stopped = reader.child_pids[0]
        os.kill(stopped, signal.SIGSTOP)
        futures = [reader.submit(jpeg) for _ in range(12)]
        failed = [error for error in (future.exception(HANGING_SECONDS) for future in futures) if error is not None]
        assert [str(error) for error in failed] == [
            "The picture could not be read (it took longer than 2 seconds): use a smaller or an intact one."
        ]
        assert isinstance(failed[0], UnreadableImage)
        assert not is_running(stopped)
        wait_until(lambda: stopped not in reader.child_pids)
        assert np.array_equal(reader.submit(jpeg).result(HANGING_SECONDS), expected(jpeg))


def test_the_time_limit_covers_handing_over_a_large_picture(jpeg: bytes) -> None:
    with Reader(GEOMETRY, processes=1, timeout_seconds=0.5) as reader:
        wait_until(lambda: reader.submit(jpeg).exception(HANGING_SECONDS) is None)
        os.kill(reader.child_pids[0], signal.SIGSTOP)
        with pytest.raises(UnreadableImage, match=r"longer than 0\.5 seconds"):
            reader.submit(bytes(10_000_000)).result(HANGING_SECONDS)


def test_hunger_for_memory_costs_one_picture(jpeg: bytes, encode: Encode) -> None:
    hungry = encode(Image.new("1", (6000, 6000)), "PNG")  # a few kilobytes; 36 MB, then 144 MB as RGB
    with Reader(GEOMETRY, processes=1, max_memory_bytes=128 * 2**20) as reader:
        future = reader.submit(hungry)
        with pytest.raises(UnreadableImage, match="more memory than is allowed"):
            future.result(HANGING_SECONDS)
        assert np.array_equal(reader.submit(jpeg).result(HANGING_SECONDS), expected(jpeg))
    with Reader(GEOMETRY, processes=1) as reader:
        assert reader.submit(hungry).result(HANGING_SECONDS).shape == (64, 64, 3)


def test_a_child_that_dies_between_pictures_costs_none(reader: Reader, jpeg: bytes) -> None:
    reader.submit(jpeg).result(HANGING_SECONDS)
    (pid,) = reader.child_pids
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not is_running(pid))
    assert np.array_equal(reader.submit(jpeg).result(HANGING_SECONDS), expected(jpeg))


def test_signals_meant_for_the_parent_leave_the_children_alone(reader: Reader, jpeg: bytes) -> None:
    reader.submit(jpeg).result(HANGING_SECONDS)
    pids = reader.child_pids
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(pids[0], number)
    assert np.array_equal(reader.submit(jpeg).result(HANGING_SECONDS), expected(jpeg))
    assert reader.child_pids == pids


def test_a_machine_that_cannot_start_children_says_so(jpeg: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with Reader(GEOMETRY, processes=1) as reader:
        for _ in range(2):
            with pytest.raises(CaptionerError, match=r"does not start \(its process ended: exit code 1\)") as caught:
                reader.submit(jpeg).result(HANGING_SECONDS)
            assert not isinstance(caught.value, ImageError), "it is not the picture's fault"
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(CaptionerError, match="cannot be started"):
        Reader(GEOMETRY, processes=2)


@needs_proc
def test_a_child_is_small_and_limited(reader: Reader, jpeg: bytes) -> None:
    reader.submit(jpeg).result(HANGING_SECONDS)
    process = Path(f"/proc/{reader.child_pids[0]}")
    maps = (process / "maps").read_text()
    assert [name for name in ("torch", "numpy") if name in maps] == []
    limits = {line[:26].strip(): line[26:].split()[:2] for line in (process / "limits").read_text().splitlines()}
    assert limits["Max address space"] == [str(2**30)] * 2
    assert limits["Max file size"] == ["0", "0"]
    assert limits["Max core file size"] == ["0", "0"]


# The end


@needs_proc
def test_closing_leaves_no_process_thread_or_descriptor(jpeg: bytes) -> None:
    threads = threading.active_count()
    descriptors = len(list(Path("/proc/self/fd").iterdir()))
    reader = Reader(GEOMETRY, processes=3)
    pids = reader.child_pids
    assert len(pids) == 3
    reader.submit(jpeg).result(HANGING_SECONDS)
    reader.close()
    reader.close()
    assert not any(is_running(pid) for pid in pids)
    assert reader.child_pids == ()
    assert threading.active_count() == threads
    assert len(list(Path("/proc/self/fd").iterdir())) == descriptors
    with pytest.raises(RuntimeError, match="closed"):
        reader.submit(jpeg)


def test_closing_at_once_cancels_what_is_not_read(jpeg: bytes) -> None:
    reader = Reader(GEOMETRY, processes=1, timeout_seconds=HANGING_SECONDS)
    reader.submit(jpeg).result(HANGING_SECONDS)
    os.kill(reader.child_pids[0], signal.SIGSTOP)
    futures = [reader.submit(jpeg) for _ in range(5)]
    wait_until(futures[0].running)
    start = time.monotonic()
    reader.close()
    assert time.monotonic() - start < 5.0, "it waited for the picture's time limit"
    for future in futures:
        with pytest.raises(CancelledError):
            future.result(0)


def test_a_reader_that_is_closed_before_it_is_ready() -> None:
    for _ in range(3):
        Reader(GEOMETRY, processes=2).close()


SCRIPT = """
import sys, time
from captioner.geometry import Geometry
from captioner.reader import Reader
reader = Reader(Geometry(size=8), processes=2)
print(reader.submit(sys.argv[1]).result().shape, *reader.child_pids, flush=True)
{end}
"""


def run_script(folder: Path, jpeg: bytes, end: str) -> tuple[subprocess.Popen[str], list[int]]:
    """Start a script that has no `if __name__ == "__main__"`, from a folder with a trap in it."""
    (folder / "picture.jpg").write_bytes(jpeg)
    (folder / "json.py").write_text("raise SystemExit('a module of the working directory was imported')")
    scripts = folder / "scripts"
    scripts.mkdir()
    (scripts / "script.py").write_text(SCRIPT.format(end=end))
    root = Path(__file__).resolve().parent.parent
    process = subprocess.Popen(
        [sys.executable, str(scripts / "script.py"), "picture.jpg"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("(8, 8, 3) "), line + process.stdout.read()
    return process, [int(word) for word in line.split(") ")[1].split()]


@pytest.mark.parametrize("end", ["reader.close()", "pass", "raise SystemExit(0)"])
def test_a_plain_script_ends_and_leaves_nothing(end: str, tmp_path: Path, jpeg: bytes) -> None:
    process, pids = run_script(tmp_path, jpeg, end)
    output, _ = process.communicate(timeout=HANGING_SECONDS)
    assert (process.returncode, output) == (0, "")
    assert not any(is_running(pid) for pid in pids)


def test_children_end_when_their_parent_is_killed(tmp_path: Path, jpeg: bytes) -> None:
    process, pids = run_script(tmp_path, jpeg, "time.sleep(600)")
    assert all(is_running(pid) for pid in pids)
    process.kill()
    process.communicate(timeout=HANGING_SECONDS)
    wait_until(lambda: not any(is_running(pid) for pid in pids))


# Streams


def test_a_stream_keeps_order_and_gives_failures_as_items(draw: Draw, encode: Encode) -> None:
    sources: list[ImageSource] = [encode(draw(40 + seed, 50, seed), "PNG") for seed in range(30)]
    sources[4], sources[17] = b"no picture", "/nowhere.jpg"
    for ahead in (1, 3, 100):
        with Reader(GEOMETRY, processes=3) as reader:
            items = list(reader.stream(iter(sources), ahead=ahead))
        assert len(items) == 30
        for number, (source, item) in enumerate(zip(sources, items, strict=True)):
            if number in (4, 17):
                assert isinstance(item, UnreadableImage)
            else:
                assert not isinstance(item, ImageError)
                assert np.array_equal(item, expected(source))


def test_a_stream_takes_no_more_sources_than_it_may(reader: Reader, jpeg: bytes) -> None:
    taken = 0

    def sources() -> Iterator[bytes]:
        nonlocal taken
        for _ in range(20):
            taken += 1
            yield jpeg

    stream = reader.stream(sources(), ahead=4)
    assert taken == 0
    for given, _ in enumerate(stream):
        assert taken - given <= 4
    assert taken == 20


def test_a_stream_survives_crashes(jpeg: bytes) -> None:
    with Reader(GEOMETRY, processes=2) as reader:
        items = []
        for number, item in enumerate(reader.stream([jpeg] * 60, ahead=6)):
            items.append(item)
            if number % 10 == 5:
                os.kill(reader.child_pids[0], signal.SIGKILL)
    assert len(items) == 60
    assert sum(isinstance(item, ImageError) for item in items) <= 6
    good = [item for item in items if not isinstance(item, ImageError)]
    assert all(np.array_equal(item, expected(jpeg)) for item in good)


def test_a_stream_that_is_left_early_stops_reading(reader: Reader, jpeg: bytes) -> None:
    stream = reader.stream([jpeg] * 1000, ahead=8)
    next(stream)
    del stream
    assert np.array_equal(reader.submit(jpeg).result(HANGING_SECONDS), expected(jpeg))


def test_what_makes_no_sense_is_refused(reader: Reader) -> None:
    with pytest.raises(ValueError, match="ahead"):
        reader.stream([], ahead=0)
    with pytest.raises(TypeError):
        reader.submit(3)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="processes"):
        Reader(GEOMETRY, processes=0)
    with pytest.raises(ConfigurationError, match="max_memory_bytes"):
        Reader(GEOMETRY, max_memory_bytes=2**20)
    with pytest.raises(ConfigurationError, match="timeout_seconds"):
        Reader(GEOMETRY, timeout_seconds=0)
