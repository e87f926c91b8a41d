"""Unpack a ZIP archive of a data set: file by file, so that it can be interrupted and gone on with."""

from __future__ import annotations

import shutil
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from captioner.datasets.download import check_room
from captioner.errors import DatasetError


def unpack(archive: Path, folder: Path, wanted: Callable[[str], bool] = lambda _: True) -> int:
    """Put the wanted members of `archive` below `folder`; those that are there with their size are passed over.

    Returns:
        How many wanted members there are.

    Raises:
        DatasetError: the archive is damaged or leads out of the folder, or the disk is too small.
    """
    try:
        with zipfile.ZipFile(archive) as members:
            chosen = [member for member in members.infolist() if not member.is_dir() and wanted(member.filename)]
            missing = [member for member in chosen if not _is_there(folder, member)]
            check_room(folder, sum(member.file_size for member in missing), f"unpacking {archive.name}")
            for member in tqdm(missing, desc=f"unpacking {archive.name}", unit=" files", disable=None):
                _extract(members, member, folder)
            return len(chosen)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise DatasetError(f"{archive} is damaged ({error}); delete it to fetch it again") from error


def _is_there(folder: Path, member: zipfile.ZipInfo) -> bool:
    target = folder / _safe(member)
    return target.is_file() and target.stat().st_size == member.file_size


def _safe(member: zipfile.ZipInfo) -> PurePosixPath:
    path = PurePosixPath(member.filename)
    if path.is_absolute() or ".." in path.parts:
        raise DatasetError(f"the archive has a member that leads out of its folder, {member.filename}; do not use it")
    return path


def _extract(members: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path) -> None:
    target = folder / _safe(member)
    part = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with members.open(member) as source, part.open("wb") as copy:
            shutil.copyfileobj(source, copy)
        part.replace(target)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise DatasetError(f"{target} could not be written: {error.strerror or error}") from error
