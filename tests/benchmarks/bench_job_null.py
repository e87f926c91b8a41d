"""What a folder job costs beside reading and captioning: sources, ledger and JSON lines, without a model.

    python tests/benchmarks/bench_job_null.py [--count 100000] [--rounds 3] [--output FILE.json]

Tiny pictures, each with its own content, in folders of a thousand, are taken through the job with a model that looks at
nothing and has the same caption for every one. Beside it, in the same round:

- a bare loop over the same files, sorted, that stats each, reads and hashes it and writes the same row as JSON lines
  (the two outputs are compared byte for byte);
- a second run of the job, which finds nothing to do, beside a loop that only lists and stats the files.

Every round begins with no ledger. The first one, of which nothing is reported, warms up. The disk's own time for one
transaction is measured too, because a ledger cannot be quicker than that.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import os
import platform
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from captioner.batch.batch_captioner import BatchCaptioner
from captioner.batch.outputs import OutputFile
from captioner.batch.policies import Existing
from captioner.batch.selection import Selection
from captioner.batch.style import TextStyle
from captioner.captions import Caption, Outcome, Word, row
from captioner.cli.caption_job import run_job
from captioner.cli.job_request import LEDGER, JobRequest
from captioner.decoding.options import DecodingOptions
from captioner.images import ImageSource
from captioner.manifest import CARD, FORMAT_VERSION, LICENCE, MANIFEST, VOCABULARY, WEIGHTS, digest_of

BATCH = 32
PER_FOLDER = 1000
CAPTION = Caption(
    text="a dog runs over the grass with a red ball",
    score=-0.5123,
    log_probability=-5.6353,
    confidence=0.7312,
    words=tuple(Word(word=word, probability=0.6123) for word in "a dog runs over the grass with a red ball".split()),
    alternatives=(),
    attention=None,
)


class NullCaptioner:
    """In the place of a Captioner: it reads nothing and says the same of every picture."""

    precision = "float32"

    def stream_batches(
        self, batches: Iterable[Sequence[ImageSource]], options: DecodingOptions | None = None
    ) -> Iterator[list[Outcome]]:
        """An outcome for each source."""
        for batch in batches:
            yield [Outcome(source=source, caption=CAPTION, error=None) for source in batch]

    def close(self) -> None:
        """Nothing was begun."""


def make_bundle(folder: Path) -> None:
    """A bundle with a manifest and empty files, so that looking at it takes no time."""
    nothing = hashlib.sha256(b"").hexdigest()
    files = dict.fromkeys((WEIGHTS, VOCABULARY, CARD, LICENCE), nothing)
    decoding = DecodingOptions().to_dict()
    for name in files:
        (folder / name).touch()
    manifest = {"format_version": FORMAT_VERSION, "name": "null", "decoding": decoding, "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")


def make_pictures(folder: Path, count: int) -> None:
    """`count` pictures of one pixel (GIF), which differ in what follows the picture."""
    picture = (
        b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff"
        b",\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;"
    )
    for number in range(count):
        below = folder / f"{number // PER_FOLDER:05d}"
        if number % PER_FOLDER == 0:
            below.mkdir()
        (below / f"{number:07d}.gif").write_bytes(picture + number.to_bytes(4, "big"))


def caption_job(
    photos: Path, folder: Path, captioner: BatchCaptioner, bundle: Path, options: DecodingOptions | None = None
) -> None:
    """The job of `captioner caption PHOTOS --output FOLDER/rows.jsonl`, with a model that is loaded already."""
    request = JobRequest(
        paths=(photos,),
        list_file=None,
        selection=Selection(),
        files=(OutputFile("jsonl", folder / "rows.jsonl"),),
        sidecar=None,
        mirror=None,
        metadata=False,
        existing=Existing.SKIP,
        style=TextStyle(),
        min_confidence=0.0,
        dry_run=False,
        watch=False,
        shard=(0, 1),
        ledger=None,
        bundle=bundle,
        device="cpu",
        devices=1,
        precision="auto",
        batch_size=BATCH,
    )
    with contextlib.redirect_stderr(io.StringIO()) as told:
        code = run_job(request, lambda usual: options or usual, lambda *_: captioner)
    if code != 0:
        raise AssertionError(f"the job ended with {code}: {told.getvalue()}")


def files_below(folder: Path) -> Iterator[str]:
    """The paths of all files, sorted."""
    for below, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            yield f"{below}/{name}"


def list_and_stat(photos: Path) -> None:
    """The least that a run with nothing to do must do."""
    for path in files_below(photos):
        os.stat(path)  # noqa: PTH116


def bare_loop(photos: Path, target: Path, model: str) -> None:
    """Stat, read and hash every file, and write its row."""
    content = row(Outcome(source=b"", caption=CAPTION, error=None), image="", model=model)
    with target.open("w", encoding="utf-8") as file:
        for path in files_below(photos):
            os.stat(path)  # noqa: PTH116
            with open(path, "rb") as picture:  # noqa: PTH123
                hashlib.blake2b(picture.read(), digest_size=20).digest()
            content["image"] = path
            file.write(json.dumps(content, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def transaction_milliseconds(folder: Path, times: int = 20) -> float:
    """The median time of the smallest transaction of a ledger's kind on this disk."""
    database = sqlite3.connect(folder / "transactions", isolation_level=None)
    database.execute("PRAGMA journal_mode = TRUNCATE")
    database.execute("PRAGMA synchronous = FULL")
    database.execute("CREATE TABLE numbers (number)")
    taken = []
    for number in range(times):
        start = time.perf_counter()
        database.execute("INSERT INTO numbers VALUES (?)", (number,))
        taken.append(1000 * (time.perf_counter() - start))
    database.close()
    return statistics.median(taken)


