"""Jobs that are killed again and again, beside the same jobs left alone: the bytes of every output are compared.

    python tests/benchmarks/bench_kills.py [--photos DIR] [--pictures 10000] [--kills 50] [--real 400] [--real-kills 10]
                                           [--seed 1] [--output FILE.json]

First with no model (tests/integration/null_job.py), then `captioner caption` with the shipped model on photos. Each
kill is a kill -9 after a random number of new rows and a random moment more; once all rows are there, at a random
moment while the outputs are written. Every output format is written, and sidecars that are appended to texts that are
there.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.integration.jobs import (  # noqa: E402
    EVERY_OUTPUT,
    LEDGER,
    NULL,
    REAL,
    contents,
    copied,
    draw_photos,
    kill_after,
    recorded,
    run,
)


def measure(folder: Path, command: Sequence[str], pictures: int, kills: int, seed: int) -> dict[str, Any]:
    """The command in `folder`, left alone, and in a copy of it, killed; the folder holds the pictures."""
    killed = copied(folder, folder.with_name("killed"))
    begin = time.perf_counter()
    code, told = run(folder, command, timeout=3600)
    alone = time.perf_counter() - begin
    assert code == 0, told
    chance = random.Random(seed)
    alive, progress, partial = 0, [], 0
    begin = time.perf_counter()
    for _ in range(kills):
        left = pictures - recorded(killed / LEDGER)
        rows = min(left, chance.randrange(3 * pictures // (2 * kills)))
        alive += kill_after(killed, command, rows, chance.random() * (0.05 if left else 2.0))
        progress.append(recorded(killed / LEDGER))
        partial += any(path.endswith(".part") for path in contents(killed))
        print(f"{progress[-1]} of {pictures} recorded", file=sys.stderr)
    code, told = run(killed, command, timeout=3600)
    expected, found = contents(folder), contents(killed)
    return {
        "pictures": pictures,
        "kills": kills,
        "of them of a living process": alive,
        "of them while a file was being written": partial,
        "recorded after each kill": progress,
        "exit code of the last run": code,
        "seconds left alone": round(alone, 1),
        "seconds with kills": round(time.perf_counter() - begin, 1),
        "files compared": len(expected),
        "files that differ": sorted(
            path for path in expected.keys() | found.keys() if expected.get(path) != found.get(path)
        ),
    }


def main() -> None:
    """Print the report, and write it to a file if asked."""
    parser = argparse.ArgumentParser(description="Jobs that are killed, compared with jobs that are not.")
    parser.add_argument("--photos", type=Path, default=ROOT.parent / "shared/data/flickr8k/Images")
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--real", type=int, default=400, help="photos for the real model; 0 leaves it out")
    parser.add_argument("--real-kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    report: dict[str, Any] = {"seed": arguments.seed}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "null", "alone")
        draw_photos(folder, arguments.pictures)
        command = [*NULL, "photos", *EVERY_OUTPUT]
        report["no model"] = measure(folder, command, arguments.pictures, arguments.kills, arguments.seed)
    photos = sorted(arguments.photos.glob("*.jpg"))[: arguments.real]
    if photos:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name, "real", "alone")
            (folder / "photos").mkdir(parents=True)
            for photo in photos:
                shutil.copy2(photo, folder / "photos")
            command = [*REAL, "photos", *EVERY_OUTPUT, "--precision", "float32"]
            report["shipped model"] = measure(folder, command, len(photos), arguments.real_kills, arguments.seed)
    text = json.dumps(report, indent=2)
    print(text)
    if arguments.output is not None:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
