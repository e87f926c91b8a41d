"""What the service does with more than it can do.

    python tests/benchmarks/bench_overload.py [--only stand-in] [--only real] [--seconds 60] [--output FILE.json]

stand-in: a captioner that sleeps 25 ms a picture is sent five times as many as it can do. Four requests may be inside
    (CAPTIONER_MAX_WAITING): the last of them waits for the others, so their number bounds the latency of all.
real: the shipped model with the default settings is sent twice what 32 clients got from it just before.

Requests are sent at fixed times whatever the answers do; latencies count from the time at which one should have begun.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.benchmarks.load import (  # noqa: E402
    CAPACITY,
    HEALTH,
    PHOTOS,
    REAL,
    Answer,
    Connections,
    Service,
    arguments_of,
    caption_request,
    finish,
    judged,
    loads,
    milliseconds,
    percentile,
    photo_bytes,
    running,
    saturate,
    small_photo,
    stand_in,
)

PLACES = 4
TIMES = 5
CLIENTS = 32
HEALTH_CHECKS_A_SECOND = 20
QUICK_MS = 100.0


async def answers(
    service: Service, requests: list[bytes], a_second: float, seconds: float, *, alone: int
) -> tuple[list[Answer], list[Answer], list[Answer]]:
    """Answers to `alone` requests of one client, to the overload after them, and to health checks during that."""
    connections, health = Connections(service), Connections(service)
    first = [await connections.ask(requests[0], time.perf_counter()) for _ in range(alone)]
    loaded, healthy = await asyncio.gather(
        connections.at_rate(requests, a_second, seconds), health.at_rate([HEALTH], HEALTH_CHECKS_A_SECOND, seconds)
    )
    await connections.close()
    await health.close()
    return first, loaded, healthy


def overload(seconds: float) -> dict[str, Any]:
    """Five times what the stand-in can do."""
    with running(stand_in(places=PLACES)) as service:
        requests = [caption_request(small_photo())]
        alone, loaded, healthy = asyncio.run(answers(service, requests, TIMES * CAPACITY, seconds, alone=200))
    accepted = [answer for answer in loaded if answer.status == 200]
    shed = [answer for answer in loaded if answer.status == 503 and answer.retry_after is not None]
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
        "unloaded p99 ms": milliseconds(alone),
        "accepted p50 ms": milliseconds(accepted, 0.5),
        "accepted p99 ms": milliseconds(accepted),
        "accepted p99 / unloaded p99": judged(milliseconds(accepted) / milliseconds(alone), at_most=5),
        "goodput / capacity": judged(len(accepted) / seconds / CAPACITY, at_least=0.8),
        "503 p50 ms": milliseconds(shed, 0.5),
        "503 p99 ms": milliseconds(shed),
        "slowest 503 ms": judged(1000 * max(answer.seconds for answer in shed), at_most=QUICK_MS),
        "/healthz p99 ms": judged(milliseconds(healthy), at_most=50),
    }


def real(photos: list[bytes], seconds: float) -> dict[str, Any]:
    """Twice what the shipped model can do."""
    with running(REAL) as service:
        saturate(service, photos[:100], CLIENTS)  # warm
        capacity, _ = saturate(service, photos, CLIENTS)
        requests = [caption_request(photo) for photo in photos]
        alone, loaded, healthy = asyncio.run(answers(service, requests, 2 * capacity, seconds, alone=20))
        after, _ = saturate(service, photos, CLIENTS)
    statuses = Counter(answer.status for answer in loaded)
    # Work that is not the service's may come and go: what it can do is measured on both sides.
    capacities = [round(each, 2) for each in (capacity, after)]
    return {
        "seconds": seconds,
        "capacity, photos a second, before and after": capacities,
        "requests": len(loaded),
        "statuses": statuses,
        "anything but 200 and 503": judged(statuses.total() - statuses[200] - statuses[503], at_most=0),
        "503 without Retry-After": judged(
            sum(answer.status == 503 and answer.retry_after is None for answer in loaded), at_most=0
        ),
        "Retry-After": sorted({answer.retry_after for answer in loaded if answer.retry_after is not None}),
        "goodput / capacity": judged(statuses[200] / seconds / (sum(capacities) / 2), at_least=0.65),
        "alone p50 ms": milliseconds(alone, 0.5),
        "accepted p50 ms": milliseconds([answer for answer in loaded if answer.status == 200], 0.5),
        "accepted p99 ms": milliseconds([answer for answer in loaded if answer.status == 200]),
        "503 p99 ms": milliseconds([answer for answer in loaded if answer.status == 503] or loaded),
        "/healthz p99 ms": milliseconds(healthy),
    }


def main() -> None:
    """Read the arguments, measure, print and write JSON."""
    parser = arguments_of(__doc__, "bench_overload")
    parser.add_argument("--only", choices=("stand-in", "real"), action="append")
    parser.add_argument("--photos", type=Path, default=PHOTOS)
    parser.add_argument("--count", type=int, default=300, help="photos for the real model")
    parser.add_argument(
        "--seconds", type=float, default=60, help="of overload of the stand-in; the real model has half"
    )
    arguments = parser.parse_args()
    wanted = arguments.only or ["stand-in", "real"]
    # A folder without photos is told before the first minute is spent.
    photos = photo_bytes(arguments.photos, arguments.count) if "real" in wanted else []
    report: dict[str, Any] = {"load before": loads()}
    if "stand-in" in wanted:
        report["stand-in"] = overload(arguments.seconds)
    if "real" in wanted:
        report["real"] = real(photos, arguments.seconds / 2)
    finish(report, arguments.output)


if __name__ == "__main__":
    main()
