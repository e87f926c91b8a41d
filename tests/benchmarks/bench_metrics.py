"""Scoring captions, beside the official programs (pycocoevalcap) on the same captions.

    python tests/benchmarks/bench_metrics.py [--data DIR] [--rounds 5] [--output FILE.json]

Corpus: BLEU, ROUGE-L and CIDEr-D of 5,000 captions against 25,000 references, from sentences to scores. Ours is
`Scores`; the official side is its pipeline: PTBTokenizer in Java, then Bleu, Rouge and Cider in Python.

Reward: CIDEr-D of 640 captions, words given, against references that are prepared, with the document frequencies of the
whole training split; what training with rewards does at each step. Ours is `CiderD.score`, which has counted and
weighed its references before. The official CiderScorer has counted its references and their document frequencies
before, too; it cannot keep their weights, so it weighs those of the 640 images in the time that is measured.

A round measures everything once, ours and the official one in turn; medians over the rounds are reported, with the
smallest and the largest, and ratios of the same round. Both sides must give the same scores. Where there is no
Flickr8k, sentences are made up; where there is no Java or no pycocoevalcap, nothing is measured.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import random
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from captioner.datasets.kinds import load_split
from captioner.evaluation import ptb
from captioner.evaluation.metrics import CiderD
from captioner.evaluation.scores import METRICS, Scores

IMAGES = 5000
REWARDED = 640
REWARDS_A_ROUND = 10  # a reward takes milliseconds: the median of as many is a round's

Work = Callable[[], Sequence[float]]


def sentences(data: Path) -> tuple[list[list[str]], str]:
    """The five captions of each of 6,000 pictures, and where they are from."""
    if data.is_dir():
        return [list(record.captions) for record in load_split(data, "train")], "Flickr8k, training split"
    dice = random.Random(0)
    syllables = [consonant + vowel for consonant in "bdfklmnprstv" for vowel in "aeiou"]
    vocabulary = ["".join(dice.choices(syllables, k=dice.randint(1, 4))) for _ in range(8000)]
    weights = [1 / (rank + 3) for rank in range(len(vocabulary))]
    groups = [
        [" ".join(dice.choices(vocabulary, weights, k=dice.randint(6, 18))) + " ." for _ in range(5)]
        for _ in range(6000)
    ]
    return groups, "made up"


def corpus_works(groups: list[list[str]]) -> dict[str, Work]:
    """Ours and the official pipeline, each from sentences to the scores of METRICS."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    references = groups[:IMAGES]
    captions = [group[0] for group in groups[-IMAGES:]]  # of other pictures

    def ours() -> Sequence[float]:
        return list(Scores(captions, references).values.values())

    def official() -> Sequence[float]:
        tokeniser = PTBTokenizer()
        theirs = tokeniser.tokenize({i: [{"caption": text} for text in group] for i, group in enumerate(references)})
        words = tokeniser.tokenize({i: [{"caption": text}] for i, text in enumerate(captions)})
        bleu, _ = Bleu(len(METRICS) - 2).compute_score(theirs, words, verbose=0)
        rouge, _ = Rouge().compute_score(theirs, words)
        cider, _ = Cider().compute_score(theirs, words)
        return [100 * float(score) for score in (*bleu, rouge, cider)]

    return {"ours": ours, "official": official}


def reward_works(groups: list[list[str]]) -> dict[str, Work]:
    """Ours, by words and by ids, and the official CiderScorer, each from words to the rewards of 640 captions."""
    from pycocoevalcap.cider.cider_scorer import CiderScorer, cook_test

    references = [[ptb.tokenize(text) for text in group] for group in groups]
    images = range(REWARDED)
    hypotheses = [references[(image + 7) % len(references)][1] for image in images]
    cider = CiderD(references)

    numbers = {word: i for i, word in enumerate({word for group in references for text in group for word in text})}
    ids = [[[numbers[word] for word in text] for text in group] for group in references]
    hypothesis_ids = [[numbers[word] for word in text] for text in hypotheses]
    cider_of_ids = CiderD(ids)

    scorer = CiderScorer()
    for group in references:
        scorer += (None, [" ".join(words) for words in group])
    scorer.compute_doc_freq()
    strings = [" ".join(words) for words in hypotheses]

    def official() -> Sequence[float]:
        scorer.ctest = [cook_test(string) for string in strings]  # of the first images; it stops after them
        return [100 * float(score) for score in scorer.compute_cider()]

    return {
        "ours": lambda: cider.score(hypotheses, images).tolist(),
        "ours, words as ids": lambda: cider_of_ids.score(hypothesis_ids, images).tolist(),
        "official": official,
    }


def measure(works: dict[str, Work], rounds: int, repeats: int) -> dict[str, Any]:
    """Seconds of each work, and how many times as fast as the official one the others are."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        results = {}
        for name, work in works.items():
            times = []
            for _ in range(repeats):
                begun = time.perf_counter()
                results[name] = work()
                times.append(time.perf_counter() - begun)
            if number > 0:  # the first round warms up
                seconds[name].append(statistics.median(times))
        for name, result in results.items():
            if not np.allclose(result, results["official"], atol=0.01):
                sys.exit(f"{name} and official do not give the same scores: {result[:6]}, {results['official'][:6]}")
        print(f"round {number} of {rounds}", file=sys.stderr)
    report: dict[str, Any] = {"seconds": {name: spread(values) for name, values in seconds.items()}}
    for name in works:
        if name != "official":
            pairs = zip(seconds["official"], seconds[name], strict=True)
            report[f"official / {name}"] = spread([theirs / mine for theirs, mine in pairs])
    return report


def spread(values: list[float]) -> dict[str, float]:
    """Median, smallest and largest."""
    return {
        "median": round(statistics.median(values), 5),
        "min": round(min(values), 5),
        "max": round(max(values), 5),
    }


def processor() -> str:
    """The processor's name."""
    information = Path("/proc/cpuinfo")
    lines = information.read_text(encoding="utf-8").splitlines() if information.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def main() -> None:
    """Read the arguments, measure, print and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/flickr8k"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=Path("runs/bench_metrics.json"))
    arguments = parser.parse_args()
    if shutil.which("java") is None or importlib.util.find_spec("pycocoevalcap") is None:
        print("no Java or no pycocoevalcap here: there is nothing to compare with", file=sys.stderr)
        sys.exit(0)
    groups, source = sentences(arguments.data)
    report = {
        "hardware": f"{processor()}, {psutil.cpu_count()} cores",
        "numpy": np.__version__,
        "sentences": source,
        f"corpus, {IMAGES} captions": measure(corpus_works(groups), arguments.rounds, 1),
        f"reward, {REWARDED} captions": measure(reward_works(groups), arguments.rounds, REWARDS_A_ROUND),
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
