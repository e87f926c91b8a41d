"""The service's answers beside its OpenAPI document, on requests that schemathesis makes up.

    python tests/benchmarks/bench_fuzz.py [--cases 5000] [--seed 1] [--output FILE.json]

The real WSGI application around the fake captioner (tests/service/fuzzing.py) is asked for every operation of the
document: its boundaries first, then random requests, valid and not, until there were as many `cases`; one more round
after another, each with a seed of its own. What counts as wrong: an answer of 5xx, and any difference between an answer
and the document in status, media type, headers or body, a member that is not in the document included; and a request
that breaks the document and is answered all the same. Ends with 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))  # what follows is shared with the tests of the service

from service.app import create_app
from service.settings import Settings
from tests.service.fake_captioner import FakeCaptioner
from tests.service.fuzzing import fuzz

MAX_EXAMPLES = 150  # random cases of an operation in a round


def measure(cases: int, seed: int) -> dict[str, Any]:
    """Rounds until there were as many `cases`, and all that was wrong in them."""
    started = time.monotonic()
    answers: Counter[str] = Counter()
    failures: dict[str, str] = {}
    failed: Counter[str] = Counter()
    errors: list[str] = []
    sent = rounds = 0
    while sent < cases:
        found = fuzz(create_app(FakeCaptioner(), Settings()), max_examples=MAX_EXAMPLES, seed=seed + rounds)
        sent += found.cases
        rounds += 1
        answers += found.answers
        failed += found.failed
        failures |= found.failures
        errors += found.errors
        print(f"round {rounds}: {found.cases} cases, {sum(found.failed.values())} wrong", file=sys.stderr)
    statuses: Counter[str] = Counter()
    for name, count in answers.items():
        statuses[name.rpartition(" ")[2]] += count
    return {
        "cases": sent,
        "rounds": rounds,
        "first seed": seed,
        "seconds": round(time.monotonic() - started, 1),
        "server errors": sum(count for status, count in statuses.items() if status.startswith("5")),
        "wrong": dict(failed),
        "examples of what was wrong": failures,
        "errors of the tool": errors,
        "statuses": dict(sorted(statuses.items())),
        "answers": dict(sorted(answers.items())),
    }


def main() -> None:
    """Measure, print, and write if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)  # a line for every request
    found = measure(arguments.cases, arguments.seed)
    text = json.dumps(found, indent=2)
    print(text)
    if arguments.output is not None:
        arguments.output.write_text(text + "\n", encoding="utf-8")
    if found["server errors"] or found["wrong"] or found["errors of the tool"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
