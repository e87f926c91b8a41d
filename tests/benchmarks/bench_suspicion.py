"""How well exchanged captions are found: the area under the curve, and how many are among the first suspects.

    python tests/benchmarks/bench_suspicion.py [--data FOLDER] [--split dev] [--share 0.02] [--output FILE.json]

A share of the captions of a split is exchanged among pictures (each goes to another picture, in a ring), all pairs are
ranked by `captioner score --images --captions`, and the ranks of the exchanged ones are looked at. The ranking by plain
log-probability stands beside the one by margin, in the same run.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from captioner.datasets.kinds import load_split
from captioner.evaluation.suspicion import area_under_curve

SHARED = Path(__file__).parents[3] / "shared" / "data" / "flickr8k"


def measure(data: Path, split: str, share: float, seed: int, bundle: Path | None) -> dict[str, Any]:
    """All figures of the benchmark."""
    records = load_split(data, split)
    dice = random.Random(seed)
    rows = [[record.image.name, caption] for record in records for caption in record.captions]
    per_image = len(rows) // len(records)
    chosen = dice.sample(range(len(records)), max(2, round(share * len(rows))))
    places = [image * per_image + dice.randrange(per_image) for image in chosen]
    texts = [rows[place][1] for place in places]
    for place, text in zip(places, [*texts[1:], texts[0]], strict=True):
        rows[place][1] = text
    wrong = {(rows[place][0], rows[place][1]) for place in places}
    with tempfile.TemporaryDirectory() as folder:
        captions, suspects = Path(folder, "captions.csv"), Path(folder, "suspects.jsonl")
        with captions.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([["image", "caption"], *rows])
        command = [sys.executable, "-m", "captioner", "score", "--images", str(records[0].image.parent)]
        command += ["--captions", str(captions), "--output", str(suspects)]
        start = time.perf_counter()
        subprocess.run(
            [*command, *(["--bundle", str(bundle)] if bundle else [])], check=True, stdout=subprocess.DEVNULL
        )
        seconds = time.perf_counter() - start
        ranked = [json.loads(line) for line in suspects.read_text(encoding="utf-8").splitlines()]
    is_wrong = [(Path(row["image"]).name, row["caption"]) in wrong for row in ranked]
    areas = {
        name: area_under_curve(
            [row[name] for row, bad in zip(ranked, is_wrong, strict=True) if bad],
            [row[name] for row, bad in zip(ranked, is_wrong, strict=True) if not bad],
        )
        for name in ("margin", "score")
    }
    first = len(places)
    return {
        "captions": len(rows),
        "exchanged": len(places),
        "area under the curve, by margin": round(areas["margin"], 4),
        "area under the curve, by log-probability a word": round(areas["score"], 4),
        f"exchanged among the first {first}": sum(is_wrong[:first]),
        f"exchanged among the first {2 * first}": sum(is_wrong[: 2 * first]),
        "seconds, start-up included": round(seconds, 1),
    }


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=SHARED)
    parser.add_argument("--split", default="dev")
    parser.add_argument("--share", type=float, default=0.02, help="of the captions, to be exchanged")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    if not arguments.data.is_dir():
        sys.exit(f"{arguments.data} is not here: name a data set in the Flickr layout with --data.")
    found = json.dumps(
        measure(arguments.data, arguments.split, arguments.share, arguments.seed, arguments.bundle), indent=2
    )
    sys.stdout.write(found + "\n")
    if arguments.output:
        arguments.output.write_text(found + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
