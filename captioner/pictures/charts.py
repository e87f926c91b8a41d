"""The drawings of a report as inline SVG: intervals, a reliability diagram and curves.

Colours and type come from the page's style sheet by class, so that one drawing serves light and dark. A diagram is 360
units wide, about as wide as a column of the page, so that its letters keep their size on a phone. The numbers behind it
stand below it in a table.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from captioner.pictures.percent import percent

_WIDTH = 360
_LEFT, _RIGHT, _TOP = 58, 18, 12  # units: from the edges of a diagram to its plot
_MAX_RADIUS, _MIN_RADIUS = 8.0, 3.0  # of a bin's dot; its area says how much the bin holds
_NUM_STYLES = 4  # of curves, in the style sheet: colour and dashes


@dataclass(frozen=True, kw_only=True)
class ReliabilityBin:
    """Predictions that were about equally sure.

    Attributes:
        predicted: their mean probability, 0 to 1.
        observed: how often they came true, 0 to 1.
        count: how many there are.
    """

    predicted: float
    observed: float
    count: int


@dataclass(frozen=True, kw_only=True)
class Reliability:
    """A calibration diagram: what probabilities are worth.

    Attributes:
        bins: in any order; empty ones are left out.
        predicted_label, observed_label: what the axes show.
        explanation: a sentence or two beside the diagram.
    """

    bins: tuple[ReliabilityBin, ...]
    predicted_label: str = "probability that the model gave"
    observed_label: str = "how often it was right"
    explanation: str = ""


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A named series of (x, y) points, in the order of x."""

    name: str
    points: tuple[tuple[float, float], ...]


@dataclass(frozen=True, kw_only=True)
class CurveChart:
    """Curves over the same axes; `x_label` and `y_label` say what they show, with units."""

    title: str
    x_label: str
    y_label: str
    curves: tuple[Curve, ...]


def interval(value: float, low: float | None, high: float | None, limit: float) -> str:
    """A score as a mark on a line from 0 to `limit`, its interval as a band. It stretches; its strokes do not."""

    def place(number: float) -> str:
        return f"{100 * min(1.0, max(0.0, number / limit)):.2f}"

    band = "" if low is None or high is None else f'<path class="band" d="M{place(low)} 5H{place(high)}"/>'
    return (
        '<svg class="interval" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true" focusable="false">'
        f'<path class="track" d="M0 5H100"/>{band}<path class="mark" d="M{place(value)} 0V10"/></svg>'
    )


