"""Stops in the middle of work: every request that the service has accepted is answered.

    python tests/benchmarks/bench_stops.py [--stops 100] [--real 5] [--at-once 2] [--seed 1] [--output FILE.json]

16 clients ask without a pause, half of them over connections that they keep and half over a new one each time, and the
service gets SIGTERM after a random moment. A request is lost if its connection was made and there was no whole answer
to it. Clients stop at the first connection that is refused, or that the service says it closes. First a stand-in
captioner of 40 pictures a second, then the shipped model.
"""

from __future__ import annotations

import contextlib
import http.client
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.benchmarks.load import (  # noqa: E402
    PHOTOS,
    REAL,
    Service,
    arguments_of,
    finish,
    judged,
    loads,
    percentile,
    photo_bytes,
    running,
    small_photo,
    stand_in,
)

CLIENTS = 16
EXIT_SECONDS = 120.0


@dataclass
class Stop:
    """What came of one."""

    statuses: Counter[int] = field(default_factory=Counter)
    in_flight: int = 0  # requests without an answer at the moment of the signal
    lost: list[str] = field(default_factory=list)  # how
    refused: int = 0  # clients that heard at once that nobody listens
    seconds: float = 0.0  # from the signal to the end of the process
    code: int | None = None


def stop_under_load(command: Sequence[str], photos: Sequence[bytes], seconds: float) -> Stop:
    """Start a service, load it for so long, stop it, and account for every request."""
    stop = Stop()
    lock = threading.Lock()
    asking = 0

    def ask(service: Service, number: int) -> None:
        nonlocal asking
        connection = service.connect(EXIT_SECONDS)
        while True:
            try:
                connection.connect()
            except ConnectionRefusedError:
                with lock:
                    stop.refused += 1
                return
            closing = False
            while not closing:
                with lock:
                    asking += 1
                try:
                    connection.request(
                        "POST", "/v1/captions", photos[number % len(photos)], {"Content-Type": "image/jpeg"}
                    )
                    response = connection.getresponse()
                    response.read()
                except (OSError, http.client.HTTPException) as error:
                    with lock:
                        stop.lost.append(type(error).__name__)
                    return
                finally:
                    with lock:
                        asking -= 1
                closing = response.will_close or number % 2 == 0
                with lock:
                    stop.statuses[response.status] += 1
            connection.close()

    with running(command) as service:
        clients = [threading.Thread(target=ask, args=(service, number)) for number in range(CLIENTS)]
        for client in clients:
            client.start()
        time.sleep(seconds)
        stop.in_flight = asking
        began = time.monotonic()
        stop.code = service.stop(EXIT_SECONDS)
        stop.seconds = time.monotonic() - began
        for client in clients:
            client.join(EXIT_SECONDS)
    return stop


def measure(
    command: Sequence[str], photos: Sequence[bytes], stops: int, seconds: float, seed: int, at_once: int
) -> dict[str, Any]:
    """So many stops, each after between half of `seconds` and all of them."""
    chance = random.Random(seed)
    moments = [seconds * chance.uniform(0.5, 1.0) for _ in range(stops)]
    with contextlib.closing(_Progress(stops)) as progress, ThreadPoolExecutor(at_once) as pool:
        done = list(pool.map(lambda moment: progress.after(stop_under_load(command, photos, moment)), moments))
    statuses = sum((stop.statuses for stop in done), Counter[int]())
    return {
        "stops": stops,
        "requests answered": statuses.total(),
        "statuses": statuses,
        "in flight at the signal": sum(stop.in_flight for stop in done),
        "stops with any in flight": sum(stop.in_flight > 0 for stop in done),
        "clients that were refused a connection": sum(stop.refused for stop in done),
        "how they were lost": Counter(each for stop in done for each in stop.lost),
        "lost": judged(sum(len(stop.lost) for stop in done), at_most=0),
        "answers but 200 and 503": judged(statuses.total() - statuses[200] - statuses[503], at_most=0),
        "exit codes but 0": judged(sum(stop.code != 0 for stop in done), at_most=0),
        "seconds to the exit: p50": round(percentile([stop.seconds for stop in done], 0.5), 2),
        "seconds to the exit: longest": round(max(stop.seconds for stop in done), 2),
    }


class _Progress:
    """A line that counts."""

    def __init__(self, stops: int) -> None:
        self._stops = stops
        self._lock = threading.Lock()
        self._done = self._lost = 0

    def after(self, stop: Stop) -> Stop:
        """One more."""
        with self._lock:
            self._done += 1
            self._lost += len(stop.lost)
            print(f"\r{self._done} of {self._stops} stops, {self._lost} lost", end="", file=sys.stderr, flush=True)
        return stop

    def close(self) -> None:
        """The end of the line."""
        print(file=sys.stderr)


def main() -> None:
    """Read the arguments, measure, print and write JSON."""
    parser = arguments_of(__doc__, "bench_stops")
    parser.add_argument("--stops", type=int, default=100, help="of the stand-in")
    parser.add_argument("--real", type=int, default=5, help="stops of the shipped model")
    parser.add_argument("--at-once", type=int, default=2, help="stand-ins at the same time")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--photos", type=Path, default=PHOTOS)
    arguments = parser.parse_args()
    # A folder without photos is told before the first minutes are spent.
    photos = photo_bytes(arguments.photos, 2 * CLIENTS) if arguments.real else []
    report: dict[str, Any] = {"load before": loads(), "seed": arguments.seed}
    if arguments.stops:
        small = [small_photo()]
        report["stand-in"] = measure(stand_in(), small, arguments.stops, 1.0, arguments.seed, arguments.at_once)
    if arguments.real:
        report["real"] = measure(REAL, photos, arguments.real, 3.0, arguments.seed, 1)
    finish(report, arguments.output)


if __name__ == "__main__":
    main()
