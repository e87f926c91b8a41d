"""Scores of sentences against coco-caption's own, tokeniser and all; their intervals, comparisons and signature.

The stored scores are those that `official` gave for the stored sentences.
"""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from captioner.datasets.kinds import load_split
from captioner.datasets.records import Record
from captioner.errors import DatasetError
from captioner.evaluation import metrics
from captioner.evaluation.scores import METRICS, Scores, compare
from captioner.prediction import Captioner

ROOT = Path(__file__).parents[2]
GOLDEN = json.loads((ROOT / "tests" / "golden" / "metrics.json").read_text(encoding="utf-8"))
SENTENCES = GOLDEN["sentences"]
FLICKR = ROOT.parent / "shared" / "data" / "flickr8k"
POINTS = 0.01  # how far from the official values we may be, on the scale of 0 to 100


def official(captions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Each score of the corpus, and of the images where there is one, by pycocoevalcap from beginning to end."""
    if shutil.which("java") is None:
        pytest.skip("the official tokeniser needs Java")
    pytest.importorskip("pycocoevalcap", reason="pycocoevalcap is not installed")
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    tokeniser = PTBTokenizer()
    hypotheses = tokeniser.tokenize({i: [{"caption": caption}] for i, caption in enumerate(captions)})
    groups = tokeniser.tokenize({i: [{"caption": text} for text in group] for i, group in enumerate(references)})
    bleu, _ = Bleu(4).compute_score(groups, hypotheses, verbose=0)
    rouge, rouge_by_image = Rouge().compute_score(groups, hypotheses)
    cider, cider_by_image = Cider().compute_score(groups, hypotheses)
    return {
        "scores": dict(zip(METRICS, [100 * float(value) for value in (*bleu, rouge, cider)], strict=True)),
        "by_image": {"ROUGE-L": 100 * rouge_by_image, "CIDEr-D": 100 * cider_by_image},
    }


def assert_equal(scores: Scores, expected: dict[str, Any]) -> None:
    assert tuple(scores.values) == METRICS
    assert scores.values == pytest.approx(expected["scores"], abs=POINTS)
    for name, values in scores.by_image.items():
        assert values == pytest.approx(np.array(expected["by_image"][name]), abs=POINTS)


@pytest.fixture(scope="module")
def toy() -> Scores:
    return Scores(SENTENCES["captions"], SENTENCES["references"])


@pytest.fixture(scope="module")
def dev() -> list[Record]:
    if not FLICKR.is_dir():
        pytest.skip("Flickr8k is not in ../shared")
    return load_split(FLICKR, "dev")


def test_stored_official_scores(toy: Scores) -> None:
    assert_equal(toy, SENTENCES)


def test_a_change_of_stored_scores_is_a_new_version() -> None:
    assert GOLDEN["version"] == metrics.VERSION


def test_stored_scores_are_still_the_official_ones() -> None:
    now = official(SENTENCES["captions"], SENTENCES["references"])
    assert now["scores"] == pytest.approx(SENTENCES["scores"])
    for name, values in now["by_image"].items():
        assert values == pytest.approx(np.array(SENTENCES["by_image"][name]))


def test_human_captions_of_flickr8k(dev: list[Record]) -> None:
    captions, references = [record.captions[0] for record in dev], [record.captions[1:] for record in dev]
    assert_equal(Scores(captions, references), official(captions, references))


def test_captions_of_the_shipped_model(dev: list[Record]) -> None:
    some = dev[:60]
    with Captioner.from_bundle() as captioner:
        captions = [caption.text for caption in captioner.caption([record.image for record in some])]
    references = [record.captions for record in some]
    assert_equal(Scores(captions, references), official(captions, references))


def test_captions_without_words() -> None:
    captions, references = ["", " . ", "a dog"], [["a dog runs"], ["a cat", ""], ["a dog", "two dogs"]]
    assert_equal(Scores(captions, references), official(captions, references))


def test_intervals_hold_the_values_and_repeat(toy: Scores) -> None:
    intervals = toy.intervals()
    assert tuple(intervals) == METRICS
    for name, interval in intervals.items():
        assert interval.low < toy.values[name] < interval.high
    assert toy.intervals() == intervals
    assert toy.intervals(seed=1) != intervals
    narrow = toy.intervals(level=0.5)
    assert all(narrow[name].high < intervals[name].high for name in METRICS)


def test_an_interval_is_that_of_corpora_drawn_one_by_one(toy: Scores) -> None:
    chance = np.random.default_rng(5)
    captions, references = SENTENCES["captions"], SENTENCES["references"]
    values = []
    for _ in range(80):
        drawn = chance.integers(100, size=100)
        some = Scores([captions[i] for i in drawn], [references[i] for i in drawn])
        values.append([some.values["BLEU-4"], toy.by_image["ROUGE-L"][drawn].mean()])
    low, high = np.quantile(values, [0.1, 0.9], axis=0)
    for place, name in enumerate(("BLEU-4", "ROUGE-L")):
        interval = toy.intervals(level=0.8)[name]
        assert interval.low == pytest.approx(low[place], abs=0.3 * (high - low)[place])
        assert interval.high == pytest.approx(high[place], abs=0.3 * (high - low)[place])


def worse(captions: Sequence[str], share: float, dice: random.Random) -> list[str]:
    """Captions of which some lack their last words and go backwards."""
    return [" ".join(text.split()[-3::-1]) if dice.random() < share else text for text in captions]


def test_comparing_finds_the_better_captions(toy: Scores) -> None:
    other = Scores(worse(SENTENCES["captions"], 0.5, random.Random(1)), SENTENCES["references"])
    forth, back = compare(toy, other), compare(other, toy)
    assert tuple(forth) == METRICS
    for name in METRICS:
        assert forth[name].difference == pytest.approx(toy.values[name] - other.values[name])
        assert back[name].difference == -forth[name].difference
        assert back[name].interval.low == pytest.approx(-forth[name].interval.high)
        assert back[name].p_value == forth[name].p_value
    for name in ("BLEU-4", "ROUGE-L", "CIDEr-D"):
        assert forth[name].interval.low > 0
        assert forth[name].p_value < 0.01


def test_captions_do_not_differ_from_themselves(toy: Scores) -> None:
    for difference in compare(toy, toy).values():
        assert difference.difference == difference.interval.low == difference.interval.high == 0
        assert difference.p_value == 1


def test_p_values_of_exchanged_captions_are_uniform() -> None:
    dice = random.Random(2)
    captions, references = SENTENCES["captions"][:40], SENTENCES["references"][:40]
    p_values = []
    for _ in range(100):
        pairs = [dice.sample(pair, 2) for pair in zip(captions, worse(captions, 0.5, dice), strict=True)]
        one, other = (Scores(texts, references) for texts in zip(*pairs, strict=True))
        p_values.append([each.p_value for each in compare(one, other, resamples=2, shuffles=199).values()])
    for share in (0.1, 0.5, 0.9):
        rates = (np.array(p_values) <= share).mean(axis=0)
        assert rates == pytest.approx(share, abs=3.5 * np.sqrt(share * (1 - share) / 100))


def test_only_captions_of_the_same_images_are_compared(toy: Scores) -> None:
    captions, references = SENTENCES["captions"], SENTENCES["references"]
    with pytest.raises(DatasetError, match="of 100 and of 99 images: compare two systems' captions of the same images"):
        compare(toy, Scores(captions[:99], references[:99]))
    with pytest.raises(DatasetError, match=r"Image 4 \(counted from 0\) has other references"):
        compare(toy, Scores(captions, [*references[:4], ["another one"], *references[5:]]))


def test_as_many_captions_as_images() -> None:
    with pytest.raises(DatasetError, match="There are 1 hypotheses for 2 images"):
        Scores(["a"], [["a"], ["b"]])
    with pytest.raises(DatasetError, match="There is nothing to score"):
        Scores([], [])


def test_the_signature_says_what_must_agree(toy: Scores) -> None:
    signature = toy.signature("dev")
    assert signature["split"] == "dev"
    assert signature["images"] == 100
    assert signature["references"] == sum(map(len, SENTENCES["references"]))
    assert signature["references an image"] == "1 to 5"
    assert metrics.VERSION in str(signature["metrics"])
    assert json.loads(json.dumps(dict(signature))) == signature
    with pytest.raises(TypeError):
        signature["split"] = "test"  # type: ignore[index]


def test_the_signature_tells_sets_of_one_size_apart() -> None:
    one = [["a dog", "a cat"], ["a bird"]]
    same, other = [["A dog.", "a cat"], ["a bird"]], [["a dog", "a cat"], ["a fish"]]
    captions = ["a dog", "a bird"]
    assert Scores(captions, one).signature("dev") == Scores(captions[::-1], same).signature("dev")
    assert Scores(captions, one).signature("dev") != Scores(captions, other).signature("dev")
    assert Scores(captions, one).signature("dev") != Scores(captions, one[::-1]).signature("dev")
    assert Scores(captions, [["a"], ["b"]]).signature("dev")["references an image"] == "1"
