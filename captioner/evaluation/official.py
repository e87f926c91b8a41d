"""METEOR and SPICE by their official programs, through the package ``pycocoevalcap``, where it and Java are there.

They are Java programs with rules and models of their own, so they are not written anew here. Whatever goes wrong with
one of them costs only that score: each runs in a process of its own, which is ended with all that it started.
Sources: Denkowski and Lavie 2014, https://aclanthology.org/W14-3348; Anderson et al. 2016,
https://arxiv.org/abs/1607.08822.
"""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

from captioner.errors import DatasetError
from captioner.evaluation import ptb
from captioner.evaluation.ngrams import check_references
from captioner.evaluation.official_child import CAPTIONS, REASON, REFERENCES, SCORE

Name = Literal["METEOR", "SPICE"]
NAMES: tuple[Name, ...] = ("METEOR", "SPICE")
TIMEOUT_SECONDS = 600.0  # METEOR takes 10 s for 1,000 images, SPICE some minutes

# -I and -S keep the environment, the working directory and .pth files out; the parent's path says where all lies.
_BOOTSTRAP = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[1]); "
    "from captioner.evaluation.official_child import main; main(*sys.argv[2:])"
)


def official(
    names: Iterable[Name],
    captions: Sequence[str],
    references: Sequence[Sequence[str]],
    *,
    timeout_seconds: float = TIMEOUT_SECONDS,
) -> dict[str, float | str]:
    """The score of each of ``names``, 0 to 100, or one sentence that says why there is none.

    Captions and references are sentences. They become words by our own tokeniser, which gives those of the official
    one without starting Java once more; no word has a line break or the scorers' separator ``|||`` in it.

    Args:
        names: which scores to compute, one after the other.
        captions: a sentence for each image.
        references: for each image, its sentences.
        timeout_seconds: for each score; the program is ended when it takes longer.

    Raises:
        DatasetError: there are not as many captions as images, no images, or an image has no reference.
    """
    check_references(references)
    if len(captions) != len(references):
        raise DatasetError(f"There are {len(captions)} captions for {len(references)} images: give one for each.")
    question = {
        CAPTIONS: [_words(caption) for caption in captions],
        REFERENCES: [[_words(reference) for reference in group] for group in references],
    }
    scores: dict[str, float | str] = {}
    for name in names:
        with tempfile.TemporaryDirectory(prefix="captioner-") as folder:
            score = _score(name, question, Path(folder), timeout_seconds)
        scores[name] = score if isinstance(score, float) else f"{name} could not be computed: {score}."
    return scores


def _words(sentence: str) -> str:
    return " ".join(ptb.tokenize(sentence))


def _score(name: Name, question: object, folder: Path, timeout_seconds: float) -> float | str:
    """The score, or the reason why there is none."""
    asked, answer, complaints = folder / "question.json", folder / "answer.json", folder / "stderr"
    asked.write_text(json.dumps(question), encoding="utf-8")
    try:
        code = _run([name, str(asked), str(answer)], complaints, timeout_seconds)
    except subprocess.TimeoutExpired:
        return f"it took longer than {timeout_seconds:g} seconds"
    except OSError as error:
        return f"its process cannot be started ({error.strerror})"
    if code != 0:
        lines = complaints.read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line.strip().rstrip(".") for line in reversed(lines) if line.strip()), f"exit code {code}")
        return f"its process failed ({last})"
    found = json.loads(answer.read_text(encoding="utf-8"))
    if REASON in found:
        return str(found[REASON])
    score = 100.0 * float(found[SCORE])
    return score if math.isfinite(score) else "its program gave no number"


def _run(arguments: Sequence[str], complaints: Path, timeout_seconds: float) -> int:
    """Run the child; whatever happens, it and the Java that it started are gone afterwards. Returns its exit code."""
    path = [str(Path(entry).absolute()) for entry in sys.path if entry]
    path.append(str(Path(__file__).resolve().parents[2]))
    with complaints.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _BOOTSTRAP, json.dumps(path), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            process_group=0,  # so that all of them can be ended at once
        )
        try:
            return process.wait(timeout_seconds)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