def seconds_of(work: Callable[[], object]) -> tuple[float, float]:
    """Wall and CPU seconds of `work`; the latter say more on a machine that does other things as well."""
    wall, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - processor


def spread(values: list[float]) -> dict[str, float]:
    """Median, smallest and largest."""
    return {
        "median": round(statistics.median(values), 4),
        "min": round(min(values), 4),
        "max": round(max(values), 4),
    }


def measure(count: int, rounds: int) -> dict[str, Any]:
    """All figures of the benchmark."""
    walls: dict[str, list[float]] = {}
    processors: dict[str, list[float]] = {}
    sizes: list[float] = []
    loads = [psutil.getloadavg()[0]]
    with tempfile.TemporaryDirectory() as folder:
        photos, bundle = Path(folder, "photos"), Path(folder, "bundle")
        photos.mkdir()
        bundle.mkdir()
        make_bundle(bundle)
        model = f"null@{digest_of(bundle)}"
        make_pictures(photos, count)
        for number in range(rounds + 1):
            figures = {"bare loop": seconds_of(lambda: bare_loop(photos, Path(folder, "bare.jsonl"), model))}
            with tempfile.TemporaryDirectory(dir=folder) as written:
                job = partial(caption_job, photos, Path(written), NullCaptioner(), bundle)
                figures["job"] = seconds_of(job)
                if Path(written, "rows.jsonl").read_bytes() != Path(folder, "bare.jsonl").read_bytes():
                    raise AssertionError("the job and the bare loop wrote different rows")
                figures["list and stat"] = seconds_of(lambda: list_and_stat(photos))
                figures["nothing to do"] = seconds_of(job)
                size = Path(written, LEDGER).stat().st_size / 2**20
            if number > 0 or rounds == 0:
                sizes.append(size)
                for name, (wall, processor) in figures.items():
                    walls.setdefault(name, []).append(wall)
                    processors.setdefault(name, []).append(processor)
            loads.append(psutil.getloadavg()[0])
            print(f"round {number} of {rounds}: {json.dumps(figures)}", file=sys.stderr)
        transaction = transaction_milliseconds(Path(folder))
    pairs = {
        "job / bare loop": ("job", "bare loop"),
        "nothing to do / list and stat": ("nothing to do", "list and stat"),
    }
    return {
        "pictures": count,
        "load average": spread(loads),
        "milliseconds of one transaction": round(transaction, 2),
        "wall seconds": {name: spread(values) for name, values in walls.items()},
        "CPU seconds": {name: spread(values) for name, values in processors.items()},
        "ledger MB": spread(sizes),
        **{
            f"{name}{unit}": spread(
                [above / below for above, below in zip(measured[one], measured[other], strict=True)]
            )
            for name, (one, other) in pairs.items()
            for unit, measured in (("", walls), (", CPU seconds", processors))
        },
    }


def main() -> None:
    """Read the arguments, measure, print and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=Path("runs/bench_job_null.json"))
    arguments = parser.parse_args()
    report = {
        "hardware": f"{platform.machine()}, {psutil.cpu_count()} cores",
        "python": platform.python_version(),
        **measure(arguments.count, arguments.rounds),
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
