"""The report as a file: what stands in it, that text stays text, and that examples pass through one by one."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import io
import re
import weakref
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest
from PIL import Image

from captioner.pictures.cards import DISPLAY_SIZE, DisplayPicture, Example, card
from captioner.pictures.charts import Curve, CurveChart, Reliability, ReliabilityBin
from captioner.pictures.report import Fact, FactGroup, Report, ReportScore, write_report
from tests.pictures.toy_examples import toy_caption, toy_examples

HOSTILE = "</script><script>document.title='owned'</script><!--<script>\"'&lt; $few <img src=x onerror=alert(1)>"


def written(report: Report) -> str:
    file = io.StringIO()
    write_report(report, file)
    return file.getvalue()


def hostile_report() -> Report:
    """Every text of it tries to break out."""
    example = Example(
        name=HOSTILE + "\udce9",
        picture=DisplayPicture.of(np.zeros((8, 8, 3), dtype=np.uint8)),
        caption=dataclasses.replace(toy_caption("x " + HOSTILE, others=[HOSTILE]), text=HOSTILE),
        seen=(0.0, 0.0, 1.0, 1.0),
        references=(HOSTILE,),
        cider=1.0,
    )
    return Report(
        title=HOSTILE,
        scores=(ReportScore(name=HOSTILE, value=1.0, low=0.5, high=2.0),),
        scores_note=HOSTILE,
        examples=[example],
        signature={HOSTILE: HOSTILE},
        facts=(FactGroup(title=HOSTILE, facts=(Fact(name=HOSTILE, value=HOSTILE, explanation=HOSTILE),)),),
        reliability=Reliability(
            bins=(ReliabilityBin(predicted=0.5, observed=0.5, count=1),),
            predicted_label=HOSTILE,
            observed_label=HOSTILE,
            explanation=HOSTILE,
        ),
        curves=(CurveChart(title=HOSTILE, x_label=HOSTILE, y_label=HOSTILE, curves=(Curve(name=HOSTILE, points=()),)),),
    )


class Outline(HTMLParser):
    """The elements of a page in their order, and their attributes; what a script holds is text, as in a browser."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def test_the_parts_stand_in_their_order() -> None:
    page = written(
        dataclasses.replace(hostile_report(), title="The title", examples=toy_examples(3), facts=(), curves=())
    )
    places = [
        page.index(part)
        for part in ("<h1>The title", 'class="scores"', "<h2>Signature", "<h2>Diagrams", ">Examples</h2>")
    ]
    assert places == sorted(places)
    assert "What the scores hide" not in page  # nothing was given for it
    assert written(Report(title="t", scores=(), examples=())).count("<h2") == 1


def test_a_score_is_drawn_on_a_line_that_is_long_enough() -> None:
    scores = (ReportScore(name="BLEU-4", value=20.0, low=19.0, high=21.0), ReportScore(name="CIDEr-D", value=120.0))
    page = written(Report(title="t", scores=scores, examples=()))
    assert "The lines run from 0 to 100; CIDEr-D to 200." in page
    assert "19.0 to 21.0" in page


def test_text_stays_text() -> None:
    page = written(hostile_report())
    outline = Outline(page)
    kinds = [attributes.get("type") for attributes in outline.all("script")]
    assert kinds == ["text/html", None]  # the example, and the page's own
    assert outline.all("meta")[1]["http-equiv"] == "Content-Security-Policy"
    assert all("onerror" not in attributes for _, attributes in outline.elements)
    assert [attributes["src"] for attributes in outline.all("img") if attributes["src"] == "x"] == []
    assert page.count("<!--") == page.count("</script><script>document") == 0
    page.encode("utf-8")  # the undecodable byte of the file name has gone
    (content,) = re.findall(r'class="example"[^>]*>(.*?)</script>', page, re.DOTALL)
    inner = Outline(content)
    assert {tag for tag, _ in inner.elements} <= set(
        "article figure div img figcaption h3 h4 p span strong ol ul li button meter".split()
    )
    assert inner.text.count(HOSTILE) >= 3  # caption, reference, alternative


