"""A folder job with the real model, beside the sum of its parts; and the memory that the command takes.

    python tests/benchmarks/bench_job.py [--photos DIR] [--count 2000] [--rounds 3] [--many 10000] [--output FILE.json]

The photos are repeated under other names until there are enough of them, each with a comment of its own, so that no two
have the same content. A round measures every part alone, as bench_folder.py defines them, and the whole job (sources,
ledger, reading, captioning, JSON lines), start-up left out: the model is loaded, the children run, and a first round
warms up. Each job begins with no ledger. Medians over the rounds, with the smallest and the largest.

Memory is that of the command itself, a process of its own, with all its children: resident sets are added up twenty
times a second (what children share counts for each), for `count` and for `many` photos. --many 0 leaves it out.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))  # what follows is shared with the benchmarks beside this one

from captioner.captions import Outcome
from captioner.decoding.options import DecodingOptions
from captioner.images import ImageSource
from captioner.manifest import default_bundle
from captioner.prediction import Captioner
from tests.benchmarks.bench_folder import BATCH, BEAMS, Parts, processor, spread, timed
from tests.benchmarks.bench_job_null import caption_job

ORIGINALS = Path(__file__).parents[3] / "shared" / "data" / "flickr8k-originals"
MIB = 2**20


def make_photos(originals: Sequence[Path], folder: Path, count: int) -> list[Path]:
    """`count` photos, in folders of a hundred; each repetition of a photo has its number in a comment (JPEG)."""
    photos = []
    for number in range(count):
        content = originals[number % len(originals)].read_bytes()
        comment = b"\xff\xfe\x00\x04" + (number // len(originals)).to_bytes(2, "big")
        path = folder / f"{number // 100:04d}" / f"{number:06d}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content[:2] + comment + content[2:])  # after the mark of the beginning
        photos.append(path)
    return photos


def measure_speed(bundle: Path, originals: Sequence[Path], count: int, rounds: int) -> dict[str, Any]:
    """The job beside the sum of the parts."""
    with tempfile.TemporaryDirectory() as there:
        folder = Path(there, "photos")
        folder.mkdir()
        parts = Parts(bundle, make_photos(originals, folder, count))
        works: dict[str, Callable[[], object]] = {
            "reading": parts.read,
            "preprocessing": parts.preprocess,
            "encoder": parts.encode,
            **{f"decoder {name}": parts.decoder(size) for name, size in BEAMS.items()},
        }
        walls: dict[str, list[float]] = {}
        processors: dict[str, list[float]] = {}
        loads = [psutil.getloadavg()[0]]
        with Captioner.from_bundle(bundle, precision=parts.engine.precision) as captioner:
            for name, size in BEAMS.items():
                options = DecodingOptions(beam_size=size)
                works[f"job {name}"] = partial(whole_job, folder, captioner, bundle, options)
            for number in range(rounds + 1):
                for name, work in works.items():
                    wall, seconds = timed(work)
                    if number == 0:  # the first round warms up
                        continue
                    walls.setdefault(name, []).append(wall)
                    processors.setdefault(name, []).append(seconds)
                loads.append(psutil.getloadavg()[0])
                print(f"round {number} of {rounds}", file=sys.stderr)
        parts.reader.close()
    report: dict[str, Any] = {
        "photos": count,
        "encoder precision": parts.engine.precision,
        "load average": spread(loads),
        "wall seconds": {name: spread(values) for name, values in walls.items()},
        "cpu seconds": {name: spread(values) for name, values in processors.items()},
    }
    for name in BEAMS:
        each = [walls[part] for part in ("reading", "preprocessing", "encoder", f"decoder {name}")]
        sums = [sum(of_round) for of_round in zip(*each, strict=True)]
        jobs = walls[f"job {name}"]
        report[f"{name}: job / sum of parts"] = spread([a / b for a, b in zip(jobs, sums, strict=True)])
        each = [processors[part] for part in ("reading", "preprocessing", "encoder", f"decoder {name}")]
        spent = [sum(of_round) for of_round in zip(*each, strict=True)]
        ratios = [a / b for a, b in zip(processors[f"job {name}"], spent, strict=True)]
        report[f"{name}: job / sum of parts, CPU seconds"] = spread(ratios)
        report[f"{name}: photos a second"] = spread([count / value for value in jobs])
    return report


class Loaded:
    """A Captioner that stays open from one job to the next."""

    def __init__(self, captioner: Captioner) -> None:
        self._captioner = captioner
        self.precision = captioner.precision

    def stream_batches(
        self, batches: Iterable[Sequence[ImageSource]], options: DecodingOptions | None = None
    ) -> Iterator[list[Outcome]]:
        """As the Captioner's."""
        return self._captioner.stream_batches(batches, options)

    def close(self) -> None:
        """The Captioner is still needed."""


