"""The other half of :mod:`captioner.evaluation.official`: one official scorer in a process that may be lost.

It prints, waits for Java without a limit and leaves Java behind when it dies; here that harms nobody.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

CAPTIONS, REFERENCES, SCORE, REASON = "captions", "references", "score", "reason"


def main(name: str, question: str, answer: str) -> None:
    """Answer with the score of METEOR or SPICE as the package gives it, or with the reason why there is none.

    Args:
        name: METEOR or SPICE.
        question: a JSON file with N captions and the references of each, all of them words joined by spaces.
        answer: a JSON file, written at the end.
    """
    sys.excepthook = _end
    captions, references = _read(Path(question))
    reason = _what_is_missing(name)
    if reason is None:
        scorer: Any = getattr(_module(name), name.capitalize())()  # the package publishes no types
        score, _ = scorer.compute_score(dict(enumerate(references)), {i: [text] for i, text in enumerate(captions)})
        found: dict[str, float | str] = {SCORE: float(score)}
    else:
        found = {REASON: reason}
    Path(answer).write_text(json.dumps(found), encoding="utf-8")


def _end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Say what went wrong and end at once.

    An orderly end would delete the package's METEOR, and that waits for a lock which it holds when its Java has died.
    """
    traceback.print_exception(kind, error, trace)
    sys.stderr.flush()
    os._exit(1)


def _read(question: Path) -> tuple[Sequence[str], Sequence[Sequence[str]]]:
    asked = json.loads(question.read_text(encoding="utf-8"))
    return asked[CAPTIONS], asked[REFERENCES]


def _module(name: str) -> Any:  # as above
    return importlib.import_module(f"pycocoevalcap.{name.lower()}.{name.lower()}")


def _what_is_missing(name: str) -> str | None:
    try:
        _module(name)
    except ImportError:
        return "the package pycocoevalcap is not installed (pip install pycocoevalcap)"
    if shutil.which("java") is None:
        return "there is no Java on this machine"
    if name == "SPICE":
        # The package would begin to download half a gigabyte.
        models: Any = importlib.import_module("pycocoevalcap.spice.get_stanford_models")
        folder = Path(models.SPICEDIR) / models.SPICELIB
        if not all((folder / f"{models.JAR}{part}.jar").is_file() for part in ("", "-models")):
            return "CoreNLP is not there (python -m pycocoevalcap.spice.get_stanford_models downloads it)"
    return None
