"""Memory and time of backpropagation through time, full and truncated, for captions of 20, 200 and 2,000 words.

    python tests/benchmarks/bench_truncation.py [--words 20 200 2000] [--steps 20] [--hidden-size 512] [--output FILE]

Each case is one forward and backward pass of the training objective in a process of its own: the peak of its resident
memory less what it held before, the seconds, and in a second pass the bytes that autograd kept alive for the backward
pass. The full mode is left out where it would need more than --limit megabytes, judged by the case before it.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))  # for tests.training.saved_bytes

from captioner.model.configuration import DecoderConfiguration
from captioner.model.decoder import Decoder
from captioner.training.losses import CrossEntropyOptions
from captioner.training.teacher_forcing import TeacherForcing
from captioner.training.truncation import Truncation
from tests.training.saved_bytes import SavedBytes

PICTURES, CAPTIONS, PLACES, CHANNELS, VOCABULARY = 4, 2, 49, 1280, 3000


def measure(mode: str, words: int, steps: int, hidden_size: int) -> dict[str, Any]:
    """One case, in this process."""
    torch.manual_seed(0)
    decoder = Decoder(DecoderConfiguration(hidden_size=hidden_size), vocabulary_size=VOCABULARY, channels=CHANNELS)
    forcing = TeacherForcing(
        options=CrossEntropyOptions(), truncation=Truncation(mode=mode, steps=None if mode == "full" else steps)
    )
    features = torch.rand(PICTURES, PLACES, CHANNELS)
    tokens = torch.randint(4, VOCABULARY, (PICTURES, CAPTIONS, words + 1))

    def step() -> None:
        decoder.zero_grad()
        forcing.loss(decoder, features, tokens[:, :, :-1], tokens[:, :, 1:]).backward()  # type: ignore[no-untyped-call]

    before = psutil.Process().memory_info().rss
    start = time.perf_counter()
    step()
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    with SavedBytes(tokens, features, *decoder.parameters()) as saved:
        step()
    return {
        "mode": mode,
        "words": words,
        "steps": None if mode == "full" else steps,
        "peak_megabytes": round((peak - before) / 1e6, 1),
        "saved_megabytes": round(saved.peak / 1e6, 1),
        "seconds": round(seconds, 2),
    }


def main() -> None:
    """All cases, a process each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--words", type=int, nargs="+", default=[20, 200, 2000])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--hidden-size", type=int, default=512)
    parser.add_argument("--limit", type=int, default=4000, help="megabytes")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(options.case, options.words[0], options.steps, options.hidden_size)))
        return
    rows: list[dict[str, Any]] = []
    for mode in ("full", "truncated", "randomised"):
        last: dict[str, Any] | None = None
        for words in sorted(options.words):
            if mode == "full" and last and last["saved_megabytes"] * words / last["words"] > options.limit:
                print(f"full, {words} words: left out, it would keep over {options.limit} MB")
                continue
            command = [sys.executable, __file__, "--case", mode, "--words", str(words), "--steps", str(options.steps)]
            command += ["--hidden-size", str(options.hidden_size)]
            last = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
            rows.append(last)
            print(
                f"{mode}, {words} words: peak {last['peak_megabytes']} MB over the start, kept for the backward pass "
                f"{last['saved_megabytes']} MB, {last['seconds']} s"
            )
    if options.output:
        options.output.write_text(
            json.dumps(
                {"pictures": PICTURES, "captions": CAPTIONS, "hidden_size": options.hidden_size, "cases": rows},
                indent=2,
            )
        )


if __name__ == "__main__":
    main()
