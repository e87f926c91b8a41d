"""Several devices as one: the outcomes of every batch, in order, are those of the model alone."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from captioner.batch.devices import Devices
from captioner.captions import Outcome
from captioner.errors import CaptionerError, ConfigurationError
from tests.integration.null_captioner import NullCaptioner, open_null


def picture(number: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (number % 256, number // 256, 7)).save(file, "PNG")
    return file.getvalue()


PICTURES = [*map(picture, range(50)), b"no picture"]


def open_devices(number: int) -> Devices:
    return Devices(number, open_null, bundle=Path("bundle"), device="cpu", precision="auto")


def children() -> list[psutil.Process]:
    return [each for each in psutil.Process().children() if "device_process" in " ".join(each.cmdline())]


def plain(outcomes: Sequence[Outcome]) -> list[tuple[object, ...]]:
    """What can be compared: two errors of one text are not equal."""
    return [(each.source, each.caption, type(each.error), str(each.error)) for each in outcomes]


def test_every_batch_has_its_outcomes_in_order() -> None:
    devices = open_devices(2)

    @settings(max_examples=40)
    @given(batches=st.lists(st.lists(st.sampled_from(PICTURES), max_size=5), max_size=30))
    def as_of_one(batches: list[list[bytes]]) -> None:
        found = [plain(outcomes) for outcomes in devices.stream_batches(batches)]
        assert found == [plain(outcomes) for outcomes in NullCaptioner().stream_batches(batches)]

    try:
        as_of_one()
    finally:
        devices.close()
    assert not children()


def test_batches_are_taken_only_as_fast_as_they_are_done() -> None:
    devices = open_devices(2)
    taken = 0

    def batches() -> Iterator[list[bytes]]:
        nonlocal taken
        for _ in range(100):
            taken += 1
            yield PICTURES[:2]

    try:
        stream = devices.stream_batches(batches())
        for number in range(20):
            next(stream)
            assert taken <= number + 13  # those that were handed out, and twice six that are begun
    finally:
        devices.close()  # those that are begun are nobody's any more
    assert not children()


def test_large_batches_pass_in_both_directions_at_once() -> None:
    devices = open_devices(2)
    batches = [[picture(100 * number + index) + bytes(2**17) for index in range(100)] for number in range(8)]
    try:
        assert [len(outcomes) for outcomes in devices.stream_batches(batches)] == [100] * 8
    finally:
        devices.close()


def test_one_that_dies_is_told_and_the_last_one_ends_it() -> None:
    told: list[str] = []
    devices = Devices(2, open_null, bundle=Path("bundle"), device="cpu", precision="auto", tell=told.append)
    try:
        first, second = children()
        os.kill(first.pid, signal.SIGKILL)
        batches = [[each] for each in PICTURES]
        assert [outcomes[0].source for outcomes in devices.stream_batches(batches)] == PICTURES
        assert len(told) == 1
        assert "ended (Killed); the others take over." in told[0]
        os.kill(second.pid, signal.SIGKILL)
        with pytest.raises(CaptionerError, match="none is left"):
            list(devices.stream_batches(batches))
    finally:
        devices.close()


def test_a_model_that_cannot_be_opened() -> None:
    with pytest.raises(ConfigurationError, match="device 1 of 2 cannot be used: there is no such model"):
        Devices(2, open_none, bundle=Path("bundle"), device="cpu", precision="auto")
    assert not children()


def open_none(bundle: Path, device: str, precision: str, processes: int | None) -> NullCaptioner:
    raise ConfigurationError("there is no such model; name another")


@pytest.mark.parametrize(
    ("device", "before", "expected"),
    [
        ("cuda", {}, {"0 auto", "1 float32"}),
        ("cuda", {"CUDA_VISIBLE_DEVICES": "4,7,9"}, {"4 auto", "7 float32"}),
        ("cuda", {"CUDA_VISIBLE_DEVICES": "GPU-8932f937"}, {"GPU-8932f937 auto", " float32"}),  # torch then finds none
        ("cpu", {"OMP_NUM_THREADS": "3"}, {"3 auto", "3 float32"}),
        ("cpu", {}, {f"{max(1, (os.cpu_count() or 1) // 2)} {precision}" for precision in ("auto", "float32")}),
    ],
)
def test_each_process_has_its_own_gpu_or_its_share_of_threads_and_the_precision_of_the_first(
    device: str, before: dict[str, str], expected: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in before.items():
        monkeypatch.setenv(name, value)
    Devices(2, open_telling, bundle=tmp_path, device=device, precision="auto").close()
    assert {path.read_text() for path in tmp_path.iterdir()} == expected


def open_telling(bundle: Path, device: str, precision: str, processes: int | None) -> NullCaptioner:
    """Tells in a file what its process has been given."""
    name = "CUDA_VISIBLE_DEVICES" if device == "cuda" else "OMP_NUM_THREADS"
    (bundle / str(os.getpid())).write_text(f"{os.environ[name]} {precision}")
    return NullCaptioner()