def whole_job(photos: Path, captioner: Captioner, bundle: Path, options: DecodingOptions) -> None:
    """The whole job, which begins with no ledger."""
    with tempfile.TemporaryDirectory() as written:
        caption_job(photos, Path(written), Loaded(captioner), bundle, options)


def measure_memory(bundle: Path, originals: Sequence[Path], counts: Sequence[int]) -> dict[str, Any]:
    """The most memory that the command and its children take for each number of photos."""
    report: dict[str, Any] = {}
    for count in counts:
        with tempfile.TemporaryDirectory() as there:
            folder = Path(there, "photos")
            folder.mkdir()
            make_photos(originals, folder, count)
            command = [sys.executable, "-m", "captioner", "caption", str(folder), "--bundle", str(bundle)]
            start = time.perf_counter()
            samples = sampled([*command, "--output", str(Path(there, "rows.jsonl")), "--batch-size", str(BATCH)])
            seconds = time.perf_counter() - start
            if Path(there, "rows.jsonl").read_bytes().count(b"\n") != count:
                raise AssertionError("the command did not write a row for each photo")
        half = samples[len(samples) // 2 :]  # start-up is over
        report[f"MB for {count} photos"] = {
            "most": round(max(samples) / MIB),
            "median of the second half": round(sorted(half)[len(half) // 2] / MIB),
            "wall seconds": round(seconds, 1),
        }
        print(f"memory for {count} photos measured", file=sys.stderr)
    few, many = (report[f"MB for {count} photos"]["most"] for count in (counts[0], counts[-1]))
    return {**report, f"most for {counts[-1]} / most for {counts[0]}": round(many / few, 3)}


def sampled(command: Sequence[str]) -> list[int]:
    """The bytes of memory of a command and its children, twenty times a second."""
    samples = []
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        top = psutil.Process(process.pid)
        while process.poll() is None:
            with suppress(psutil.Error):
                samples.append(sum(each.memory_info().rss for each in (top, *top.children(recursive=True))))
            time.sleep(0.05)
    if process.returncode != 0:
        raise AssertionError(f"the command ended with {process.returncode}")
    return samples


def main() -> None:
    """Read the arguments, measure, print and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, default=ORIGINALS)
    parser.add_argument("--bundle", type=Path, default=default_bundle())
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--many", type=int, default=10_000)
    parser.add_argument("--output", type=Path, default=Path("runs/bench_job.json"))
    arguments = parser.parse_args()
    originals = sorted(arguments.photos.glob("*.jpg"))
    if not originals:
        print(f"no photos (*.jpg) in {arguments.photos}: name a folder with --photos", file=sys.stderr)
        sys.exit(0)  # a machine without the project's photos skips this
    report = {"hardware": f"{processor()}, {psutil.cpu_count()} cores", "torch": torch.__version__}
    if arguments.rounds:
        report |= measure_speed(arguments.bundle, originals, arguments.count, arguments.rounds)
    if arguments.many:
        report |= measure_memory(arguments.bundle, originals, [arguments.count, arguments.many])
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
