"""What the reward costs of a step of self-critical training.

    python tests/benchmarks/bench_reward.py [--pictures 6000] [--batch 32] [--samples 5] [--rounds 20] [--output FILE]

The shipped decoder draws captions of generated grids, as `captioner train` does on cached features. The references are
generated too: five for each picture of a training split of that size, of 6 to 16 words of which the nth most frequent
is drawn 1 / n as often as the first, which is how words of a language are spread. Both halves of a step are timed
in the same run: drawing, loss, gradient and optimiser; and the reward.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from captioner.bundle import default_bundle, load_bundle
from captioner.text.vocabulary import SPECIAL_WORDS, Vocabulary
from captioner.training.reward import Reward
from captioner.training.self_critical import advantages, draw, policy_loss

_PLACES = 49
_MAX_LENGTH = 20


def measure(pictures: int, batch: int, samples: int, rounds: int) -> dict[str, Any]:
    """The seconds of both halves of each step, and the share of the reward, without and with BLEU-4."""
    torch.manual_seed(0)
    bundle = load_bundle(default_bundle())
    decoder, channels = bundle.model.decoder.requires_grad_(True).train(), bundle.model.encoder.channels
    words = range(len(SPECIAL_WORDS), len(bundle.vocabulary))
    weights = list(itertools.accumulate(1 / (n + 1) for n in range(len(words))))
    dice = random.Random(0)
    references = [
        [[*dice.choices(words, cum_weights=weights, k=dice.randint(6, 16)), Vocabulary.end] for _ in range(5)]
        for _ in range(pictures)
    ]
    rewards = {"CIDEr-D": Reward(references)}
    rewards["CIDEr-D and BLEU-4"] = Reward(references, bleu_weight=0.5)
    optimizer = torch.optim.AdamW(decoder.parameters(), lr=1e-6)
    seconds: dict[str, list[float]] = {name: [] for name in ("the rest of a step", *rewards)}
    for number in range(rounds + 2):
        features = torch.rand(batch, _PLACES, channels)
        numbers = torch.randint(pictures, (batch,)).repeat_interleave(samples).tolist()
        start = time.perf_counter()
        drawn = draw(decoder, features, samples=samples, max_length=_MAX_LENGTH)
        captions = drawn.captions()
        rest = time.perf_counter() - start
        for name, reward in rewards.items():
            start = time.perf_counter()
            earned = reward(captions, numbers)
            took = time.perf_counter() - start
            if number > 1:  # the first two warm up
                seconds[name].append(took)
        start = time.perf_counter()
        optimizer.zero_grad()
        policy_loss(drawn, advantages(earned.view(batch, samples))).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if number > 1:
            seconds["the rest of a step"].append(rest + time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {
        "hardware": {"torch threads": torch.get_num_threads()},
        "pictures of the training split": pictures,
        "captions a step": batch * samples,
        "milliseconds": {name: round(1000 * value, 1) for name, value in medians.items()},
        "spread (quartiles), milliseconds": {
            name: [round(1000 * value, 1) for value in statistics.quantiles(values, n=4)[::2]]
            for name, values in seconds.items()
        },
        "share of the reward in a step": {
            name: round(medians[name] / (medians[name] + medians["the rest of a step"]), 4) for name in rewards
        },
    }


def main() -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=6000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--samples", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    found = measure(arguments.pictures, arguments.batch, arguments.samples, arguments.rounds)
    text = json.dumps(found, indent=2)
    print(text)
    if arguments.output is not None:
        arguments.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
