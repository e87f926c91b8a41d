"""The scorers' tokeniser against coco-caption's own: stored answers everywhere, the Java program where it is."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.evaluation import ptb
from tests.evaluation import adversarial

ROOT = Path(__file__).parents[2]
GOLDEN = json.loads((ROOT / "tests" / "golden" / "ptb.json").read_text(encoding="utf-8"))
GENERATED = json.loads(adversarial.GOLDEN.read_text(encoding="utf-8"))
SHARED = ROOT.parent / "shared" / "data"
FLICKR = SHARED / "flickr8k" / "Flickr8k.token.txt"
COCO = SHARED / "coco-sample" / "annotations" / "captions_train2017.json"

# Where we are known to differ, and why. A sentence that differs and is not named here is a failure, and so is one that
# is named and does not differ.
_SIGMA = (
    "Java ends a Greek word, and so chooses its last sigma, by tables of its own; ours has the usual characters only"
)
KNOWN_MISMATCHES = {
    "http://x/\u0391\u03a3\u20d0\u0391": _SIGMA,  # a mark that is no letter to the tokeniser
    "http://x/\u0391\u03a3\U0001042e": _SIGMA,  # a letter beyond 16 bits
}


def official(captions: Sequence[str]) -> list[str]:
    """The official words of each caption, whatever its neighbours are."""
    skip_without_the_official_tokeniser()
    return adversarial.official(captions)


def official_in_one_text(captions: Sequence[str]) -> list[str]:
    """What coco-caption makes of the captions when it scores them: one text, a line each."""
    skip_without_the_official_tokeniser()
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    tokenized = PTBTokenizer().tokenize({i: [{"caption": caption}] for i, caption in enumerate(captions)})
    return [words for group in tokenized.values() for words in group]


def skip_without_the_official_tokeniser() -> None:
    if shutil.which("java") is None:
        pytest.skip("the official tokeniser needs Java")
    pytest.importorskip("pycocoevalcap.tokenizer.ptbtokenizer", reason="pycocoevalcap is not installed")


def mismatches(
    captions: Sequence[str], reference: Callable[[Sequence[str]], list[str]] = official
) -> list[tuple[str, str, str]]:
    """Those captions for which our words and the official ones differ, with both."""
    ours = [" ".join(ptb.tokenize(caption)) for caption in captions]
    return [
        (caption, mine, theirs)
        for caption, mine, theirs in zip(captions, ours, reference(captions), strict=True)
        if mine != theirs
    ]


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["caption"][:30])
def test_stored_official_answers(case: dict[str, str]) -> None:
    assert " ".join(ptb.tokenize(case["caption"])) == case["tokens"]


def test_stored_answers_are_still_the_official_ones() -> None:
    assert official([case["caption"] for case in GOLDEN]) == [case["tokens"] for case in GOLDEN]


def test_stored_official_answers_to_generated_sentences() -> None:
    ours = {case["caption"]: " ".join(ptb.tokenize(case["caption"])) for case in GENERATED}
    assert {case["caption"]: case["tokens"] for case in GENERATED} == ours


def test_the_generator_makes_the_same_sentences_everywhere() -> None:
    stored = [case["caption"] for case in GENERATED]
    assert adversarial.sentences(adversarial.GOLDEN_SEED, adversarial.GOLDEN_COUNT) == stored


def test_stored_answers_to_generated_sentences_are_still_the_official_ones() -> None:
    assert official([case["caption"] for case in GENERATED]) == [case["tokens"] for case in GENERATED]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_generated_sentences(seed: int) -> None:
    captions = adversarial.sentences(seed, 5000) + list(KNOWN_MISMATCHES)
    found = mismatches(captions)
    assert [case for case in found if case[0] not in KNOWN_MISMATCHES] == []
    assert {case[0] for case in found} == set(KNOWN_MISMATCHES)


def test_every_character_of_16_bits() -> None:
    characters = [chr(point) for point in range(0x10000) if not 0xD800 <= point < 0xE000]
    captions = [" ".join(f"a{character}b" for character in characters[i : i + 64]) for i in range(0, 63_488, 64)]
    assert mismatches(captions) == []


def test_the_lines_between_do_not_matter() -> None:
    captions = adversarial.sentences(5, 1000)
    assert official(captions) == adversarial.official(captions, between="of brown dogs")


@pytest.mark.parametrize("character", adversarial.LINE_BREAKS)
def test_a_character_that_ends_a_line_is_a_space(character: str) -> None:
    assert ptb.tokenize(f"A red{character}square") == ["a", "red", "square"]


@pytest.mark.parametrize("character", adversarial.LINE_BREAKS)
def test_what_coco_caption_makes_of_a_character_that_ends_a_line(character: str) -> None:
    theirs = official_in_one_text([f"A red{character}square", "A dog"])
    if character == "\n":
        assert theirs == ["a red square", "a dog"]
    else:  # the second caption is scored with the rest of the first
        assert theirs == ["a red", "square"]


def test_every_flickr8k_caption() -> None:
    if not FLICKR.exists():
        pytest.skip("Flickr8k is not in ../shared")
    lines = FLICKR.read_text(encoding="utf-8").splitlines()
    captions = [line.split("\t", 1)[1] for line in lines]
    assert len(captions) > 30_000
    assert mismatches(captions, official_in_one_text) == []


def test_every_caption_of_the_coco_sample() -> None:
    if not COCO.exists():
        pytest.skip("the COCO sample is not in ../shared")
    captions = [annotation["caption"] for annotation in json.loads(COCO.read_text(encoding="utf-8"))["annotations"]]
    assert len(captions) >= 400
    assert mismatches(captions, official_in_one_text) == []


def test_two_sentences_in_one_caption() -> None:
    captions = [f"A square {end} {start} circle." for end in ("a.", "B.", "co.", "u.s.") for start in ("The", "Red")]
    assert mismatches(captions) == []


def test_nothing_makes_no_words() -> None:
    assert ptb.tokenize("") == []
    assert ptb.tokenize(" \t\n") == []
    assert ptb.tokenize(". , ! ? ; : ' \" - -- ...") == []


def test_brackets_stay_as_they_do_there() -> None:
    assert ptb.tokenize("A (red) square") == ["a", "-lrb-", "red", "-rrb-", "square"]


@given(st.text())
def test_any_text_gives_lower_case_words_without_ordinary_spaces(text: str) -> None:
    words = ptb.tokenize(text)
    assert all(words)
    assert not any(" " in word or "\n" in word for word in words)
    assert not ptb.DROPPED.intersection(words)


def test_a_long_caption_takes_no_long_time() -> None:
    begin = time.process_time()
    for text in ("a", "1.", "a-", "a@", "\u6f22", "\u20ac", "\U0001f600", "<a ", "A&", "'", " "):
        ptb.tokenize(text * 1000)
    assert time.process_time() - begin < 5  # 0.1 s on a laptop; minutes if a pattern backtracks


@given(st.lists(st.from_regex(r"[a-z]{1,8}", fullmatch=True)))
def test_plain_words_come_back(words: list[str]) -> None:
    split = {"cannot", "gonna", "gotta", "lemme", "gimme", "wanna"}
    kept = [word for word in words if word not in split]
    assert ptb.tokenize(" ".join(kept)) == kept
