"""Whether the pictures of a data set can be read, found out before anything is trained on them.

Each picture is read whole by the reading processes of captioner/reader.py. The good ones are kept in mind by path, size
and time of change, so that the next start takes as long as asking for these. The others are read again at each start:
the reason may have been a busy machine or a permission, and not the file. The digest of each file's bytes tells
pictures that stand in two splits under different names.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import PIL
from tqdm import tqdm

from captioner.datasets.lasting import made_to_last
from captioner.datasets.records import LeftOut, Record
from captioner.errors import ConfigurationError, DatasetError, ImageError
from captioner.geometry import Geometry
from captioner.reader import Reader

_AHEAD = 64
_AT_ONCE = 256  # how many findings are written together
_SMALL = Geometry(size=32)  # the pixels are thrown away


@dataclass(frozen=True, slots=True)
class Finding:
    """What reading a picture has shown: the BLAKE2b of its bytes, or why it cannot be used."""

    digest: str
    reason: str | None


Findings = dict[Path, Finding]
_Known = dict[str, tuple[int, int, str]]  # size, time of change in nanoseconds and digest, by absolute path
_Unread = tuple[Path, int, int]  # with size and time of change


def check_pictures(images: Sequence[Path], cache: Path) -> Findings:
    """Read every picture that has not been found good before.

    Args:
        cache: a folder for the good ones' digests.

    Raises:
        ConfigurationError: the cache cannot be written.
    """
    # Another version of Pillow may read other pictures.
    file = cache / f"pictures-pillow-{PIL.__version__}.jsonl"
    with made_to_last():
        findings, unread = _compare(images, _read(file))
    if unread:
        findings.update(_read_pictures(unread, file))
    return findings


def _compare(images: Sequence[Path], known: _Known) -> tuple[Findings, list[_Unread]]:
    """What is known of the pictures already, and those that must be read."""
    findings: Findings = {}
    unread: list[_Unread] = []
    folders: dict[str, str] = {}  # the absolute path of each, asked for once: there may be many pictures
    for image in images:
        path = os.fspath(image)
        try:
            status = os.stat(path)  # noqa: PTH116  # Path.stat takes twice as long
        except OSError as error:
            findings[image] = Finding("", f"The file cannot be read: {error.strerror}.")
            continue
        size, modified = status.st_size, status.st_mtime_ns
        begin = path.rfind(os.sep) + 1  # of the name
        folder = path[:begin]
        if folder not in folders:
            folders[folder] = os.path.join(os.path.abspath(folder), "")  # noqa: PTH100, PTH118
        found = known.get(folders[folder] + path[begin:])
        if found is not None and found[:2] == (size, modified):
            findings[image] = Finding(found[2], None)
        else:
            unread.append((image, size, modified))
    return findings, unread


def usable(splits: Mapping[str, Sequence[Record]], findings: Findings) -> tuple[dict[str, list[Record]], list[LeftOut]]:
    """The records whose pictures can be used, and those that cannot.

    A picture that two splits have is left to the one that is measured on: to test before dev, and to dev before train.
    """
    kept: dict[str, list[Record]] = {}
    left_out: list[LeftOut] = []
    measured: dict[str, Path] = {}
    for split in sorted(splits, key=("test", "dev", "train").index):
        kept[split] = []
        for record in splits[split]:
            finding = findings[record.image]
            twin = measured.get(finding.digest)
            if finding.reason is not None:
                left_out.append(LeftOut(record.image, split, finding.reason))
            elif twin is not None:
                left_out.append(LeftOut(record.image, split, f"The same picture is in another split, as {twin}."))
            else:
                kept[split].append(record)
        digests = {findings[record.image].digest: record.image for record in kept[split]}
        measured.update({digest: image for digest, image in digests.items() if digest})
    return {split: kept[split] for split in splits}, left_out


def write_left_out(left_out: Sequence[LeftOut], file: Path) -> None:
    """Write the list of the pictures that are left out as CSV; nothing stays of an earlier list.

    Raises:
        DatasetError: the file cannot be written.
    """
    try:
        file.unlink(missing_ok=True)
        if left_out:
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("w", encoding="utf-8", errors="backslashreplace", newline="") as lines:
                table = csv.writer(lines)
                table.writerow(["image", "split", "reason"])
                table.writerows([str(each.image), each.split, each.reason] for each in left_out)
    except OSError as error:
        raise DatasetError(f"{file} cannot be written: {error.strerror}") from error


def _read(file: Path) -> _Known:
    """What earlier checks have found good; a line that was cut off by the end of a process is passed over."""
    if not file.is_file():
        return {}
    lines = file.read_text(encoding="utf-8", errors="replace").split("\n")
    try:  # all at once, which takes a third of the time; the last line is empty
        return _by_path(json.loads(f"[{','.join(lines[:-1])}]"))
    except ValueError:
        pass
    known: _Known = {}
    for line in lines:
        try:
            known.update(_by_path([json.loads(line)]))
        except ValueError:
            continue
    return known


def _by_path(rows: list[list[Any]]) -> _Known:
    return {path: (size, modified, digest) for path, size, modified, digest in rows}


def _read_pictures(unread: Sequence[_Unread], file: Path) -> Iterator[tuple[Path, Finding]]:
    lines: list[str] = []
    images = [image for image, _, _ in unread]
    with (
        Reader(_SMALL) as reader,
        tqdm(total=len(unread), desc="checking pictures", unit=" pictures", disable=None) as bar,
    ):
        try:
            for (image, size, modified), outcome in zip(unread, reader.stream(images, ahead=_AHEAD), strict=True):
                broken = isinstance(outcome, ImageError)
                finding = Finding("", str(outcome)) if broken else Finding(_digest(image), None)
                yield image, finding
                if finding.digest:
                    place = os.path.abspath(image)  # noqa: PTH100
                    lines.append(json.dumps([place, size, modified, finding.digest]))
                if len(lines) == _AT_ONCE:
                    _append(file, lines)
                bar.update()
        finally:  # also what was found before somebody pressed Ctrl-C
            _append(file, lines)


def _digest(image: Path) -> str:
    """The digest of the bytes; a file that has gone meanwhile has none, and no twin."""
    try:
        return hashlib.blake2b(image.read_bytes(), digest_size=16).hexdigest()
    except OSError:
        return ""


def _append(file: Path, lines: list[str]) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as log:
            log.write("".join(f"{line}\n" for line in lines))
    except OSError as error:
        raise ConfigurationError(
            f"{file} cannot be written: {error.strerror}; choose another folder for the cache"
        ) from error
    lines.clear()