def test_the_policy_names_the_script_and_the_style() -> None:
    page = written(Report(title="t", scores=(), examples=toy_examples(2)))
    (policy,) = (attributes["content"] for attributes in Outline(page).all("meta") if "http-equiv" in attributes)
    assert policy is not None
    for tag in ("script", "style"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert not re.search(r'(?:src|href|action)="(?!data:|#)', page)
    assert " style=" not in page  # the policy would not have it


def test_an_example_carries_what_finding_it_needs() -> None:
    outline = Outline(written(Report(title="t", scores=(), examples=toy_examples(5))))
    found = [each for each in outline.all("script") if each.get("class") == "example"]
    assert [each["data-cider"] for each in found] == ["0.0000", "1.0000", "2.0000", "3.0000", "4.0000"]
    assert [each["data-confidence"] for each in found][:2] == ["1.000000", "0.800000"]
    for attributes, example in zip(found, toy_examples(5), strict=True):
        assert attributes["data-text"] == "\n".join((example.caption.text, *example.references))
    again = Outline(written(Report(title="t", scores=(), examples=toy_examples(5))))
    draws = [each["data-draw"] for each in found]
    assert len(set(draws)) == 5
    assert draws == [each["data-draw"] for each in again.all("script") if each.get("class") == "example"]


def test_without_a_script_the_best_the_worst_and_some_are_shown() -> None:
    page = written(Report(title="t", scores=(), examples=toy_examples(40)))
    few = page[page.index("<noscript>") : page.index("</noscript>")]
    names = re.findall(r"<figcaption[^>]*>toy_(\d+)", few)
    assert len(names) == 12
    assert [int(name) for name in names[:8]] == [39, 38, 37, 36, 0, 1, 2, 3]
    assert few.count('<img src="data:image/jpeg;base64,') == 12


def test_attention_is_a_byte_a_place() -> None:
    (example,) = toy_examples(1)
    maps = np.zeros((len(example.caption.words), 2, 3), dtype=np.float32)
    maps[0] = [[0.1, 0.2, 0.0], [0.4, 0.2, 0.1]]
    attributes: dict[str, Any] = Outline(
        card(dataclasses.replace(example, caption=dataclasses.replace(example.caption, attention=maps)), 0)
    ).all("article")[0]
    assert (attributes["data-rows"], attributes["data-columns"]) == ("2", "3")
    assert attributes["data-seen"] == "0.125 0 0.875 1"
    coded = np.frombuffer(base64.b64decode(attributes["data-attention"]), dtype=np.uint8).reshape(maps.shape)
    assert coded[0].tolist() == [[64, 128, 0], [255, 128, 64]]
    assert not coded[1:].any()


def test_a_model_without_attention_has_words_that_are_no_buttons() -> None:
    (example,) = toy_examples(1)
    outline = Outline(card(dataclasses.replace(example, caption=toy_caption("a dog", attention=False)), 0))
    assert outline.all("button") == []
    assert "data-attention" not in outline.all("article")[0]
    assert outline.text.count("dog") == 1


def test_a_display_picture_is_a_small_jpeg() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    pixels = np.asarray(Image.fromarray(noise).resize((DISPLAY_SIZE, 192), Image.Resampling.BICUBIC))
    picture = DisplayPicture.of(pixels)
    assert (picture.width, picture.height) == (DISPLAY_SIZE, 192)
    assert picture.jpeg.startswith(b"\xff\xd8\xff")
    with Image.open(io.BytesIO(picture.jpeg)) as shown:
        assert np.abs(np.asarray(shown, dtype=int) - pixels).mean() < 6


def test_examples_are_forgotten_once_they_are_written() -> None:
    alive: weakref.WeakSet[Example] = weakref.WeakSet()
    most = 0

    def watched() -> Iterator[Example]:
        nonlocal most
        for example in toy_examples(30):
            seen = Watched(**{field.name: getattr(example, field.name) for field in dataclasses.fields(example)})
            alive.add(seen)
            del example
            most = max(most, len(alive))
            yield seen
            del seen

    written(Report(title="t", scores=(), examples=watched()))
    assert most <= 2


class Watched(Example):
    """An example that can be watched: equal to itself only."""

    __hash__ = object.__hash__
    __eq__ = object.__eq__


def test_a_report_is_written_in_pieces() -> None:
    pieces: list[int] = []

    class Sink:
        def write(self, text: str, /) -> None:
            pieces.append(len(text))

    write_report(Report(title="t", scores=(), examples=toy_examples(20)), Sink())
    assert len(pieces) == 22


@pytest.mark.parametrize("count", [0, 1])
def test_few_examples_are_enough(count: int) -> None:
    page = written(Report(title="t", scores=(), examples=toy_examples(count)))
    assert page.startswith("<!doctype html>")
    assert page.rstrip().endswith("</html>")
