"""The feature cache: computed once, resumed after an interruption, and never taken for another."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from captioner.bundle import Bundle, load_bundle
from captioner.errors import ConfigurationError, DatasetError
from captioner.geometry import Geometry
from captioner.model.engine import TorchEngine
from captioner.training.feature_cache import FeatureCache, cache_features
from tests.conftest import Draw

NUMBER = 40  # more than one batch of 32


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    bundle = load_bundle(tiny_bundle)
    return replace(bundle, preprocessing=replace(bundle.preprocessing, geometry=Geometry(size=32)))


@pytest.fixture
def pictures(tmp_path: Path, draw: Draw) -> list[Path]:
    (tmp_path / "pictures").mkdir()
    files = [tmp_path / "pictures" / f"{index:02}.png" for index in range(NUMBER)]
    for index, file in enumerate(files):
        draw(48, 40, seed=index).save(file)
    return files


@pytest.fixture
def cached(bundle: Bundle, pictures: list[Path], tmp_path: Path) -> Callable[[], FeatureCache]:
    """Opens or fills the cache of the pictures in `tmp_path/cache`."""
    return lambda: cache_features(
        bundle.model, bundle.preprocessing, pictures, tmp_path / "cache", device="cpu", precision="float32"
    )


def expected(bundle: Bundle, picture: Path, draw: Draw) -> torch.Tensor:
    engine = TorchEngine(bundle.model, precision="float32")
    image = draw(48, 40, seed=int(picture.stem))
    return engine.encode(bundle.preprocessing(image).unsqueeze(0))[0]


def test_it_holds_what_the_encoder_sees(
    bundle: Bundle, pictures: list[Path], cached: Callable[[], FeatureCache], draw: Draw
) -> None:
    cache = cached()
    assert len(cache) == NUMBER
    for index in (0, 31, 32, 39):
        features = cache[index]
        assert features.dtype == torch.float16
        assert features.shape == (9, 128)
        wanted = expected(bundle, pictures[index], draw)
        torch.testing.assert_close(features.float(), wanted, atol=1e-3 * float(wanted.abs().max()), rtol=0)


def test_a_second_run_waits_for_the_one_that_fills_the_cache(
    cached: Callable[[], FeatureCache], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = cached()
    (lock,), (progress,) = (tmp_path / "cache").glob("*.lock"), (tmp_path / "cache").glob("*.json")
    (features,) = (tmp_path / "cache").glob("*.float16")
    before = features.stat().st_mtime_ns
    progress.write_text('{"done": 32}')
    capsys.readouterr()
    told = ""
    with lock.open() as file, ThreadPoolExecutor() as threads:
        fcntl.flock(file, fcntl.LOCK_EX)  # as another run does
        second = threads.submit(cached)
        deadline = time.monotonic() + 60
        while "another run fills it, waiting" not in told and time.monotonic() < deadline and not second.done():
            time.sleep(0.01)
            told += capsys.readouterr().err
        waits = not second.done()
        progress.write_text(json.dumps({"done": NUMBER}))  # it comes to its end
        fcntl.flock(file, fcntl.LOCK_UN)
        assert waits
        assert torch.equal(second.result(timeout=60)[39], first[39])
    assert "another run fills it, waiting" in told
    assert features.stat().st_mtime_ns == before  # nothing was computed again


def test_its_size_is_announced_and_it_is_opened_silently_the_next_time(
    cached: Callable[[], FeatureCache], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = cached()
    message = capsys.readouterr().err
    size = NUMBER * 9 * 128 * 2
    assert f"{size / 1e9:.2f} GB for 40 pictures (9 x 128 float16 each)" in message
    (file,) = (tmp_path / "cache").glob("*.float16")
    assert file.stat().st_size == size
    before = file.stat().st_mtime_ns
    second = cached()
    assert capsys.readouterr().err == ""
    assert file.stat().st_mtime_ns == before
    assert torch.equal(first[7], second[7])


def test_it_goes_on_where_it_was_interrupted(
    bundle: Bundle, pictures: list[Path], cached: Callable[[], FeatureCache], tmp_path: Path, draw: Draw,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    broken = pictures[35]
    content, status = broken.read_bytes(), broken.stat()
    broken.write_bytes(b"x" * len(content))  # the same size and time: the same cache
    os.utime(broken, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(DatasetError, match=r"35\.png of the data set cannot be used"):
        cached()
    (progress,) = (tmp_path / "cache").glob("*.json")
    assert json.loads(progress.read_text()) == {"done": 32}
    (file,) = (tmp_path / "cache").glob("*.float16")
    with file.open("r+b") as opened:  # a mark in what is done: it is not computed again
        opened.write(b"\x00\x3c")
    broken.write_bytes(content)
    os.utime(broken, ns=(status.st_atime_ns, status.st_mtime_ns))
    capsys.readouterr()
    cache = cached()
    assert "32 are there already" in capsys.readouterr().err
    assert float(cache[0][0, 0]) == 1.0
    wanted = expected(bundle, pictures[35], draw)
    torch.testing.assert_close(cache[35].float(), wanted, atol=2e-2 * float(wanted.abs().max()), rtol=0)
    assert json.loads(progress.read_text()) == {"done": 40}


@pytest.mark.parametrize("damage", ["the file is shorter", "the file is gone", "the progress is gone"])
def test_a_damaged_cache_is_computed_again(cached: Callable[[], FeatureCache], tmp_path: Path, damage: str) -> None:
    cache = cached()
    whole = [cache[index] for index in range(NUMBER)]
    (file,), (progress,) = (tmp_path / "cache").glob("*.float16"), (tmp_path / "cache").glob("*.json")
    if damage == "the file is shorter":
        file.write_bytes(file.read_bytes()[:1000])
    else:
        (file if damage == "the file is gone" else progress).unlink()
    again = cached()
    for index in range(NUMBER):
        torch.testing.assert_close(again[index].float(), whole[index].float(), atol=0.05, rtol=0.05)


def test_a_change_of_anything_makes_another_file(bundle: Bundle, pictures: list[Path], tmp_path: Path) -> None:
    directory, few = tmp_path / "cache", pictures[:2]

    def number_of_files() -> int:
        return len(list(directory.glob("*.float16")))

    def fill(bundle: Bundle, pictures: list[Path]) -> None:
        cache_features(bundle.model, bundle.preprocessing, pictures, directory, device="cpu", precision="float32")

    fill(bundle, few)
    fill(bundle, few)
    assert number_of_files() == 1
    fill(bundle, few[::-1])
    assert number_of_files() == 2
    status = few[0].stat()
    os.utime(few[0], ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    fill(bundle, few)
    assert number_of_files() == 3
    fill(replace(bundle, preprocessing=replace(bundle.preprocessing, mean=(0.5, 0.5, 0.5))), few)
    assert number_of_files() == 4
    weight = next(bundle.model.encoder.parameters())
    before = weight.clone()
    weight[0, 0, 0, 0] += 1e-3
    fill(bundle, few)
    weight.copy_(before)
    assert number_of_files() == 5
    fill(bundle, few)
    assert number_of_files() == 5
    bias = bundle.model.decoder.bias
    bias[0] += 1.0  # the decoder does not matter
    fill(bundle, few)
    bias[0] -= 1.0
    assert number_of_files() == 5


def test_a_picture_that_is_missing_is_named(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"gone\.png of the data set cannot be read"):
        cache_features(bundle.model, bundle.preprocessing, [tmp_path / "gone.png"], tmp_path, device="cpu")


def test_a_disk_that_is_too_small_is_told_before_anything_is_computed(bundle: Bundle, pictures: list[Path]) -> None:
    small = Path("/sys/kernel")  # no room, on any Linux
    if not small.is_dir():
        pytest.skip("needs a file system without room")
    with pytest.raises(ConfigurationError, match=r"needs 0\.00 GB, /sys/kernel has 0\.00: choose another data\.cache"):
        cache_features(bundle.model, bundle.preprocessing, pictures, small, device="cpu")
