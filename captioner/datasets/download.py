"""Fetch large files over HTTP: resumed where they broke off, whole or absent, and the same ones ever after.

A file grows as NAME.part and gets its name when it is complete. Its SHA-256 is written to SHA256SUMS beside it (which
`sha256sum -c` reads) when it is there for the first time, and compared whenever it is asked for again. A resumed
download is continued only if the server says that it still has the same file (RFC 9110, If-Range), and begins anew if
the server knows no ranges.
"""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import json
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from tqdm import tqdm

from captioner.errors import DatasetError

SUMS = "SHA256SUMS"
_CHUNK_BYTES = 2**20
_MAX_PAUSE_SECONDS = 60.0
_WORTH_TRYING_AGAIN = (408, 425, 429, 500, 502, 503, 504)
_BROKEN = (OSError, http.client.HTTPException)  # what a connection may end with


class _CutOff(Exception):
    """The file is not complete yet: worth another attempt."""


def download(
    url: str, target: Path, *, attempts: int = 6, pause_seconds: float = 1.0, timeout_seconds: float = 60.0
) -> None:
    """Put the file at `url` at `target`, unless it is there already.

    Args:
        attempts: how many connections in a row may end without more than there has been before.
        pause_seconds: before the second attempt; each further pause is twice as long, up to a minute.
        timeout_seconds: how long a connection may be silent.

    Raises:
        DatasetError: the server has no such file or cannot be reached, the disk is too small, somebody else is
            fetching the same file, or the file is another one than it was the first time.
    """
    if target.exists():
        check_sum(target)
        return
    part = _part(target)
    with _locked(part) as file:
        failures, most = 0, part.stat().st_size
        while True:
            try:
                _fetch(url, part, file, timeout_seconds)
                break
            except (_CutOff, *_BROKEN) as error:
                failures = 1 if part.stat().st_size > most else failures + 1
                most = max(most, part.stat().st_size)  # beginning anew again and again is no progress
                if failures >= attempts:
                    raise DatasetError(
                        f"{url} could not be fetched ({_reason(error)}); {part.stat().st_size:,} bytes of it are kept: "
                        "run the same command again to go on"
                    ) from error
                time.sleep(min(_MAX_PAUSE_SECONDS, pause_seconds * 2 ** (failures - 1)))
        check_sum(part, target.name)
        part.replace(target)
        _notes(part).unlink(missing_ok=True)


def size_of(url: str, *, attempts: int = 3, pause_seconds: float = 1.0, timeout_seconds: float = 60.0) -> int:
    """How many bytes the file at `url` has, as the server says.

    Raises:
        DatasetError: the server has no such file, cannot be reached, or does not say.
    """
    request = _request(url, method="HEAD")
    for attempt in range(attempts):
        try:
            with _open(request, timeout_seconds) as answer:
                length = _length(answer)
            if length is None:
                raise DatasetError(f"{url}: the server does not say how large the file is; use another source")
            return length
        except _BROKEN as error:
            reason = error
            time.sleep(pause_seconds * 2**attempt if attempt + 1 < attempts else 0)
    raise DatasetError(f"{url} cannot be reached ({_reason(reason)}); check the connection") from reason


