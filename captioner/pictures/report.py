"""The report of an evaluation: one HTML file with scores, diagrams and examples, which opens from disk with no network.

It is written in one go, from the top: an example is forgotten as soon as it is written, so that ten thousand of them
need no more memory than one, save for the few that are also shown without a script.
The page asks no other host for anything: its Content-Security-Policy names its own script and style by their hashes.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from string import Template

from captioner.pictures import charts
from captioner.pictures.cards import Example, card, text
from captioner.pictures.charts import CurveChart, Reliability
from captioner.pictures.page import TextSink, read, style_and_script

_SEED = 1  # of the random examples: everyone who opens a report sees the same ones
_FEW = 4  # best, worst and random examples each that are shown without a script
_LIMITS = (1, 10, 100, 200, 500, 1000)  # to which the line of a score may run


@dataclass(frozen=True, kw_only=True)
class ReportScore:
    """A score with its interval, in the score's own unit; low and high are None where nobody has measured it."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, kw_only=True)
class Fact:
    """Something that a score hides: a name, a value as it is to be read, and a sentence that says what it means."""

    name: str
    value: str
    explanation: str


@dataclass(frozen=True, kw_only=True)
class FactGroup:
    """Facts that belong together, under a title."""

    title: str
    facts: tuple[Fact, ...]


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that a report shows, in its order.

    Attributes:
        title: the heading, and the name of the browser's window.
        scores: with their intervals; `scores_note` says in a sentence what the intervals are.
        signature: name and value of what must be equal for scores to be compared.
        facts: what the scores hide.
        reliability: a calibration diagram, or None.
        curves: of the training.
        examples: taken once, one by one.
    """

    title: str
    scores: tuple[ReportScore, ...]
    examples: Iterable[Example]
    scores_note: str = ""
    signature: Mapping[str, str] = field(default_factory=dict)
    facts: tuple[FactGroup, ...] = ()
    reliability: Reliability | None = None
    curves: tuple[CurveChart, ...] = ()


def write_report(report: Report, file: TextSink) -> None:
    """Write the whole page into `file`, example by example."""
    head, tail = read("report.html").split("<!-- examples -->")
    values = {
        "title": text(report.title),
        **style_and_script("report"),
        "scores": _scores(report),
        "signature": _signature(report.signature),
        "facts": _section("What the scores hide", "".join(map(_fact_group, report.facts))),
        "diagrams": _diagrams(report),
    }
    file.write(Template(head).substitute(values))
    few = _Few()
    chance = random.Random(_SEED)
    for number, example in enumerate(report.examples):
        drawn, content = chance.random(), card(example, number)
        searched = "\n".join((example.caption.text, *example.references))
        # A script of no known type: the browser keeps it as text until the page's own script asks for it. All text in
        # a card is escaped, so that it can hold neither an end tag of a script nor a comment.
        file.write(
            f'<script type="text/html" class="example" data-cider="{example.cider:.4f}" '
            f'data-confidence="{example.caption.confidence:.6f}" data-draw="{drawn:.8f}" data-text="{text(searched)}">'
            f"{content}</script>\n"
        )
        few.offer(number, example.cider, drawn, content)
    file.write(Template(tail).substitute(values, few=few.html()))


class _Few:
    """The best, the worst and some random cards of all that pass by: what is shown without a script."""

    def __init__(self) -> None:
        self._kept: dict[str, list[tuple[float, int, str]]] = {"Best": [], "Worst": [], "Drawn at random": []}

    def offer(self, number: int, cider: float, drawn: float, content: str) -> None:
        """Keep the card if it is among the first of a kind so far."""
        for kept, order in zip(self._kept.values(), (-cider, cider, drawn), strict=True):
            kept.append((order, number, content))
            kept.sort()
            del kept[_FEW:]

    def html(self) -> str:
        """The kept cards under their titles."""
        return "".join(
            f'<h3 class="kind">{title}</h3>' + "".join(content for _, _, content in kept)
            for title, kept in self._kept.items()
        )


def _scores(report: Report) -> str:
    """The table of scores, and below it what its lines and bands are."""
    if not report.scores:
        return ""
    rows: list[str] = []
    limits: dict[float, list[str]] = {}
    for score in report.scores:
        most = max(score.value, score.high or 0.0)
        limit = next((limit for limit in _LIMITS[2:] if most <= limit), _LIMITS[-1])
        limits.setdefault(limit, []).append(score.name)
        known = score.low is not None and score.high is not None
        rows.append(
            f'<tr><th scope="row">{text(score.name)}</th><td class="value">{score.value:.1f}</td>'
            f'<td class="drawn">{charts.interval(score.value, score.low, score.high, limit)}</td>'
            f'<td class="range">{f"{score.low:.1f} to {score.high:.1f}" if known else ""}</td></tr>'
        )
    first, *others = sorted(limits.items())
    lines = [f"The lines run from 0 to {first[0]:g}", *(f"{', '.join(names)} to {limit:g}" for limit, names in others)]
    note = f"{report.scores_note} {'; '.join(lines)}.".strip()
    return (
        '<table class="scores"><thead class="for-ears"><tr><th scope="col">Score</th><th scope="col">Value</th>'
        f'<th scope="col">Drawn</th><th scope="col">Interval</th></tr></thead><tbody>{"".join(rows)}</tbody></table>'
        f'<p class="note">{text(note)}</p>'
    )


def _signature(signature: Mapping[str, str]) -> str:
    if not signature:
        return ""
    pairs = "".join(f"<div><dt>{text(name)}</dt><dd>{text(value)}</dd></div>" for name, value in signature.items())
    note = '<p class="note">Scores compare only with scores of the same signature.</p>'
    return _section("Signature", f'{note}<dl class="signature">{pairs}</dl>')


def _fact_group(group: FactGroup) -> str:
    facts = "".join(
        f'<div><dt>{text(fact.name)}</dt><dd class="value">{text(fact.value)}</dd>'
        f'<dd class="note">{text(fact.explanation)}</dd></div>'
        for fact in group.facts
    )
    return f'<h3>{text(group.title)}</h3><dl class="facts-grid">{facts}</dl>'


def _diagrams(report: Report) -> str:
    parts: list[str] = []
    if report.reliability is not None:
        note = f'<p class="note">{text(report.reliability.explanation)}</p>' if report.reliability.explanation else ""
        parts.append(f"<h3>Are the probabilities right?</h3>{note}{charts.reliability(report.reliability)}")
    parts += [f"<h3>{text(chart.title)}</h3>{charts.curves(chart)}" for chart in report.curves]
    content = "".join(f'<div class="chart">{part}</div>' for part in parts)
    return _section("Diagrams", f'<div class="charts">{content}</div>' if content else "")


def _section(title: str, content: str) -> str:
    """A part of the page under its heading, or nothing where there is no content."""
    return f'<section aria-label="{title}"><h2>{title}</h2>{content}</section>' if content else ""
