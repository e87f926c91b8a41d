"""The scorers' tokeniser against coco-caption's own: stored answers everywhere, the Java program where it is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captioner.evaluation import ptb

ROOT = Path(__file__).parents[2]
GOLDEN = json.loads((ROOT / "tests" / "golden" / "ptb.json").read_text(encoding="utf-8"))
SHARED = ROOT.parent / "shared" / "data"
FLICKR = SHARED / "flickr8k" / "Flickr8k.token.txt"
COCO = SHARED / "coco-sample" / "annotations" / "captions_train2017.json"


def official(captions: Sequence[str]) -> list[str]:
    """What coco-caption makes of each caption: its words, joined by spaces."""
    if shutil.which("java") is None:
        pytest.skip("the official tokeniser needs Java")
    module = pytest.importorskip("pycocoevalcap.tokenizer.ptbtokenizer", reason="pycocoevalcap is not installed")
    tokenized = module.PTBTokenizer().tokenize({i: [{"caption": caption}] for i, caption in enumerate(captions)})
    return [tokenized[i][0] for i in range(len(captions))]


def mismatches(captions: Sequence[str]) -> list[tuple[str, str, str]]:
    ours = [" ".join(ptb.tokenize(caption)) for caption in captions]
    return [
        (caption, mine, theirs)
        for caption, mine, theirs in zip(captions, ours, official(captions), strict=True)
        if mine != theirs
    ]


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["caption"][:30])
def test_stored_official_answers(case: dict[str, str]) -> None:
    assert " ".join(ptb.tokenize(case["caption"])) == case["tokens"]


def test_stored_answers_are_still_the_official_ones() -> None:
    assert official([case["caption"] for case in GOLDEN]) == [case["tokens"] for case in GOLDEN]


def test_every_flickr8k_caption() -> None:
    if not FLICKR.exists():
        pytest.skip("Flickr8k is not in ../shared")
    lines = FLICKR.read_text(encoding="utf-8").splitlines()
    captions = [line.split("\t", 1)[1] for line in lines]
    assert len(captions) > 30_000
    assert mismatches(captions) == []


def test_every_caption_of_the_coco_sample() -> None:
    if not COCO.exists():
        pytest.skip("the COCO sample is not in ../shared")
    captions = [annotation["caption"] for annotation in json.loads(COCO.read_text(encoding="utf-8"))["annotations"]]
    assert len(captions) >= 400
    assert mismatches(captions) == []


def test_two_sentences_in_one_caption() -> None:
    captions = [f"A square {end} {start} circle." for end in ("a.", "B.", "co.", "u.s.") for start in ("The", "Red")]
    assert mismatches(captions) == []


def test_nothing_makes_no_words() -> None:
    assert ptb.tokenize("") == []
    assert ptb.tokenize(" \t\n") == []
    assert ptb.tokenize(". , ! ? ; : ' \" - -- ...") == []


def test_brackets_stay_as_they_do_there() -> None:
    assert ptb.tokenize("A (red) square") == ["a", "-lrb-", "red", "-rrb-", "square"]


@settings(deadline=None)
@given(st.text())
def test_any_text_gives_lower_case_words_without_ordinary_spaces(text: str) -> None:
    words = ptb.tokenize(text)
    assert all(words)
    assert not any(" " in word or "\n" in word for word in words)
    assert not ptb.DROPPED.intersection(words)


@settings(deadline=None)
@given(st.lists(st.from_regex(r"[a-z]{1,8}", fullmatch=True)))
def test_plain_words_come_back(words: list[str]) -> None:
    split = {"cannot", "gonna", "gotta", "lemme", "gimme", "wanna"}
    kept = [word for word in words if word not in split]
    assert ptb.tokenize(" ".join(kept)) == kept
