"""What a photo costs the service, and how long one client waits.

    python tests/benchmarks/bench_service.py [--only cost] [--only latency] [--photos DIR] [--output FILE.json]

cost: 32 clients at once, each with its next photo as soon as it has an answer; CPU seconds a photo of the service and
    its children, beside those of the folder job's corridor (`Captioner.stream`) on the same photos, in turns.
latency: one client, beside reading, encoder and search of the same photo in this process, in turns.

Ratios are those of each round; their median is judged, and all are shown. Start-up is left out of everything.
"""

from __future__ import annotations

import contextlib
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from captioner.captions import Caption  # noqa: E402
from captioner.prediction import Captioner  # noqa: E402
from tests.benchmarks.load import (  # noqa: E402
    PHOTOS,
    REAL,
    Service,
    arguments_of,
    cpu_seconds,
    finish,
    judged,
    loads,
    percentile,
    photo_bytes,
    post,
    running,
    saturate,
)

CLIENTS = 32
BLOCK = 20  # photos by which the one client and this process take turns


def cost(captioner: Captioner, photos: list[bytes], rounds: int) -> dict[str, Any]:
    """CPU seconds a photo of the service at saturation and of the folder job's corridor."""
    here = psutil.Process()
    services: list[float] = []
    folders: list[float] = []
    rates: list[float] = []
    statuses: Counter[int] = Counter()
    with running(REAL) as service:
        saturate(service, photos[: 2 * CLIENTS], CLIENTS)  # warm
        for _ in captioner.stream(photos[: 2 * CLIENTS]):
            pass
        for _ in range(rounds):
            before = cpu_seconds(here)
            for _ in captioner.stream(photos):
                pass
            folders.append((cpu_seconds(here) - before) / len(photos))
            before = cpu_seconds(service.process)
            rate, found = saturate(service, photos, CLIENTS)
            services.append((cpu_seconds(service.process) - before) / len(photos))
            rates.append(rate)
            statuses += found
        pictures = batch_size(service)
    ratios = [each / folder for each, folder in zip(services, folders, strict=True)]
    return {
        "clients": CLIENTS,
        "photos": len(photos),
        "rounds": rounds,
        "statuses": statuses,
        "anything but 200": judged(statuses.total() - statuses[200], at_most=0),
        "photos a second": [round(each, 2) for each in rates],
        "pictures a batch": pictures,
        "service: cpu ms a photo": [round(1000 * each, 2) for each in services],
        "folder: cpu ms a photo": [round(1000 * each, 2) for each in folders],
        "service / folder, each round": [round(each, 3) for each in ratios],
        "service / folder, median": judged(statistics.median(ratios), at_most=1.35),
    }


def batch_size(service: Service) -> float | None:
    """The mean size of a batch since the service's start, by its own metrics."""
    with contextlib.closing(service.connect()) as connection:
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
    values = {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")}
    count = values.get("captioner_batch_size_count")
    return round(values["captioner_batch_size_sum"] / count, 2) if count else None


def latency(captioner: Captioner, photos: list[bytes]) -> dict[str, Any]:
    """Milliseconds that one client waits, beside the work itself in this process."""
    inside: list[list[float]] = []  # by blocks
    outside: list[list[float]] = []

    def caption(photo: bytes) -> list[Caption]:
        return captioner.caption_features(captioner.encode(captioner.read(photo).result()[None]))

    with running(REAL) as service, contextlib.closing(service.connect()) as connection:
        work: list[tuple[Callable[[bytes], object], list[list[float]]]] = [
            (caption, inside),
            (lambda photo: post(connection, photo), outside),
        ]
        for number in range(0, len(photos), BLOCK):
            for function, blocks in work:
                function(photos[0])  # the processor's caches and the other's idle threads settle
                blocks.append([])
                for photo in photos[number : number + BLOCK]:
                    began = time.perf_counter()
                    function(photo)
                    blocks[-1].append(time.perf_counter() - began)
    ratios = [percentile(out, 0.5) / percentile(own, 0.5) for out, own in zip(outside, inside, strict=True)]
    everything = [each for block in outside for each in block]
    return {
        "photos": len(photos),
        "in process: p50 ms": round(1000 * percentile([each for block in inside for each in block], 0.5), 2),
        "service: p50 ms": round(1000 * percentile(everything, 0.5), 2),
        "service: p99 ms": round(1000 * percentile(everything, 0.99), 2),
        "service / in process, p50 of each block": [round(each, 3) for each in ratios],
        "service / in process, median": judged(statistics.median(ratios), at_most=1.3),
    }


def main() -> None:
    """Read the arguments, measure, print and write JSON."""
    parser = arguments_of(__doc__, "bench_service")
    parser.add_argument("--only", choices=("cost", "latency"), action="append")
    parser.add_argument("--photos", type=Path, default=PHOTOS)
    parser.add_argument("--count", type=int, default=400, help="photos of a round")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    wanted = arguments.only or ["cost", "latency"]
    photos = photo_bytes(arguments.photos, arguments.count)
    report: dict[str, Any] = {"load before": loads()}
    with Captioner.from_bundle() as captioner:
        report["encoder precision here"] = captioner.precision
        if "cost" in wanted:
            report["cost"] = cost(captioner, photos, arguments.rounds)
        if "latency" in wanted:
            report["latency"] = latency(captioner, photos[: 10 * BLOCK])
    finish(report, arguments.output)


if __name__ == "__main__":
    main()
