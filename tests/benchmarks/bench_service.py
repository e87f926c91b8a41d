"""The service under load: what a photo costs it, how long one client waits, and what it does with five times too much.

    python tests/benchmarks/bench_service.py [--only cost] [--only latency] [--only overload] [--output FILE.json]

cost: 32 clients at once, each with its next photo as soon as it has an answer; CPU seconds a photo of the service and
    its children, beside those of the folder job's corridor (`Captioner.stream`) on the same photos, in turns.
latency: one client, beside reading, encoder and search of the same photo in this process, in turns.
overload: a stand-in for the captioner that sleeps 25 ms a picture is sent five times as many as it can do, at fixed
    times whatever the answers do; latencies count from the time at which a request should have begun.

Of the overload, each bound stands beside its figure. Start-up is left out of everything.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import io
import itertools
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import psutil
from PIL import Image

from captioner.captions import Caption
from captioner.prediction import Captioner

ROOT = Path(__file__).parents[2]
CLIENTS = 32
BLOCK = 20  # photos by which the one client and this process take turns
CAPACITY = 40  # of the stand-in, pictures a second, however many go together
# Requests inside the service. The last one waits for the others, so their number is what bounds the latency of all.
PLACES = 4
TIMES = 5
QUICK_SECONDS = 0.1


def cpu_seconds(process: psutil.Process) -> float:
    """CPU seconds so far of `process` and of its living children."""
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def percentile(values: list[float], share: float) -> float:
    """The value below which `share` of the `values` lie, by the nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


@contextlib.contextmanager
def running(command: list[str]) -> Iterator[tuple[str, int, psutil.Process]]:
    """Host, port and process of a service that prints its URL, ended by SIGTERM."""
    process = subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        word = next((word for word in line.split() if word.startswith("http")), None)
        if word is None:
            raise SystemExit(f"the service did not start: {line!r}")
        address = urlsplit(word)
        yield address.hostname or "", address.port or 0, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()


def post(connection: http.client.HTTPConnection, photo: bytes) -> int:
    """The status of one request for a caption."""
    connection.request("POST", "/v1/captions", photo, {"Content-Type": "image/jpeg"})
    response = connection.getresponse()
    response.read()
    return response.status


