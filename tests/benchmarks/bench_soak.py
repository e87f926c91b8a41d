"""Twenty minutes of every kind of request, and of new models: does the service grow?

    python tests/benchmarks/bench_soak.py [--minutes 20] [--clients 6] [--model tiny] [--output FILE.json]
    python tests/benchmarks/bench_soak.py --reloads 8 --minutes 0

Clients ask one thing after another, chosen at random: captions in three forms, of one picture or several, broken and
enormous ones, scores, the page, the metrics, and a few that hang up in the middle. Once a second the memory of the
service and of its children and their open files are noted beside the number of requests until then. Memory may grow by
10 MB over the last 20,000 requests: the median of the samples of the last 1,000, less that of the first 1,000.

--model tiny is the real service with a small network, which answers more often; default is the shipped one; stand-in
    is a captioner that reads pictures in the service itself and makes its sentences up.
--reloads: before that, so many reloads (SIGHUP) under the same load, of which the last half may grow by 16 MB.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import io
import json
import math
import random
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from PIL import Image

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.benchmarks.load import REAL, Service, arguments_of, finish, judged, loads, running, stand_in  # noqa: E402
from tests.bombs import bombs  # noqa: E402

LAST_REQUESTS = 20_000
WINDOW = 1_000
SECONDS_BETWEEN_LOOKS = 1.0


@dataclass(frozen=True)
class Look:
    """What the service held at a moment."""

    requests: int
    service: int  # bytes
    children: int  # bytes
    files: int


class Clients:
    """Threads that ask until they are closed."""

    def __init__(self, service: Service, count: int, seed: int) -> None:
        self._service = service
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._requests = _requests()
        self.answers: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        self.total = 0
        self._threads = [
            threading.Thread(target=self._work, args=(random.Random(seed + number),), daemon=True)
            for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Let every client end what it has begun."""
        self._over.set()
        for thread in self._threads:
            thread.join(120)

    def _work(self, chance: random.Random) -> None:
        names = list(self._requests)
        weights = [weight for weight, *_ in self._requests.values()]
        connection = self._service.connect()
        while not self._over.is_set():
            (name,) = chance.choices(names, weights)
            _, method, path, body, headers = self._requests[name]
            try:
                if name == "hangs up":
                    self._hang_up(body)
                    outcome = "hung up"
                else:
                    connection.request(method, path, body, headers)
                    response = connection.getresponse()
                    response.read()
                    outcome = str(response.status)
                    if chance.random() < 0.1:
                        connection.close()  # the next request makes a new one
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                with self._lock:
                    self.failures[f"{name}: {type(error).__name__}"] += 1
                continue
            with self._lock:
                self.total += 1
                self.answers[f"{name}: {outcome}"] += 1
        connection.close()

    def _hang_up(self, body: bytes) -> None:
        with contextlib.closing(self._service.connect()) as connection:
            connection.putrequest("POST", "/v1/captions")
            connection.putheader("Content-Type", "image/jpeg")
            connection.putheader("Content-Length", str(2 * len(body)))
            connection.endheaders(body)


def _requests() -> dict[str, tuple[int, str, str, bytes, dict[str, str]]]:
    """How often, method, address, body and headers, under a name."""
    chance = np.random.default_rng(1)
    photos = []
    for side in (96, 160, 240):
        file = io.BytesIO()
        noise = chance.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((side, side)).save(file, "JPEG")
        photos.append(file.getvalue())
    jpeg = {"Content-Type": "image/jpeg"}
    encoded = {"Content-Type": "application/json"}
    images = [base64.b64encode(photo).decode() for photo in photos]
    several = json.dumps({"images": images}).encode()
    score = json.dumps({"images": images[:1], "sentences": ["a dog runs in the grass"]}).encode()
    part = (
        b'--x\r\nContent-Disposition: form-data; name="image"; filename="p"\r\nContent-Type: image/jpeg\r\n\r\n%b\r\n'
    )
    form = b"".join(part % photo for photo in photos[:2])
    return {
        "photo": (60, "POST", "/v1/captions", photos[0], jpeg),
        "larger photo": (10, "POST", "/v1/captions?beam_size=5", photos[2], jpeg),
        "several as JSON": (5, "POST", "/v1/captions", several, encoded),
        "form": (5, "POST", "/", form + b"--x--\r\n", {"Content-Type": "multipart/form-data; boundary=x"}),
        "score": (3, "POST", "/v1/score", score, encoded),
        "broken": (4, "POST", "/v1/captions", photos[1][:500], jpeg),
        "bomb": (2, "POST", "/v1/captions", bombs()["PNG with 1 GB of text"], jpeg),
        "page": (3, "GET", "/", b"", {}),
        "metrics": (1, "GET", "/metrics", b"", {}),
        "health": (4, "GET", "/healthz", b"", {}),
        "nothing there": (1, "GET", "/nothing", b"", {}),
        "hangs up": (2, "POST", "/v1/captions", photos[1], jpeg),
    }


def look(service: Service, requests: int) -> Look:
    """At this moment."""
    children = 0
    for child in service.process.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            children += child.memory_info().rss
    return Look(requests, service.process.memory_info().rss, children, service.process.num_fds())