def check_room(folder: Path, needed: int, what: str) -> None:
    """Refuse to begin what the disk cannot hold.

    Raises:
        DatasetError: fewer than `needed` bytes are free.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DatasetError(
            f"{what} needs {needed / 1e9:.2f} GB, and the disk of {folder} has {free / 1e9:.2f} GB free: make room, or "
            "choose another folder"
        )


def check_sum(file: Path, name: str | None = None) -> None:
    """Compare a file with the SHA-256 of its first time, which is recorded if there is none yet.

    Args:
        name: what the file will be called; None: what it is called.

    Raises:
        DatasetError: it is another file than the first time, or the list cannot be read or written.
    """
    name, sums = name or file.name, file.with_name(SUMS)
    try:
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        lines = sums.read_text(encoding="utf-8").splitlines() if sums.is_file() else []
        recorded = {line[66:]: line[:64] for line in lines}
        if name not in recorded:
            with sums.open("a", encoding="utf-8") as log:
                log.write(f"{digest}  {name}\n")
    except OSError as error:
        raise DatasetError(f"{error.filename or sums} cannot be read or written: {error.strerror}") from error
    if recorded.get(name, digest) != digest:
        raise DatasetError(
            f"{file} is not what {name} was the first time: its sha256 begins with {digest[:12]}, {sums} has "
            f"{recorded[name][:12]}; delete {file} to fetch it again, or that line if there is a new edition"
        )


def _fetch(url: str, part: Path, file: FileIO, timeout_seconds: float) -> None:
    """One connection: append to the part what is missing, or all of it. Returns when the file is complete."""
    have, notes = file.seek(0, 2), _read_notes(part)
    if notes is None:
        have = 0  # nothing is known of what it is a part of
    elif have and have == notes["total"]:
        return  # the process ended before it could give the file its name
    headers = {}
    if have and notes is not None:
        headers["Range"] = f"bytes={have}-"
        if notes["validator"]:
            headers["If-Range"] = str(notes["validator"])
    try:
        answer = _open(_request(url, headers=headers), timeout_seconds)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        _forget(part, file)
        raise _CutOff("the file is shorter than it was said to be") from error
    with answer:
        if answer.status != 206:
            have, total = 0, _length(answer)
        else:
            total = _total(answer, have)
            if notes is None or total != notes["total"]:
                _forget(part, file)
                raise _CutOff("the file has changed on the server")
        _prepare(url, part, file, answer, have, total)
        _copy(answer, part, file, have, total)
    if total is not None and file.tell() < total:
        raise _CutOff(f"the connection ended after {file.tell():,} of {total:,} bytes")


def _prepare(
    url: str, part: Path, file: FileIO, answer: http.client.HTTPResponse, have: int, total: int | None
) -> None:
    """Check the room on the disk, and note what the part will be a part of."""
    if total is not None:
        check_room(part.parent, total - have, url)
    validator = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
    if validator.startswith("W/"):  # a weak one does not vouch for the bytes
        validator = ""
    try:
        if not have:
            file.truncate(0)
            file.seek(0)
        _notes(part).write_text(json.dumps({"url": url, "total": total, "validator": validator}), encoding="utf-8")
    except OSError as error:
        raise _unwritten(part, error) from error


def _copy(answer: http.client.HTTPResponse, part: Path, file: FileIO, have: int, total: int | None) -> None:
    name = part.name.removesuffix(".part")
    with tqdm(total=total, initial=have, unit="B", unit_scale=True, desc=name, disable=None) as bar:
        while chunk := answer.read(_CHUNK_BYTES):
            try:
                rest = memoryview(chunk)
                while rest:  # a disk that is nearly full may take less than it is given
                    rest = rest[file.write(rest) :]
            except OSError as error:
                raise _unwritten(part, error) from error
            bar.update(len(chunk))


def _request(url: str, *, method: str = "GET", headers: Mapping[str, str] | None = None) -> urllib.request.Request:
    if not url.startswith(("http://", "https://")):
        raise DatasetError(f"{url} is no address of a file; begin it with http:// or https://")
    return urllib.request.Request(url, method=method, headers={"Accept-Encoding": "identity", **(headers or {})})


def _length(answer: http.client.HTTPResponse) -> int | None:
    """The size of what follows; None where the server does not say."""
    length = answer.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def _total(answer: http.client.HTTPResponse, have: int) -> int | None:
    """The size of the whole file of which a part follows; None if it is not the part that was asked for."""
    unit, _, rest = answer.headers.get("Content-Range", "").partition(" ")
    place, _, total = rest.partition("/")
    right = unit == "bytes" and place.startswith(f"{have}-") and total.isdecimal()
    return int(total) if right else None


def _open(request: urllib.request.Request, timeout_seconds: float) -> http.client.HTTPResponse:
    """The server's answer; a refusal that will not change is a DatasetError."""
    try:
        answer: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=timeout_seconds)
        return answer
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == 416 or error.code in _WORTH_TRYING_AGAIN:
            raise
        raise DatasetError(
            f"{request.full_url} is not to be had: the server answers {error.code} {error.reason}; check the address"
        ) from error


@contextmanager
def _locked(part: Path) -> Iterator[FileIO]:
    """The partial file, open at its end for this process alone."""
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        file = part.open("ab", buffering=0)
    except OSError as error:
        raise _unwritten(part, error) from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DatasetError(f"{part} is being fetched by another process; wait for it") from error
        yield file


def _part(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def _notes(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _read_notes(part: Path) -> dict[str, object] | None:
    with suppress(OSError, ValueError, KeyError, TypeError):
        notes = json.loads(_notes(part).read_text(encoding="utf-8"))
        return {"total": notes["total"], "validator": notes["validator"]}
    return None


def _forget(part: Path, file: FileIO) -> None:
    file.truncate(0)
    _notes(part).unlink(missing_ok=True)


def _unwritten(path: Path, error: OSError) -> DatasetError:
    return DatasetError(f"{path} could not be written: {error.strerror or error}; what has come is kept")


def _reason(error: BaseException) -> str:
    if isinstance(error, urllib.error.URLError) and not isinstance(error, urllib.error.HTTPError):
        error = error.reason if isinstance(error.reason, BaseException) else error
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
