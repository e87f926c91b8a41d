"""Pictures that mean harm, sent to the service with the shipped model.

    python tests/benchmarks/bench_hostile.py [--only corpus] [--only bombs] [--corpus FILE.tar.gz] [--output FILE.json]

corpus: every picture of Pillow's own tests, many of which crashed, hung or flooded a decoder once. They come from the
    source distribution of pillow 13.0.0, pinned by its hash, which pip downloads into runs/ unless --corpus names it.
    Each is sent by itself, four at a time. No answer may be a 5xx, and the service must live.
bombs: the twelve files of tests/bombs.py, one after another, three times. Each must be refused within 2 seconds; the
    memory of the service and its children, looked at every 20 ms, may grow by 64 MB while they are read.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import subprocess
import sys
import tarfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.benchmarks.load import (  # noqa: E402
    REAL,
    Service,
    arguments_of,
    finish,
    judged,
    loads,
    post,
    running,
    small_photo,
)
from tests.bombs import bombs  # noqa: E402

PILLOW = "13.0.0"
SHA256 = "cdcd1ba258178f7356d74170c9a81ba4eab6a5d55748bc402a5a2a6fe6be3510"
CLIENTS = 4
BOMB_ROUNDS = 3


def fetched(folder: Path) -> Path:
    """The source distribution in `folder`, downloaded if it is not there."""
    file = folder / f"pillow-{PILLOW}.tar.gz"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        # Not `:all:`: pip looks into the package, and would compile what that is built with.
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "pillow"]
        subprocess.run([*command, "--dest", str(folder), f"pillow=={PILLOW}"], check=True)
    return file


def corpus_files(archive: Path, sha256: str = SHA256) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of everything under Tests/images of the source distribution, whose hash must be right."""
    if (found := hashlib.sha256(archive.read_bytes()).hexdigest()) != sha256:
        raise SystemExit(f"{archive} is not the source distribution of pillow {PILLOW}: its sha256 is {found}")
    with tarfile.open(archive) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isfile() and "/Tests/images/" in member.name else None
            if file is not None:
                yield member.name.partition("/Tests/images/")[2], file.read()


def ask(service: Service, data: bytes) -> tuple[int, str, float]:
    """Status, type of the problem if any, and seconds."""
    began = time.monotonic()
    with contextlib.closing(service.connect(60)) as connection:
        connection.request("POST", "/v1/captions", data, {"Content-Type": "image/png"})
        response = connection.getresponse()
        body = response.read()
    seconds = time.monotonic() - began
    kind = "" if response.status == 200 else str(json.loads(body)["type"]).rpartition(":")[2]
    return response.status, kind, seconds


def corpus(archive: Path, most: int | None = None) -> dict[str, Any]:
    """The answers to all files of the corpus, or to so many."""
    files = list(corpus_files(archive))[:most]
    with running(REAL) as service, ThreadPoolExecutor(CLIENTS) as pool:
        children = {child.pid for child in service.process.children()}
        answers = list(pool.map(lambda file: ask(service, file[1]), files))
        with contextlib.closing(service.connect()) as connection:
            alive = post(connection, small_photo()) == 200 and service.popen.poll() is None
        lost = len(children - {child.pid for child in service.process.children()})
        code = service.stop()
    statuses = Counter(status for status, _, _ in answers)
    slowest = sorted(zip(answers, files, strict=True), key=lambda pair: -pair[0][2])[:5]
    return {
        "pillow": PILLOW,
        "files": len(files),
        "statuses": statuses,
        "problems": Counter(kind for _, kind, _ in answers if kind),
        "answers of 5xx": judged(sum(count for status, count in statuses.items() if status >= 500), at_most=0),
        "which": [name for (name, _), (status, _, _) in zip(files, answers, strict=True) if status >= 500],
        "dead services": judged(int(not alive or code != 0), at_most=0),
        "reading children replaced": lost,
        "slowest, seconds": {name: round(answer[2], 2) for answer, (name, _) in slowest},
    }


class Watch(threading.Thread):
    """Looks at the memory of a process and its children until it is closed."""

    def __init__(self, process: psutil.Process) -> None:
        super().__init__(daemon=True)
        self._process = process
        self._over = threading.Event()
        self.own = [process.memory_info().rss]
        self.all = [self._tree()]
        self.start()

    def run(self) -> None:
        while not self._over.wait(0.02):
            self.own.append(self._process.memory_info().rss)
            self.all.append(self._tree())

    def close(self) -> None:
        """No more."""
        self._over.set()
        self.join()

    def _tree(self) -> int:
        total = 0
        for each in (self._process, *self._process.children()):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += each.memory_info().rss
        return total


def megabytes(samples: list[int]) -> float:
    """How far the samples rose above the first one."""
    return round((max(samples) - samples[0]) / 2**20, 1)


def bombing(rounds: int = BOMB_ROUNDS, command: list[str] = REAL) -> dict[str, Any]:
    """Status, time and memory of every bomb, sent to the service that `command` starts."""
    files = bombs()
    seconds: dict[str, float] = dict.fromkeys(files, 0.0)
    found: dict[str, str] = {}
    with running(command) as service:
        for _ in range(8):  # warm: the children are there, and have read pictures
            ask(service, small_photo(1024))
        with contextlib.closing(Watch(service.process)) as watch:
            for _ in range(rounds):
                for name, data in files.items():
                    status, kind, took = ask(service, data)
                    found[name] = f"{status} {kind}"
                    seconds[name] = max(seconds[name], took)
            time.sleep(0.2)
        alive = ask(service, small_photo())[0] == 200 and service.popen.poll() is None
    return {
        "bombs": found,
        "not refused": judged(sum(each[:3] not in ("413", "415", "422") for each in found.values()), at_most=0),
        "slowest refusal, seconds": judged(max(seconds.values()), at_most=2),
        "growth of the service, MB": judged(megabytes(watch.own), at_most=64),
        "growth with its children, MB": judged(megabytes(watch.all), at_most=64),
        "looks": len(watch.own),
        "dead services": judged(int(not alive), at_most=0),
    }


def main() -> None:
    """Read the arguments, measure, print and write JSON."""
    parser = arguments_of(__doc__, "bench_hostile")
    parser.add_argument("--only", choices=("corpus", "bombs"), action="append")
    parser.add_argument("--corpus", type=Path, help=f"pillow-{PILLOW}.tar.gz")
    parser.add_argument("--most", type=int, help="files of the corpus")
    arguments = parser.parse_args()
    wanted = arguments.only or ["corpus", "bombs"]
    report: dict[str, Any] = {"load before": loads()}
    if "corpus" in wanted:
        report["corpus"] = corpus(arguments.corpus or fetched(arguments.output.parent), arguments.most)
    if "bombs" in wanted:
        report["bombs"] = bombing()
    finish(report, arguments.output)


if __name__ == "__main__":
    main()
