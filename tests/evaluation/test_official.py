"""METEOR by its official program; and that whatever goes wrong with it or SPICE is a sentence, soon, and tidy."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from captioner.errors import DatasetError
from captioner.evaluation.official import NAMES, official

ROOT = Path(__file__).parents[2]
SENTENCES = json.loads((ROOT / "tests" / "golden" / "metrics.json").read_text(encoding="utf-8"))["sentences"]
CAPTIONS, REFERENCES = ["A dog runs.", ""], [["a dog runs", "Dogs run!"], ["a cat"]]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package that stands before pycocoevalcap, for a test to fill, and a Java that can be found."""
    folder = tmp_path / "site" / "pycocoevalcap"
    folder.mkdir(parents=True)
    (folder / "__init__.py").touch()
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\nexit 3\n")
    java.chmod(0o755)
    monkeypatch.setenv("PATH", f"{java.parent}:{os.environ['PATH']}")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return folder


def write_scorer(package: Path, name: str, body: str) -> None:
    """A scorer whose `compute_score(self, gts, res)` has this body."""
    folder = package / name.lower()
    folder.mkdir()
    lines = "\n".join(f"        {line}" for line in body.splitlines())
    (folder / f"{name.lower()}.py").write_text(
        f"class {name.capitalize()}:\n    def compute_score(self, gts, res):\n{lines}\n"
    )


def test_meteor_is_the_official_one(capfd: pytest.CaptureFixture[str]) -> None:
    if shutil.which("java") is None:
        pytest.skip("METEOR needs Java")
    pytest.importorskip("pycocoevalcap", reason="pycocoevalcap is not installed")
    scores = official(["METEOR"], SENTENCES["captions"], SENTENCES["references"])
    assert scores == {"METEOR": pytest.approx(SENTENCES["meteor"], abs=0.01)}
    assert capfd.readouterr() == ("", "")


def test_scorers_see_words_and_print_nothing(package: Path, capfd: pytest.CaptureFixture[str]) -> None:
    body = """\
import subprocess
subprocess.run(["echo", "noise"])
print("more noise")
assert res == {0: ["a dog runs"], 1: [""]}, res
assert gts == {0: ["a dog runs", "dogs run"], 1: ["a cat"]}, gts
return 0.25, [0.5, 0.0]"""
    write_scorer(package, "METEOR", body)
    assert official(["METEOR"], CAPTIONS, REFERENCES) == {"METEOR": 25.0}
    assert capfd.readouterr() == ("", "")


def test_spice_is_asked_only_where_its_models_are(package: Path) -> None:
    write_scorer(package, "SPICE", "return 0.125, []")
    (package / "spice" / "get_stanford_models.py").write_text(
        f"SPICEDIR, SPICELIB, JAR = {str(package)!r}, 'lib', 'corenlp'\n"
    )
    reason = official(["SPICE"], CAPTIONS, REFERENCES)["SPICE"]
    assert str(reason).startswith("SPICE could not be computed: CoreNLP is not there")
    (package / "lib").mkdir()
    for jar in ("corenlp.jar", "corenlp-models.jar"):
        (package / "lib" / jar).touch()
    assert official(["SPICE"], CAPTIONS, REFERENCES) == {"SPICE": 12.5}


def test_one_failure_does_not_cost_the_other_score(package: Path) -> None:
    write_scorer(package, "METEOR", "return 0.5, []")
    scores = official(NAMES, CAPTIONS, REFERENCES)
    assert scores["METEOR"] == 50.0
    assert scores["SPICE"] == (
        "SPICE could not be computed: the package pycocoevalcap is not installed (pip install pycocoevalcap)."
    )


def test_without_java(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_scorer(package, "METEOR", "return 0.5, []")
    monkeypatch.setenv("PATH", str(package))
    assert official(["METEOR"], CAPTIONS, REFERENCES) == {
        "METEOR": "METEOR could not be computed: there is no Java on this machine."
    }


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("raise ValueError('could not convert.')", "its process failed (ValueError: could not convert)"),
        ("import os\nos._exit(7)", "its process failed (exit code 7)"),
        ("import os\nos.abort()", "its process failed ("),
        ("return float('nan'), []", "its program gave no number"),
    ],
)
def test_a_scorer_that_fails(package: Path, body: str, reason: str) -> None:
    write_scorer(package, "METEOR", body)
    assert f"METEOR could not be computed: {reason}" in str(official(["METEOR"], CAPTIONS, REFERENCES)["METEOR"])


def test_the_true_meteor_with_a_java_that_dies(package: Path) -> None:
    pytest.importorskip("pycocoevalcap.meteor.meteor", reason="pycocoevalcap is not installed")
    shutil.rmtree(package)  # but its Java stays
    # The package's own object waits for itself for ever here.
    reason = str(official(["METEOR"], CAPTIONS, REFERENCES, timeout_seconds=600)["METEOR"])
    assert reason.startswith("METEOR could not be computed: its process failed (")


def test_a_scorer_that_hangs_is_ended_with_all_that_it_started(package: Path, tmp_path: Path) -> None:
    note = tmp_path / "pid"
    body = f"""\
import pathlib, subprocess, time
process = subprocess.Popen(["sleep", "6000"])
pathlib.Path({str(note)!r}).write_text(str(process.pid))
time.sleep(6000)"""
    write_scorer(package, "METEOR", body)
    for seconds in (1, 10, 100):  # on a busy machine its process does not get that far in a second
        begun = time.monotonic()
        scores = official(["METEOR"], CAPTIONS, REFERENCES, timeout_seconds=seconds)
        assert scores == {"METEOR": f"METEOR could not be computed: it took longer than {seconds} seconds."}
        assert time.monotonic() - begun < seconds + 19
        if note.exists():
            break
    while alive(int(note.read_text())):  # whoever inherits it needs a moment to bury it
        assert time.monotonic() - begun < 600, "the program that the scorer started still runs"
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    status = Path(f"/proc/{pid}/stat")
    return not (status.is_file() and status.read_text().rpartition(")")[2].split()[0] == "Z")


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(DatasetError, match="There are 1 captions for 2 images: give one for each"):
        official(["METEOR"], ["a"], REFERENCES)
    with pytest.raises(DatasetError, match="There is nothing to score"):
        official(["METEOR"], [], [])