def saturate(host: str, port: int, photos: list[bytes]) -> tuple[float, dict[int, int]]:
    """Photos a second that 32 clients get captioned together, and how often each status came."""
    left = iter(photos)
    lock = threading.Lock()
    statuses: dict[int, int] = {}

    def work() -> None:
        with contextlib.closing(http.client.HTTPConnection(host, port, timeout=120)) as connection:
            while True:
                with lock:
                    photo = next(left, None)
                if photo is None:
                    return
                status = post(connection, photo)
                with lock:
                    statuses[status] = statuses.get(status, 0) + 1

    threads = [threading.Thread(target=work) for _ in range(CLIENTS)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(photos) / (time.perf_counter() - began), statuses


def serve_command(*options: str) -> list[str]:
    """The real service, with a thread for every client and some to spare."""
    return ["-m", "captioner", "serve", "--port", "0", "--threads", str(2 * CLIENTS + 8), *options]


def cost(captioner: Captioner, photos: list[bytes], rounds: int) -> dict[str, Any]:
    """CPU seconds a photo of the service at saturation and of the folder job's corridor."""
    here = psutil.Process()
    services: list[float] = []
    folders: list[float] = []
    rates: list[float] = []
    statuses: dict[int, int] = {}
    with running(serve_command()) as (host, port, service):
        saturate(host, port, photos[: 2 * CLIENTS])  # warm
        for _ in captioner.stream(photos[: 2 * CLIENTS]):
            pass
        for _ in range(rounds):
            before = cpu_seconds(here)
            for _ in captioner.stream(photos):
                pass
            folders.append((cpu_seconds(here) - before) / len(photos))
            before = cpu_seconds(service)
            rate, found = saturate(host, port, photos)
            services.append((cpu_seconds(service) - before) / len(photos))
            rates.append(rate)
            statuses = {status: statuses.get(status, 0) + found.get(status, 0) for status in {*statuses, *found}}
        metrics = batch_sizes(host, port)
    return {
        "clients": CLIENTS,
        "photos": len(photos),
        "rounds": rounds,
        "statuses": statuses,
        "photos a second": round(statistics.median(rates), 2),
        "pictures a batch": metrics,
        "service: cpu ms a photo": round(1000 * statistics.median(services), 2),
        "folder: cpu ms a photo": round(1000 * statistics.median(folders), 2),
        "service / folder": judged(statistics.median(services) / statistics.median(folders), at_most=1.35),
    }


def batch_sizes(host: str, port: int) -> float | None:
    """The mean size of a batch since the service's start, by its own metrics."""
    with contextlib.closing(http.client.HTTPConnection(host, port, timeout=20)) as connection:
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
    values = {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")}
    count = values.get("captioner_batch_size_count")
    return round(values["captioner_batch_size_sum"] / count, 2) if count else None


def latency(captioner: Captioner, photos: list[bytes]) -> dict[str, Any]:
    """Milliseconds that one client waits, beside the work itself in this process."""
    inside: list[float] = []
    outside: list[float] = []

    def caption(photo: bytes) -> list[Caption]:
        return captioner.caption_features(captioner.encode(captioner.read(photo).result()[None]))

    with running(serve_command()) as (host, port, _):
        connection = http.client.HTTPConnection(host, port, timeout=60)
        work: list[tuple[Callable[[bytes], object], list[float]]] = [
            (caption, inside),
            (lambda photo: post(connection, photo), outside),
        ]
        for number in range(0, len(photos), BLOCK):
            for function, seconds in work:
                function(photos[0])  # the processor's caches and the other's idle threads settle
                for photo in photos[number : number + BLOCK]:
                    began = time.perf_counter()
                    function(photo)
                    seconds.append(time.perf_counter() - began)
        connection.close()
    return {
        "photos": len(photos),
        "in process: p50 ms": round(1000 * percentile(inside, 0.5), 2),
        "service: p50 ms": round(1000 * percentile(outside, 0.5), 2),
        "service: p99 ms": round(1000 * percentile(outside, 0.99), 2),
        "service / in process": judged(percentile(outside, 0.5) / percentile(inside, 0.5), at_most=1.3),
    }


@dataclass(frozen=True)
class Answer:
    """What became of one request; seconds from the time at which it should have begun, and how late it did."""

    status: int
    retry_after: str | None
    seconds: float
    late_seconds: float


class Connections:
    """Open connections that one request after another may take; a new one is made when all are taken."""

    def __init__(self, host: str, port: int) -> None:
        self._address = host, port
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self, request: bytes, due: float) -> Answer:
        """Send `request` and read the answer."""
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection(*self._address)
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

    async def close(self) -> None:
        """Close what is idle."""
        for _, writer in self._idle:
            writer.close()
            await writer.wait_closed()


async def at_rate(connections: Connections, request: bytes, a_second: float, seconds: float) -> list[Answer]:
    """Ask so often at equal distances, whether or not the answers have come."""
    began = time.perf_counter()
    asked: list[asyncio.Task[Answer]] = []
    for number in itertools.count():
        due = began + number / a_second
        if due >= began + seconds:
            break
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        asked.append(asyncio.create_task(connections.ask(request, due)))
    return await asyncio.gather(*asked)


async def overload_answers(host: str, port: int, seconds: float) -> tuple[list[Answer], list[Answer], list[Answer]]:
    """Answers of one client alone, of the overload, and of the health check during that."""
    picture = io.BytesIO()
    Image.fromarray(np.full((64, 64, 3), 128, np.uint8)).save(picture, "JPEG")
    body = picture.getvalue()
    head = f"POST /v1/captions HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: {len(body)}\r\n\r\n"
    request = head.encode() + body
    connections, health = Connections(host, port), Connections(host, port)
    alone = [await connections.ask(request, time.perf_counter()) for _ in range(100)]
    loaded, healthy = await asyncio.gather(
        at_rate(connections, request, TIMES * CAPACITY, seconds),
        at_rate(health, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 20, seconds),
    )
    await connections.close()
    await health.close()
    return alone, loaded, healthy


def overload(seconds: float) -> dict[str, Any]:
    """Five times what the stand-in can do."""
    nap = ["--seconds-a-picture", str(1 / CAPACITY)]
    stand_in = ["-m", "tests.service.serve_fake", "0", *nap, "--max-waiting", str(PLACES), "--quiet"]
    with running(stand_in) as (host, port, _):
        alone, loaded, healthy = asyncio.run(overload_answers(host, port, seconds))
    accepted = [answer.seconds for answer in loaded if answer.status == 200]
    shed = [answer.seconds for answer in loaded if answer.status == 503 and answer.retry_after is not None]
    unloaded = percentile([answer.seconds for answer in alone], 0.99)
    return {
        "seconds": seconds,
        "places": PLACES,
        "requests": len(loaded),
        "accepted": len(accepted),
        "503 with Retry-After": len(shed),
        "Retry-After": sorted({answer.retry_after for answer in loaded if answer.retry_after is not None}),
        "anything else": judged(len(loaded) - len(accepted) - len(shed), at_most=0),
        # on a machine with other work, this part of the latencies is not the service's
        "begun late: p99 ms": round(1000 * percentile([answer.late_seconds for answer in loaded], 0.99), 2),
        "unloaded p99 ms": round(1000 * unloaded, 2),
        "accepted p99 ms": round(1000 * percentile(accepted, 0.99), 2),
        "accepted p99 / unloaded p99": judged(percentile(accepted, 0.99) / unloaded, at_most=5),
        "goodput / capacity": judged(len(accepted) / seconds / CAPACITY, at_least=0.8),
        "503 p99 ms": round(1000 * percentile(shed, 0.99), 2),
        "slowest 503 ms": judged(1000 * max(shed), at_most=1000 * QUICK_SECONDS),
        "/healthz p99 ms": judged(1000 * percentile([answer.seconds for answer in healthy], 0.99), at_most=50),
    }


def judged(value: float, *, at_most: float | None = None, at_least: float | None = None) -> dict[str, Any]:
    """A figure beside its bound."""
    bound = {"at most": at_most} if at_most is not None else {"at least": at_least}
    kept = (at_most is None or value <= at_most) and (at_least is None or value >= at_least)
    return {"value": round(value, 3), **bound, "kept": kept}


def main() -> None:
    """Read the arguments, measure, print and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("cost", "latency", "overload"), action="append")
    parser.add_argument("--photos", type=Path, default=Path("../shared/data/flickr8k/Images"))
    parser.add_argument("--count", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=60, help="of overload")
    parser.add_argument("--output", type=Path, default=Path("runs/bench_service.json"))
    arguments = parser.parse_args()
    wanted = arguments.only or ["cost", "latency", "overload"]
    paths = sorted(arguments.photos.glob("*.jpg"))[: arguments.count]
    report: dict[str, Any] = {"cores": psutil.cpu_count(), "load before": [round(each, 2) for each in os.getloadavg()]}
    if not paths and wanted != ["overload"]:
        print(f"no photos (*.jpg) in {arguments.photos}: overload only", file=sys.stderr)
        wanted = ["overload"]  # a machine without the project's photos skips the rest
    if "cost" in wanted or "latency" in wanted:
        photos = [path.read_bytes() for path in paths]
        with Captioner.from_bundle() as captioner:
            report["encoder precision here"] = captioner.precision
            if "cost" in wanted:
                report["cost"] = cost(captioner, photos, arguments.rounds)
            if "latency" in wanted:
                report["latency"] = latency(captioner, photos[: 5 * BLOCK])
    if "overload" in wanted:
        report["overload"] = overload(arguments.seconds)
    report["load after"] = [round(each, 2) for each in os.getloadavg()]
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