def reliability(diagram: Reliability) -> str:
    """The diagram with its table. On the dashed diagonal, probabilities mean what they say."""
    bins = sorted((each for each in diagram.bins if each.count > 0), key=lambda each: each.predicted)
    side = _WIDTH - _LEFT - _RIGHT
    bottom = _TOP + side
    most = max((each.count for each in bins), default=1)

    def x(share: float) -> float:
        return _LEFT + side * share

    def y(share: float) -> float:
        return bottom - side * share

    parts = [_grid_line(_LEFT, y(share), side, percent(share)) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    parts += [_below(x(share), bottom + 18, percent(share)) for share in (0.25, 0.5, 0.75, 1.0)]
    parts += [_axis_labels(diagram.predicted_label, diagram.observed_label, bottom)]
    for each in bins:  # how the predictions are spread, as bars at the foot
        tall = max(1.0, 0.16 * side * each.count / most)
        parts.append(f'<path class="bar" d="M{x(each.predicted):.1f} {bottom:.1f}v{-tall:.1f}"/>')
    parts.append(f'<path class="ideal" d="M{x(0)} {y(0)}L{x(1)} {y(1)}"/>')
    places = [(x(each.predicted), y(each.observed)) for each in bins]
    parts.append(f'<path class="curve style-0" d="{_path(places)}"/>')
    for each, (across, up) in zip(bins, places, strict=True):
        radius = max(_MIN_RADIUS, _MAX_RADIUS * math.sqrt(each.count / most))
        told = f"said {percent(each.predicted)}, came true {percent(each.observed)}, {each.count:,} times"
        parts.append(
            f'<circle class="point style-0" cx="{across:.1f}" cy="{up:.1f}" r="{radius:.1f}">'
            f"<title>{told}</title></circle>"
        )
    label = f"Reliability diagram: {diagram.observed_label} against {diagram.predicted_label}"
    rows = [(percent(each.predicted), percent(each.observed), f"{each.count:,}") for each in bins]
    names = (diagram.predicted_label, diagram.observed_label, "number")
    return _svg(bottom + 48, label, parts) + table(names, rows)


def curves(chart: CurveChart) -> str:
    """The curves with their legend and their table."""
    plot_height, side = 200, _WIDTH - _LEFT - _RIGHT
    bottom = _TOP + plot_height
    xs = [x for curve in chart.curves for x, _ in curve.points]
    ys = [y for curve in chart.curves for _, y in curve.points]
    first, last = min(xs, default=0), max(xs, default=1)
    x_ticks, y_ticks = ticks(first, last, 6), ticks(min(ys, default=0), max(ys, default=1), 5)
    span = (last - first) or 1.0

    def place(x: float, y: float) -> tuple[float, float]:
        share = (y - y_ticks[0]) / (y_ticks[-1] - y_ticks[0])
        return _LEFT + side * (x - first) / span, bottom - plot_height * share

    parts = [_grid_line(_LEFT, place(first, y)[1], side, f"{y:g}") for y in y_ticks]
    parts += [_below(place(x, 0)[0], bottom + 18, f"{x:g}") for x in x_ticks if first <= x <= last]
    parts.append(_axis_labels(chart.x_label, chart.y_label, bottom))
    legend: list[str] = []
    for number, curve in enumerate(chart.curves):
        style = f"style-{number % _NUM_STYLES}"
        places = [place(x, y) for x, y in curve.points]
        parts.append(f'<path class="curve {style}" d="{_path(places)}"/>')
        if len(places) == 1:  # a line of one point is not to be seen
            parts.append(f'<circle class="point {style}" cx="{places[0][0]:.1f}" cy="{places[0][1]:.1f}" r="3"/>')
        swatch = f'<svg width="28" height="10" aria-hidden="true"><path class="curve {style}" d="M0 5H28"/></svg>'
        legend.append(f"<li>{swatch} {escape(curve.name)}</li>")
    label = f"{chart.title}: {chart.y_label} by {chart.x_label}"
    values = [dict(curve.points) for curve in chart.curves]
    rows = [(f"{x:g}", *(f"{points[x]:.4g}" if x in points else "" for points in values)) for x in sorted(set(xs))]
    names = (chart.x_label, *(curve.name for curve in chart.curves))
    return f'<ul class="legend">{"".join(legend)}</ul>' + _svg(bottom + 48, label, parts) + table(names, rows)


def ticks(low: float, high: float, most: int) -> list[float]:
    """At least two numbers, 1, 2 or 5 times a power of ten apart, from at or below `low` to at or above `high`."""
    if high <= low:
        high = low + 1.0
    rough = (high - low) / max(1, most - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(step for step in (power, 2 * power, 5 * power, 10 * power) if step >= rough * (1 - 1e-9))
    start, end = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(index * step, 10) for index in range(start, end + 1)]


def table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The numbers of a diagram, folded away."""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        '<details class="numbers"><summary>The numbers</summary><div class="wide" tabindex="0">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div></details>"
    )


def _svg(height: float, label: str, parts: Iterable[str]) -> str:
    return (
        f'<svg class="diagram" viewBox="0 0 {_WIDTH} {height:g}" role="img" aria-label="{escape(label)}">'
        f"{''.join(parts)}</svg>"
    )


def _path(places: Iterable[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in places) if places else ""


def _grid_line(left: float, y: float, width: float, label: str) -> str:
    return (
        f'<path class="grid" d="M{left:g} {y:.1f}h{width:g}"/>'
        f'<text class="tick" x="{left - 8:g}" y="{y + 4:.1f}" text-anchor="end">{escape(label)}</text>'
    )


def _below(x: float, y: float, label: str) -> str:
    return f'<text class="tick" x="{x:.1f}" y="{y:g}" text-anchor="middle">{escape(label)}</text>'


def _axis_labels(across: str, up: str, bottom: float) -> str:
    middle = (_TOP + bottom) / 2
    return (
        f'<text class="axis" x="{(_LEFT + _WIDTH - _RIGHT) / 2:g}" y="{bottom + 38:g}" text-anchor="middle">'
        f"{escape(across)}</text>"
        f'<text class="axis" transform="translate(13 {middle:g}) rotate(-90)" text-anchor="middle">{escape(up)}</text>'
    )
