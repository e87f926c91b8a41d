"""How long a data set of COCO's size takes to start, and how much memory it holds with 8 processes that read pictures.

    python tests/benchmarks/bench_loader.py [--images 123287] [--workers 8] [--folder FOLDER]

An index in Karpathy's form is generated: 123,287 pictures (1,000 small ones, hard-linked) and 617,000 captions.
Start-up is from the data module's first line to the first batch. The first start also reads every picture once; the
second, which is the one that is bounded, finds that done. Memory is what the process and all its children hold together
(PSS, so what they share counts once), the most that was seen in 300 batches and while the index was read.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import sys
import tempfile
import threading
import time
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from captioner.datasets.shapes import ShapesOptions, draw, examples
from captioner.geometry import Geometry
from captioner.preprocessing import Preprocessing
from captioner.training.batch import Batch
from captioner.training.data import CaptionDataModule
from captioner.training.sampler import ResumableLoader

IMAGES, FILES = 123_287, 1_000
MAX_SECONDS, MAX_BYTES = 10.0, 4 * 10**9
BATCHES = 300


def generate(folder: Path, images: int) -> Path:
    """An index of so many images in `folder`, in Karpathy's proportions; returns its file."""
    file = folder / "dataset_coco.json"
    if file.is_file():
        return file
    chance = random.Random(1)
    pictures = folder / "pictures"
    pictures.mkdir()
    for number, example in enumerate(examples(ShapesOptions(train=FILES - 80, dev=40, test=40))["train"][:FILES]):
        draw(example.scene).save(pictures / f"{number}.jpg")
    for number in range(FILES - 80, FILES):  # those of dev and test: none of them may stand in train too
        example = examples(ShapesOptions(seed=number, train=4, dev=4, test=4))["dev"][0]
        draw(example.scene).save(pictures / f"{number}.jpg")
    # about as many words as COCO has, as often as Zipf's law says
    words = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in ("", *"bdfgklmnprstz", "ng", "sh", "ck")]
    words = [first + second for first in ["", *words[:25]] for second in words][:25_000]
    weights = [1 / (rank + 2.7) for rank in range(len(words))]
    total = list(itertools.accumulate(weights))
    entries = []
    (folder / "train2014").mkdir()
    held_out = round(images * 5_000 / IMAGES)
    for index in range(images):
        split = "val" if index < held_out else "test" if index < 2 * held_out else "restval" if index % 4 else "train"
        source = {"val": FILES - 80 + index % 40, "test": FILES - 40 + index % 40}.get(split, index % (FILES - 80))
        name = f"COCO_train2014_{index:012d}.jpg"
        os.link(pictures / f"{source}.jpg", folder / "train2014" / name)
        sentences = []
        for _ in range(6 if index % 200 == 0 else 5):
            length = min(max(round(chance.gauss(10.5, 2.4)), 6), 49)
            chosen = chance.choices(words, cum_weights=total, k=length)
            sentences.append({"raw": f"A {' '.join(chosen)}."})
        entries.append({"filepath": "train2014", "filename": name, "split": split, "sentences": sentences})
    file.write_text(json.dumps({"images": entries, "dataset": "coco"}))
    return file


@dataclass
class Watch:
    """The most memory that this process and its children have held together, looked at ten times a second."""

    peak: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    def held(self) -> int:
        """Bytes at this moment; what processes share is counted once."""
        here = psutil.Process()
        total = 0
        for process in (here, *here.children(recursive=True)):
            try:
                total += process.memory_full_info().pss
            except psutil.NoSuchProcess:
                continue
        self.peak = max(self.peak, total)
        return total

    def __enter__(self) -> Watch:
        threading.Thread(target=self._look, daemon=True).start()
        return self

    def __exit__(self, *of_error: object) -> None:
        self._stop.set()

    def _look(self) -> None:
        while not self._stop.wait(0.1):
            self.held()


def loader_of(data: CaptionDataModule, workers: int) -> ResumableLoader[Any]:
    """The data module's loader with so many processes, also where it would take no more than there are processors."""
    own = data.train_dataloader()
    return ResumableLoader(own.dataset, own.batches, num_workers=workers, collate_fn=own.collate_fn)


@dataclass
class Phases:
    """What each phase of a start takes, by the clock and of one processor: the main thread's own, without the watch."""

    _marks: list[tuple[float, float]] = field(default_factory=list)

    def mark(self) -> None:
        """A phase ends here, and the next one begins."""
        self._marks.append((time.perf_counter(), time.thread_time()))

    def seconds(self) -> list[tuple[float, float]]:
        """(by the clock, of one processor) of each phase."""
        return [(later[0] - earlier[0], later[1] - earlier[1]) for earlier, later in itertools.pairwise(self._marks)]


def start(file: Path, cache: Path, workers: int) -> tuple[CaptionDataModule, float]:
    """The data module after its first batch, and the seconds up to there."""
    phases = Phases()
    phases.mark()
    preprocessing = Preprocessing(geometry=Geometry(size=64))
    data = CaptionDataModule(str(file), preprocessing, batch_size=32, cache=str(cache), num_workers=workers)
    data.prepare_data()
    phases.mark()
    data.setup()
    phases.mark()
    loader = loader_of(data, workers)
    phases.mark()
    assert isinstance(next(iter(loader)), Batch)
    phases.mark()
    seconds = phases.seconds()
    for name, (clock, processor) in zip(
        ("index and files", "captions and vocabulary", "flat arrays", "first batch"), seconds, strict=True
    ):
        print(f"  {name}: {clock:.1f} s, {processor:.1f} s of one processor")
    total = sum(clock for clock, _ in seconds)
    print(f"  together {total:.1f} s, {sum(processor for _, processor in seconds):.1f} s of one processor", flush=True)
    return data, total


def main() -> int:
    """0 if both bounds hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=IMAGES)
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--folder", type=Path, help="keep the index here for the next time")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, Watch() as watch:
        folder: Path = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        file = generate(folder, arguments.images)
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        print(f"first start, which reads {arguments.images:,} pictures:")
        start(file, folder / "cache", arguments.workers)
        print("second start:")
        watch.peak = 0
        data, seconds = start(file, folder / "cache", arguments.workers)
        captions = sum(len(record.captions) for split in ("train", "dev") for record in data.records(split))
        for batch in itertools.islice(loader_of(data, arguments.workers), BATCHES):
            assert isinstance(batch, Batch)
        held = watch.held()
        peak = watch.peak
    processes = f"{arguments.workers} processes that read pictures"
    print(f"{captions:,} captions of train and dev, {len(data.vocabulary):,} words; start-up {seconds:.1f} s")
    print(f"memory with {processes}: {held / 1e9:.2f} GB after {BATCHES} batches, at most {peak / 1e9:.2f} GB")
    return 0 if seconds < MAX_SECONDS and peak < MAX_BYTES else 1


if __name__ == "__main__":
    sys.exit(main())
