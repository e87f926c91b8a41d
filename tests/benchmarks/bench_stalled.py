"""Clients that stall: what they cost those that do not.

    python tests/benchmarks/bench_stalled.py [--header 200] [--body 200] [--rounds 3] [--seconds 8] [--output FILE.json]

So many clients stop in the middle of the headers and so many in the middle of the body; each sends a byte now and then,
so that the service does not take it for dead. Meanwhile others ask a stand-in captioner that takes 25 ms a picture, 10
times a second. Rounds with and without the stalled ones take turns, in one service; the median of the ratios is judged.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.benchmarks.load import (  # noqa: E402
    Answer,
    Connections,
    Service,
    arguments_of,
    caption_request,
    finish,
    judged,
    loads,
    milliseconds,
    running,
    small_photo,
    stand_in,
)

A_SECOND = 10.0
DRIP_SECONDS = 4.0  # between two bytes of a client
SETTLE_SECONDS = 1.0  # after so many connections at once, which are not what is measured
HEAD = b"POST /v1/captions HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nContent-Length: 100000\r\nX-Long: "


@contextlib.asynccontextmanager
async def stalled(service: Service, header: int, body: int) -> AsyncIterator[None]:
    """So many clients of each kind, as long as the context."""
    writers: list[asyncio.StreamWriter] = []

    async def drip() -> None:
        while writers:
            for writer in writers:
                writer.write(b"x")
                await asyncio.sleep(DRIP_SECONDS / len(writers))

    for number in range(header + body):
        _, writer = await asyncio.open_connection(service.host, service.port)
        writer.write(HEAD if number < header else HEAD + b"\r\n\r\n" + bytes(100))
        writers.append(writer)
    dripping = asyncio.create_task(drip())
    await asyncio.sleep(SETTLE_SECONDS)
    try:
        yield
    finally:
        dripping.cancel()
        for writer in writers:
            writer.close()
        for writer in writers:
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def rounds_of(
    service: Service, header: int, body: int, rounds: int, seconds: float
) -> tuple[list[list[Answer]], list[list[Answer]]]:
    """The answers of each round without and with the stalled clients."""
    requests = [caption_request(small_photo())]
    connections = Connections(service)
    await connections.at_rate(requests, A_SECOND, 1)  # warm
    without, among = [], []
    for _ in range(rounds):
        without.append(await connections.at_rate(requests, A_SECOND, seconds))
        async with stalled(service, header, body):
            among.append(await connections.at_rate(requests, A_SECOND, seconds))
    await connections.close()
    return without, among


def measure(header: int, body: int, rounds: int, seconds: float) -> dict[str, Any]:
    """Rounds against a stand-in."""
    with running(stand_in()) as service:
        without, among = asyncio.run(rounds_of(service, header, body, rounds, seconds))
    statuses = Counter(answer.status for answers in (*without, *among) for answer in answers)
    ratios = [milliseconds(after) / milliseconds(before) for before, after in zip(without, among, strict=True)]
    return {
        "stalled in the headers": header,
        "stalled in the body": body,
        "requests": statuses.total(),
        "anything but 200": judged(statuses.total() - statuses[200], at_most=0),
        "p99 ms without them, each round": [milliseconds(each) for each in without],
        "p99 ms among them, each round": [milliseconds(each) for each in among],
        "p50 ms without them": [milliseconds(each, 0.5) for each in without],
        "p50 ms among them": [milliseconds(each, 0.5) for each in among],
        "p99 among / without, each round": [round(each, 3) for each in ratios],
        "p99 among / without, median": judged(statistics.median(ratios), at_most=2),
    }


def main() -> None:
    """Read the arguments, measure, print and write JSON."""
    parser = arguments_of(__doc__, "bench_stalled")
    parser.add_argument("--header", type=int, default=200)
    parser.add_argument("--body", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8)
    arguments = parser.parse_args()
    report: dict[str, Any] = {"load before": loads()}
    report |= measure(arguments.header, arguments.body, arguments.rounds, arguments.seconds)
    finish(report, arguments.output)


if __name__ == "__main__":
    main()
