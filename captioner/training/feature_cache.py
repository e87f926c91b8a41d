"""FeatureCache: what a frozen encoder sees in each picture, computed once.

One memory-mapped file of float16, (images, P, C), with a small JSON file beside it that says how far it has come, and
one that is locked by the run that fills it. The file's name is a digest of the encoder's weights, the preprocessing and
the pictures' names, sizes and times, so that a change of any of them makes another file.
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import json
import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import click
import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from captioner.errors import ConfigurationError, DatasetError, ImageError
from captioner.model.caption_model import CaptionModel
from captioner.model.engine import TorchEngine
from captioner.preprocessing import Preprocessing
from captioner.reader import Reader

_BATCH = 32


class FeatureCache:
    """The grid features of a list of pictures; `cache[i]` is (P, C) float16."""

    def __init__(self, file: Path, shape: tuple[int, int, int]) -> None:
        self._array = np.memmap(file, dtype=np.float16, mode="r", shape=shape)

    def __len__(self) -> int:
        return int(self._array.shape[0])

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(np.array(self._array[index]))  # a copy: the file is read-only


def cache_features(
    model: CaptionModel,
    preprocessing: Preprocessing,
    images: Sequence[Path],
    directory: Path,
    *,
    device: str,
    precision: str = "auto",
) -> FeatureCache:
    """Open the cache of `images` in `directory`; what it lacks is computed first, from where it was interrupted.

    `device` and `precision` are those of a `TorchEngine`.

    Raises:
        ConfigurationError: the disk is too small.
        DatasetError: a picture cannot be read.
    """
    engine = TorchEngine(model, device=device, precision=precision)
    size = preprocessing.geometry.size
    with torch.no_grad():
        places = engine.encode(torch.zeros(1, 3, size, size)).shape[1]
    shape = (len(images), places, model.encoder.channels)
    key = _key(model, engine.precision, preprocessing, images)
    file, progress = directory / f"{key}.float16", directory / f"{key}.json"
    done = _done(file, progress, shape)
    if done < len(images):
        _announce(file, shape, done)
        with _alone(file.with_suffix(".lock")):
            done = _done(file, progress, shape)  # another run may have filled it meanwhile
            if done < len(images):
                _fill(engine, preprocessing, images, file, progress, shape, done)
    return FeatureCache(file, shape)


def _done(file: Path, progress: Path, shape: tuple[int, int, int]) -> int:
    """How many pictures are in the cache."""
    whole = file.is_file() and file.stat().st_size == 2 * math.prod(shape)  # it has its full size from the start
    return int(json.loads(progress.read_text())["done"]) if whole and progress.is_file() else 0


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Keep other runs from the same cache; the lock ends with the process that has it."""
    with lock.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            click.echo(f"feature cache {lock.with_suffix('.float16')}: another run fills it, waiting", err=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _key(model: CaptionModel, precision: str, preprocessing: Preprocessing, images: Sequence[Path]) -> str:
    digest = hashlib.sha256(json.dumps(preprocessing.to_dict(), sort_keys=True).encode())
    digest.update(f"{model.encoder.configuration} {precision}".encode())
    for name, tensor in model.encoder.state_dict().items():
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    for image in images:
        try:
            status = image.stat()
        except OSError as error:
            raise DatasetError(f"picture {image} of the data set cannot be read: {error.strerror}") from error
        digest.update(f"{image.name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()[:16]


def _announce(file: Path, shape: tuple[int, int, int], done: int) -> None:
    images, places, channels = shape
    size = images * places * channels * 2
    click.echo(
        f"feature cache {file}: {size / 1e9:.2f} GB for {images} pictures ({places} x {channels} float16 each)"
        + (f", {done} are there already" if done else ""),
        err=True,
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    # The file is sparse: only its blocks are taken from the disk already. (A map of a full disk ends the process.)
    free = shutil.disk_usage(file.parent).free + (file.stat().st_blocks * 512 if file.is_file() else 0)
    if free < size:
        raise ConfigurationError(
            f"the feature cache needs {size / 1e9:.2f} GB, {file.parent} has {free / 1e9:.2f}: choose another "
            "data.cache"
        )


def _fill(
    engine: TorchEngine,
    preprocessing: Preprocessing,
    images: Sequence[Path],
    file: Path,
    progress: Path,
    shape: tuple[int, int, int],
    done: int,
) -> None:
    array = np.memmap(file, dtype=np.float16, mode="r+" if done else "w+", shape=shape)
    with (
        Reader(preprocessing.geometry) as reader,
        tqdm(total=len(images), initial=done, desc="features", unit="picture", disable=None) as bar,
    ):
        pictures = reader.stream(images[done:], ahead=2 * _BATCH)
        while batch := list(itertools.islice(pictures, _BATCH)):
            pixels = []
            for image, picture in zip(images[done:], batch, strict=False):
                if isinstance(picture, ImageError):
                    raise DatasetError(f"picture {image} of the data set cannot be used: {picture}")
                pixels.append(picture)
            features = engine.encode(preprocessing.numbers(torch.from_numpy(np.stack(pixels))))
            array[done : done + len(batch)] = features.to(torch.float16).cpu().numpy()
            array.flush()
            done += len(batch)
            temporary = progress.with_suffix(".part")
            temporary.write_text(json.dumps({"done": done}))
            temporary.replace(progress)
            bar.update(len(batch))