def soak(service: Service, clients: int, seconds: float, *, last: int, window: int) -> dict[str, Any]:
    """Ask for so long, and see what grows over the `last` requests."""
    looks: list[Look] = []
    with contextlib.closing(Clients(service, clients, seed=1)) as asking:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(SECONDS_BETWEEN_LOOKS)
            looks.append(look(service, asking.total))
    time.sleep(1)
    looks.append(look(service, asking.total))  # when nobody asks
    begin = max(0, asking.total - last)
    part = [each for each in looks if each.requests >= begin]

    def growth(of: Callable[[Look], int]) -> float:
        first = [of(each) for each in part if each.requests <= begin + window] or [of(part[0])]
        end = [of(each) for each in part if each.requests >= asking.total - window] or [of(part[-1])]
        return (statistics.median(end) - statistics.median(first)) / 2**20

    files = [each.files for each in part]
    middle = len(files) // 2
    return {
        "seconds": seconds,
        "clients": clients,
        "requests": asking.total,
        "requests judged": judged(asking.total - begin, at_least=last),
        "answers": dict(sorted(asking.answers.items())),
        "answers of 5xx but 503": judged(
            sum(count for name, count in asking.answers.items() if ": 5" in name and ": 503" not in name), at_most=0
        ),
        "connections that failed": judged(asking.failures.total(), at_most=0),
        "how": asking.failures,
        "service: MB in ten parts": _parts([each.service for each in looks]),
        "children: MB in ten parts": _parts([each.children for each in looks]),
        "service: growth, MB": judged(growth(lambda each: each.service), at_most=10),
        "children: growth, MB": judged(growth(lambda each: each.children), at_most=10),
        "files: median of each half": [statistics.median(files[:middle] or files), statistics.median(files[middle:])],
        "files: growth": judged(
            statistics.median(files[middle:]) - statistics.median(files[:middle] or files), at_most=2
        ),
        "files when nobody asks": looks[-1].files,
    }


def _parts(sizes: list[int]) -> list[float]:
    step = max(1, len(sizes) // 10)
    return [round(statistics.median(sizes[begin : begin + step]) / 2**20, 1) for begin in range(0, len(sizes), step)]


def reloads(service: Service, log: Path, count: int, clients: int) -> dict[str, Any]:
    """So many new models, one after another, while clients ask."""
    sizes: list[float] = []
    with contextlib.closing(Clients(service, clients, seed=2)) as asking:
        for number in range(1, count + 1):
            service.process.send_signal(signal.SIGHUP)
            deadline = time.monotonic() + 120
            while log.read_text(encoding="utf-8").count('"event": "reload done"') < number:
                if time.monotonic() > deadline:
                    raise SystemExit("a reload took longer than two minutes")
                time.sleep(0.1)
            time.sleep(2)  # the model before it ends, and some work with the new one
            sizes.append(service.process.memory_info().rss / 2**20)
    return {
        "reloads": count,
        "requests": asking.total,
        "answers of 5xx": judged(sum(n for name, n in asking.answers.items() if ": 5" in name), at_most=0),
        "connections that failed": judged(asking.failures.total(), at_most=0),
        "service: MB after each": [round(size, 1) for size in sizes],
        "growth over the last half, MB": judged(sizes[-1] - sizes[count // 2 - 1], at_most=16),
    }


def save_tiny(folder: Path) -> None:
    """A bundle with a small network that nobody has trained."""
    import torch

    from captioner.bundle import Bundle, save_bundle
    from captioner.decoding.options import DecodingOptions
    from captioner.geometry import Geometry
    from captioner.model.caption_model import CaptionModel
    from captioner.model.configuration import DecoderConfiguration, EncoderConfiguration
    from captioner.preprocessing import Preprocessing
    from captioner.text.vocabulary import Vocabulary

    torch.manual_seed(1)
    vocabulary = Vocabulary([f"word{chr(97 + number)}" for number in range(26)])
    model = CaptionModel(
        EncoderConfiguration(name="squeezenet1_1", cut="features.5"),
        DecoderConfiguration(embedding_size=16, hidden_size=24, attention_size=12),
        vocabulary_size=len(vocabulary),
    )
    bundle = Bundle(
        name="tiny",
        model=model.eval(),
        vocabulary=vocabulary,
        preprocessing=Preprocessing(geometry=Geometry(size=64)),
        decoding=DecodingOptions(max_length=8),
        licence="Apache-2.0",
    )
    save_bundle(bundle, folder, card="# tiny\n", licence_text="Apache-2.0\n")


def main() -> None:
    """Read the arguments, measure, print and write JSON."""
    parser = arguments_of(__doc__, "bench_soak")
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--clients", type=int, default=6)
    parser.add_argument("--model", choices=("stand-in", "tiny", "default"), default="tiny")
    parser.add_argument("--reloads", type=int, default=0)
    parser.add_argument("--last", type=int, default=LAST_REQUESTS, help="requests that are judged")
    arguments = parser.parse_args()
    report: dict[str, Any] = {"load before": loads(), "model": arguments.model}
    with tempfile.TemporaryDirectory() as name:
        log, bundle = Path(name, "log"), Path(name, "tiny")
        command = [*REAL, "--processes", "2"]
        if arguments.model == "tiny":
            save_tiny(bundle)
            command += ["--bundle", str(bundle)]
        elif arguments.model == "stand-in":
            command = stand_in(math.inf)
        with running(command, log=log) as service:
            if arguments.reloads:
                report["reloads"] = reloads(service, log, arguments.reloads, arguments.clients)
            if arguments.minutes:
                report["soak"] = soak(
                    service, arguments.clients, 60 * arguments.minutes, last=arguments.last, window=WINDOW
                )
            report["exit code"] = judged(service.stop(), at_most=0)
    finish(report, arguments.output)


if __name__ == "__main__":
    main()
