"""Drawings of a report: they are well-formed, and their marks stand where the numbers are."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from captioner.pictures import charts
from captioner.pictures.charts import Curve, CurveChart, Reliability, ReliabilityBin


def parse(content: str) -> ElementTree.Element:
    return ElementTree.fromstring(f"<div>{content}</div>")


def numbers(path: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?[\d.]+", path)]


def test_an_interval_stands_where_its_numbers_are() -> None:
    svg = parse(charts.interval(53.1, 49.6, 56.7, 200))
    paths = {path.get("class"): numbers(path.get("d", "")) for path in svg.iter("path")}
    assert paths == {"track": [0, 5, 100], "band": [24.8, 5, 28.35], "mark": [26.55, 0, 10]}


def test_a_score_without_interval_has_no_band() -> None:
    assert "band" not in charts.interval(5.0, None, None, 100)


def test_the_reliability_diagram() -> None:
    bins = (
        ReliabilityBin(predicted=0.75, observed=0.5, count=400),
        ReliabilityBin(predicted=0.25, observed=0.25, count=100),
        ReliabilityBin(predicted=0.5, observed=0.9, count=0),
    )
    root = parse(charts.reliability(Reliability(bins=bins, predicted_label="said <b>", observed_label="was")))
    ideal = next(path for path in root.iter("path") if path.get("class") == "ideal")
    left, bottom, right, top = numbers(ideal.get("d", ""))
    circles = list(root.iter("circle"))
    assert [float(circle.get("cx", 0)) for circle in circles] == pytest.approx(
        [left + 0.25 * (right - left), left + 0.75 * (right - left)], abs=0.1
    )
    assert [float(circle.get("cy", 0)) for circle in circles] == pytest.approx(
        [bottom - 0.25 * (bottom - top), bottom - 0.5 * (bottom - top)], abs=0.1
    )
    small, large = (float(circle.get("r", 0)) for circle in circles)
    assert large == pytest.approx(2 * small, abs=0.1)  # four times as many: twice as wide
    assert [cell.text for cell in root.iter("td")] == ["25%", "25%", "100", "75%", "50%", "400"]
    assert [cell.text for cell in root.iter("th")] == ["said <b>", "was", "number"]


def test_a_diagram_of_nothing_is_still_one() -> None:
    parse(charts.reliability(Reliability(bins=())))
    parse(charts.curves(CurveChart(title="", x_label="", y_label="", curves=())))
    parse(charts.curves(CurveChart(title="", x_label="", y_label="", curves=(Curve(name="none", points=()),))))


def test_curves_with_their_legend_and_numbers() -> None:
    chart = CurveChart(
        title="Loss",
        x_label="epoch",
        y_label="nats",
        curves=(
            Curve(name="training & co", points=((1, 4.0), (2, 3.0), (3, 2.5))),
            Curve(name="one", points=((2, 3.5),)),
        ),
    )
    root = parse(charts.curves(chart))
    assert [("".join(item.itertext())).strip() for item in root.iter("li")] == ["training & co", "one"]
    assert [cell.text or "" for cell in root.iter("td")] == ["1", "4", "", "2", "3", "3.5", "3", "2.5", ""]
    drawn = [numbers(path.get("d", "")) for path in root.iter("path") if "L" in path.get("d", "")]
    (x0, y0, x1, y1, x2, y2) = drawn[0]
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.2)
    assert (y1 - y0) == pytest.approx(2 * (y2 - y1), abs=0.3)
    assert len(list(root.iter("circle"))) == 1  # the curve of one point


@given(low=st.floats(-1e6, 1e6), width=st.floats(1e-3, 1e6), most=st.integers(2, 10))
def test_ticks_are_round_and_hold_all(low: float, width: float, most: int) -> None:
    found = charts.ticks(low, low + width, most)
    assert 2 <= len(found) <= most + 1
    assert found[0] <= low + 1e-6 * width
    assert found[-1] >= low + width * (1 - 1e-6)
    step = (found[-1] - found[0]) / (len(found) - 1)
    mantissa = float(f"{step:e}".split("e")[0])
    assert min(abs(mantissa - round_one) for round_one in (1, 2, 5, 10)) < 1e-3
