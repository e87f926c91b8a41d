"""What the benchmarks of the service share: a service in a process, its clients, and figures beside their bounds."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import io
import itertools
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import psutil
from PIL import Image

ROOT = Path(__file__).parents[2]
PHOTOS = ROOT.parent / "shared/data/flickr8k/Images"
REAL = ["-m", "captioner", "serve", "--port", "0"]
CAPACITY = 40  # of the stand-in, pictures a second, however many go together


def stand_in(capacity: float = CAPACITY, *, places: int | None = None) -> list[str]:
    """The command of a service whose captioner only sleeps; `places` is its max_waiting."""
    command = ["-m", "tests.service.serve_fake", "0", "--seconds-a-picture", str(1 / capacity), "--quiet"]
    return command if places is None else [*command, "--max-waiting", str(places)]


@dataclass(frozen=True)
class Service:
    """A service that runs: where it listens, and its process."""

    host: str
    port: int
    process: psutil.Process
    popen: subprocess.Popen[str]

    def connect(self, timeout: float = 120) -> http.client.HTTPConnection:
        """A connection, made at its first request."""
        return http.client.HTTPConnection(self.host, self.port, timeout=timeout)

    def stop(self, seconds: float = 300) -> int:
        """End it by SIGTERM; the exit code. On a machine with much other work, even that takes its time."""
        self.popen.terminate()
        return self.popen.wait(seconds)


@contextlib.contextmanager
def running(command: Sequence[str], *, log: Path | None = None) -> Iterator[Service]:
    """A service that prints its URL, ended by SIGTERM unless it has ended by then. It logs to the file `log`."""
    with contextlib.ExitStack() as stack:
        errors = subprocess.DEVNULL if log is None else stack.enter_context(log.open("w"))
        popen = subprocess.Popen([sys.executable, *command], cwd=ROOT, stdout=subprocess.PIPE, stderr=errors, text=True)
        assert popen.stdout is not None
        stack.callback(popen.stdout.close)
        try:
            line = popen.stdout.readline()
            word = next((word for word in line.split() if word.startswith("http")), None)
            if word is None:
                raise SystemExit(f"the service did not start: {line!r}")
            address = urlsplit(word)
            yield Service(address.hostname or "", address.port or 0, psutil.Process(popen.pid), popen)
        finally:
            popen.terminate()
            popen.wait(300)


def post(connection: http.client.HTTPConnection, photo: bytes) -> int:
    """The status of one request for a caption."""
    connection.request("POST", "/v1/captions", photo, {"Content-Type": "image/jpeg"})
    response = connection.getresponse()
    response.read()
    return response.status


def saturate(service: Service, photos: Sequence[bytes], clients: int) -> tuple[float, Counter[int]]:
    """Photos a second that so many clients get captioned together, and how often each status came."""
    left = iter(photos)
    lock = threading.Lock()
    statuses: Counter[int] = Counter()

    def work() -> None:
        with contextlib.closing(service.connect()) as connection:
            while True:
                with lock:
                    photo = next(left, None)
                if photo is None:
                    return
                status = post(connection, photo)
                with lock:
                    statuses[status] += 1

    threads = [threading.Thread(target=work) for _ in range(clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(photos) / (time.perf_counter() - began), statuses


def small_photo(side: int = 64) -> bytes:
    """A grey JPEG."""
    file = io.BytesIO()
    Image.fromarray(np.full((side, side, 3), 128, np.uint8)).save(file, "JPEG")
    return file.getvalue()


def caption_request(photo: bytes) -> bytes:
    """A whole request for its caption."""
    head = f"POST /v1/captions HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: {len(photo)}\r\n\r\n"
    return head.encode() + photo


HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


@dataclass(frozen=True)
class Answer:
    """What became of one request; seconds from the time at which it should have begun, and how late it did."""

    status: int
    retry_after: str | None
    seconds: float
    late_seconds: float


class Connections:
    """Open connections that one request after another may take; a new one is made when all are taken."""

    def __init__(self, service: Service) -> None:
        self._address = service.host, service.port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self, request: bytes, due: float) -> Answer:
        """Send `request` and read the answer."""
        reader, writer = self._take() or await asyncio.open_connection(*self._address)
        late_seconds = time.perf_counter() - due
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
        await reader.readexactly(int(fields["content-length"]))
        seconds = time.perf_counter() - due
        if fields.get("connection", "").lower() == "close":
            writer.close()
        else:
            self._idle.append((reader, writer))
        status = int(head[0].split()[1])
        return Answer(status=status, retry_after=fields.get("retry-after"), seconds=seconds, late_seconds=late_seconds)

    def _take(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        """The connection that was used last, unless the service has closed it since, as it does after a while."""
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof():
                return reader, writer
            writer.close()
        return None

    async def at_rate(self, requests: Sequence[bytes], a_second: float, seconds: float) -> list[Answer]:
        """Ask so often at equal distances, in turns for each of the `requests`, whether or not answers have come."""
        began = time.perf_counter()
        asked: list[asyncio.Task[Answer]] = []
        for number, request in enumerate(itertools.cycle(requests)):
            due = began + number / a_second
            if due >= began + seconds:
                break
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            asked.append(asyncio.create_task(self.ask(request, due)))
        return await asyncio.gather(*asked)

    async def close(self) -> None:
        """Close what is idle."""
        for _, writer in self._idle:
            writer.close()
            await writer.wait_closed()


def cpu_seconds(process: psutil.Process) -> float:
    """CPU seconds so far of `process` and of its living children."""
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of the `values` lie, by the nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def milliseconds(answers: Sequence[Answer], share: float = 0.99) -> float:
    """That percentile of the answers' times."""
    return round(1000 * percentile([answer.seconds for answer in answers], share), 2)


def judged(value: float, *, at_most: float | None = None, at_least: float | None = None) -> dict[str, Any]:
    """A figure beside its bound."""
    bound = {"at most": at_most} if at_most is not None else {"at least": at_least}
    kept = (at_most is None or value <= at_most) and (at_least is None or value >= at_least)
    return {"value": round(value, 3), **bound, "kept": kept}


def broken(report: Any, path: str = "") -> list[str]:  # JSON
    """Where in a report a bound was not kept."""
    if not isinstance(report, dict):
        return []
    if report.get("kept") is False:
        return [path]
    return [each for name, value in report.items() for each in broken(value, f"{path}/{name}")]


def photo_bytes(folder: Path, count: int) -> list[bytes]:
    """The first photos (*.jpg) of a folder; ends the program if there are none."""
    paths = sorted(folder.glob("*.jpg"))[:count]
    if not paths:
        raise SystemExit(f"no photos (*.jpg) in {folder}: name a folder with --photos")
    return [path.read_bytes() for path in paths]


def loads() -> list[float]:
    """The machine's load averages: what else ran."""
    return [round(each, 2) for each in os.getloadavg()]


def arguments_of(description: str | None, name: str) -> argparse.ArgumentParser:
    """A parser of a benchmark's arguments, with the one for its report."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path(f"runs/{name}.json"))
    return parser


def finish(report: dict[str, Any], output: Path) -> None:
    """Print and write the report, with the machine and its load; exit code 1 if a bound was not kept."""
    report |= {
        "processor": _processor(),
        "cores": psutil.cpu_count(),
        "load after": loads(),
        "bounds not kept": broken(report),
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=2))
    raise SystemExit(1 if report["bounds not kept"] else 0)


def _processor() -> str:
    """The model of the processor, where the system tells."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "unknown")
