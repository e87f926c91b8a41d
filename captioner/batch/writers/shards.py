"""WebDataset shards: tar files with each picture's bytes, its text and its row, ready to train on."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO, cast

from captioner.batch.items import Item
from captioner.batch.style import TextStyle
from captioner.batch.whole_file import UNENCODABLE, WholeBinaryFile
from captioner.batch.writers.rows import Row, Rows, captioned, in_style, one_line
from captioner.errors import ConfigurationError, ImageError, OutputError
from captioner.formats import recognise
from captioner.images import DEFAULT_LIMITS

_ENDINGS = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "GIF": "gif", "BMP": "bmp", "TIFF": "tiff"}


@dataclass(frozen=True, kw_only=True)
class ShardWriter:
    """Writes shards of `shard_size` pictures each; pictures without a caption are left out.

    The target "set.tar" gives set-000000.tar, set-000001.tar and so on. In a shard, a sample is three files that share
    a key: KEY.jpg (the picture's bytes as they are, the ending by its content), KEY.txt (the text) and KEY.json (the
    row, whose `image` is the picture's name). A key is the sample's number, since everything after the first full stop
    of a name is an ending to readers of WebDataset. All headers have time, owner and group 0.

    Args:
        shard_size: samples in a shard; the last one may have fewer.
        max_bytes: of a picture in an archive, as when it was captioned.

    Raises:
        ConfigurationError: shard_size is below 1.
    """

    shard_size: int = 10_000
    max_bytes: int = DEFAULT_LIMITS.max_bytes

    def __post_init__(self) -> None:
        if self.shard_size < 1:
            raise ConfigurationError(f"shard_size must be at least 1, not {self.shard_size}.")

    def __call__(self, rows: Rows, target: Path, style: TextStyle) -> None:
        """Write `rows` to the shards of `target`, a picture's bytes at a time.

        Raises:
            OutputError: a shard cannot be written, a picture cannot be read any more, or one shard more than this job
                has is there already: readers would take it for a part of the set.
        """
        samples = enumerate(captioned(rows))
        number = 0
        while (first := next(samples, None)) is not None:
            self._write_shard(shard_path(target, number), chain([first], islice(samples, self.shard_size - 1)), style)
            number += 1
        left = _shards_from(target, number)
        if left:
            raise OutputError(
                f"{left[0]} is of an earlier and longer set: this one has {number} shards; remove it and those after "
                "it, or write under another name."
            )

    def _write_shard(self, path: Path, samples: Iterator[tuple[int, tuple[Item, Row]]], style: TextStyle) -> None:
        # "w|" writes blocks in their order, and asks the file for no place: it may be a pipe.
        with (
            WholeBinaryFile(path) as file,
            tarfile.open(fileobj=cast(BinaryIO, file), mode="w|", format=tarfile.USTAR_FORMAT) as tar,
        ):
            for number, (item, row) in samples:
                key = f"{number:09d}"
                with _opened(item, self.max_bytes) as (picture, size, ending):
                    _add(tar, f"{key}.{ending}", picture, size)
                texts = (("txt", style.document(row)), ("json", one_line(in_style(row, style)) + "\n"))
                for ending, text in texts:
                    data = text.encode("utf-8", UNENCODABLE)
                    _add(tar, f"{key}.{ending}", BytesIO(data), len(data))


def shard_path(target: Path, number: int) -> Path:
    """Where a shard of `target` lies."""
    return target.with_name(f"{target.name.removesuffix('.tar')}-{number:06d}.tar")


def _shards_from(target: Path, number: int) -> list[Path]:
    """The shards of `target` that are there with this number or a later one, in their order."""
    pattern = re.compile(re.escape(target.name.removesuffix(".tar")) + r"-(\d{6,})\.tar")
    found = [(int(match[1]), path) for path in target.parent.iterdir() if (match := pattern.fullmatch(path.name))]
    return [path for other, path in sorted(found) if other >= number]


def _add(tar: tarfile.TarFile, name: str, content: BinaryIO, size: int) -> None:
    header = tarfile.TarInfo(name)  # time, owner and group are 0 and have no names unless one sets them
    header.size, header.mode = size, 0o644
    tar.addfile(header, content)


@contextmanager
def _opened(item: Item, max_bytes: int) -> Iterator[tuple[BinaryIO, int, str]]:
    """A picture's bytes as a file, their number, and the ending that says what they are."""
    try:
        source = item.load(max_bytes)
        with BytesIO(source) if isinstance(source, bytes) else Path(source).open("rb") as picture:
            ending = _ENDINGS[recognise(picture.read(1024))]
            size = picture.seek(0, 2)
            picture.seek(0)
            yield picture, size, ending
    except (ImageError, OSError) as error:
        raise OutputError(
            f"{item.source} has a caption but cannot be put into a shard ({error}): put it back as it was, "
            "or run the job again."
        ) from error
