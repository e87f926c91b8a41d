"""Captioning a folder, beside the sum of its parts and beside captioning one photo at a time.

    python tests/benchmarks/bench_folder.py [--photos DIR] [--count 500] [--rounds 5] [--output FILE.json]

Parts, each measured alone on the same cores in the same round, none of them waiting for another: reading (with resize,
in the children), preprocessing, encoder, and the decoder's own operations (the very steps of the search, replayed
without the search). A round measures everything once; medians over the rounds are reported, with the smallest and the
largest. Start-up is left out: the model is loaded, the children run, and one batch has been captioned before.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor

from captioner.bundle import load_bundle
from captioner.decoding.options import DecodingOptions
from captioner.decoding.search import search
from captioner.errors import ImageError
from captioner.manifest import default_bundle
from captioner.model.decoder import DecoderState
from captioner.model.engine import TorchEngine
from captioner.prediction import Captioner
from captioner.reader import Reader
from captioner.text.vocabulary import Vocabulary

BATCH = 32
SINGLES = 60  # photos captioned one at a time in each round
BEAMS = {"greedy": 1, "beam 3": 3}


class Parts:
    """The parts of captioning, each as a function that can be timed alone."""

    def __init__(self, bundle: Path, photos: list[Path]) -> None:
        loaded = load_bundle(bundle)
        self.photos = photos
        self.preprocessing = loaded.preprocessing
        self.engine = TorchEngine(loaded.model)
        self.reader = Reader(loaded.preprocessing.geometry)
        pictures = self.reader.stream(photos, ahead=2 * BATCH)
        arrays = [picture for picture in pictures if not isinstance(picture, ImageError)]
        self.pixels = [np.stack(arrays[i : i + BATCH]) for i in range(0, len(arrays), BATCH)]
        self.images = [self.preprocessing.numbers(torch.from_numpy(batch)) for batch in self.pixels]
        self.features = [self.engine.encode(images) for images in self.images]

    def read(self) -> None:
        """Read and resize all photos in the children."""
        for _ in self.reader.stream(self.photos, ahead=2 * BATCH):
            pass

    def preprocess(self) -> None:
        """Pixels to normalised floats."""
        for batch in self.pixels:
            self.preprocessing.numbers(torch.from_numpy(batch))

    def encode(self) -> None:
        """Normalised floats to grids."""
        for images in self.images:
            self.engine.encode(images)

    def decoder(self, beam_size: int) -> Callable[[], None]:
        """A function that repeats the decoder's steps of a search, with the states that the search gave it."""
        calls: list[tuple[Tensor, DecoderState]] = []

        def step(tokens: Tensor, state: DecoderState) -> tuple[Tensor, Tensor | None, DecoderState]:
            calls.append((tokens, state))
            return self.engine.step(tokens, state)

        for features in self.features:
            search(
                step,
                self.engine.initial_state(features),
                num_images=len(features),
                start=Vocabulary.start,
                end=Vocabulary.end,
                pad=Vocabulary.pad,
                forbidden=(Vocabulary.pad, Vocabulary.start, Vocabulary.unk),
                options=DecodingOptions(beam_size=beam_size),
            )

        def replay() -> None:
            for features in self.features:
                self.engine.initial_state(features)
            for tokens, state in calls:
                self.engine.step(tokens, state)

        return replay


def cpu_seconds() -> float:
    """CPU seconds so far of this process and of its living children."""
    process = psutil.Process()
    times = [process.cpu_times(), *(child.cpu_times() for child in process.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds of `work`."""
    wall, cpu = time.perf_counter(), cpu_seconds()
    work()
    return time.perf_counter() - wall, cpu_seconds() - cpu


def spread(values: list[float]) -> dict[str, float]:
    """Median, smallest and largest."""
    return {
        "median": round(statistics.median(values), 4),
        "min": round(min(values), 4),
        "max": round(max(values), 4),
    }


def processor() -> str:
    """The processor's name, with units for half precision if it has them."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text(encoding="utf-8").splitlines() if information.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    flags = {flag for line in lines for flag in line.split()}
    units = [unit for unit in ("amx_bf16", "avx512_bf16", "amx_fp16", "avx512_fp16") if unit in flags]
    return " ".join([names[0] if names else platform.machine(), *units])


def measure(bundle: Path, photos: list[Path], rounds: int) -> dict[str, Any]:
    """All figures of the benchmark."""
    parts = Parts(bundle, photos)
    works: dict[str, Callable[[], object]] = {
        "reading": parts.read,
        "preprocessing": parts.preprocess,
        "encoder": parts.encode,
        **{f"decoder {name}": parts.decoder(size) for name, size in BEAMS.items()},
    }
    precision = parts.engine.precision  # both must compute in the same
    with Captioner.from_bundle(bundle, precision=precision) as captioner:
        for name, size in BEAMS.items():
            options = DecodingOptions(beam_size=size)

            def folder(options: DecodingOptions = options) -> None:
                for _ in captioner.stream(photos, options, batch_size=BATCH):
                    pass

            def singles(options: DecodingOptions = options) -> None:
                for photo in photos[:SINGLES]:
                    captioner.caption([photo], options)

            works[f"folder {name}"] = folder
            works[f"one at a time {name}"] = singles
            captioner.caption(photos[:BATCH], options)  # warm
        measured: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
        for number in range(rounds + 1):
            for name, work in works.items():
                result = timed(work)
                if number > 0:  # the first round warms up
                    measured[name].append(result)
            print(f"round {number} of {rounds}", file=sys.stderr)
    parts.reader.close()
    walls = {name: [wall for wall, _ in results] for name, results in measured.items()}
    report: dict[str, Any] = {
        "photos": len(photos),
        "encoder precision": precision,
        "wall seconds": {name: spread(values) for name, values in walls.items()},
        "cpu seconds": {name: spread([cpu for _, cpu in results]) for name, results in measured.items()},
    }
    for name in BEAMS:
        sums = [
            sum(each) for each in zip(*(walls[part] for part in ("reading", "preprocessing", "encoder")), strict=True)
        ]
        sums = [one + other for one, other in zip(sums, walls[f"decoder {name}"], strict=True)]
        folders, alone = walls[f"folder {name}"], walls[f"one at a time {name}"]
        report[f"{name}: folder / sum of parts"] = spread([a / b for a, b in zip(folders, sums, strict=True)])
        report[f"{name}: one at a time / folder"] = spread(
            [(b / min(SINGLES, len(photos))) / (a / len(photos)) for a, b in zip(folders, alone, strict=True)]
        )
        report[f"{name}: photos a second"] = spread([len(photos) / value for value in folders])
        milliseconds = [1000 * value / min(SINGLES, len(photos)) for value in alone]
        report[f"{name}: ms for one photo alone"] = spread(milliseconds)
    return report


def main() -> None:
    """Read the arguments, measure, print and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, default=Path("../shared/data/flickr8k/Images"))
    parser.add_argument("--bundle", type=Path, default=default_bundle())
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path("runs/bench_folder.json"))
    arguments = parser.parse_args()
    photos = sorted(arguments.photos.glob("*.jpg"))[: arguments.count]
    if not photos:
        print(f"no photos (*.jpg) in {arguments.photos}: name a folder with --photos", file=sys.stderr)
        sys.exit(0)  # a machine without the project's photos skips this
    report = {
        "hardware": f"{processor()}, {psutil.cpu_count()} cores",
        "torch": torch.__version__,
        **measure(arguments.bundle, photos, arguments.rounds),
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
