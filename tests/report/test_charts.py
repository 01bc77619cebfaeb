from __future__ import annotations

import math
import re
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis.strategies import floats, integers, lists, text, tuples
from made_up import HOSTILE

from tocsin.report import charts, svg

NAMES = text(max_size=40)


def parse(markup: str) -> ET.Element:
    return ET.fromstring(markup)


def rectangles(markup: str) -> list[dict[str, float]]:
    return [
        {name: float(value) for name, value in node.attrib.items() if name not in ("class", "rx")}
        for node in parse(markup).iter("rect")
    ]


def test_bars_are_proportional_to_their_values() -> None:
    wide, narrow, none = rectangles(
        charts.bar_chart("c", "t", [charts.Bar("a", 100), charts.Bar("b", 25), charts.Bar("c", 0)])
    )
    assert narrow["width"] == pytest.approx(wide["width"] / 4, abs=0.01)
    assert none["width"] == 0


def test_histogram_heights_are_square_roots_and_stack() -> None:
    # counts 100 and 25 give heights 170 and 170 * sqrt(25/100) = 85
    tall, short = rectangles(charts.histogram("h", "t", [100, 0], [0, 25]))
    assert tall["height"] == pytest.approx(170)
    assert short["height"] == pytest.approx(85)
    below, above = rectangles(charts.histogram("h", "t", [9], [7]))
    assert below["height"] + above["height"] == pytest.approx(170, abs=0.02)
    assert above["y"] + above["height"] == pytest.approx(below["y"], abs=0.02)


def test_threshold_is_drawn_where_it_lies_on_the_axis() -> None:
    markup = charts.histogram("h", "t", [1] * 40, [0] * 40, [0.25])
    line = next(node for node in parse(markup).iter("line") if node.get("class") == "threshold")
    # the axis runs from 52 to 480 - 12 = 468; a quarter of it lies at 52 + 416 / 4 = 156
    assert float(line.attrib["x1"]) == pytest.approx(156)


def test_a_few_items_stay_visible_in_the_strip_and_its_parts_fill_it() -> None:
    parts = rectangles(
        charts.strip("s", "t", [charts.Bar("a", 1), charts.Bar("b", 100_000), charts.Bar("c", 0)])
    )
    assert len(parts) == 2
    assert parts[0]["width"] >= 3
    assert parts[1]["x"] + parts[1]["width"] == pytest.approx(svg.WIDTH, abs=0.02)


def test_polar_points_lie_at_angle_phi_and_distance_theta() -> None:
    (x, y), (u, v) = charts.polar([(2.0, 0.0), (1.0, math.pi / 2)])
    assert (x, y) == pytest.approx((2.0, 0.0))
    assert (u, v) == pytest.approx((0.0, 1.0))


def test_interval_plot_puts_the_value_between_its_ends() -> None:
    markup = charts.intervals("i", "t", [charts.Interval("a", 0.5, 0.25, 0.75)])
    line = next(node for node in parse(markup).iter("line") if node.get("class") == "interval")
    dot = next(parse(markup).iter("circle"))
    low, high, middle = (float(v) for v in (line.attrib["x1"], line.attrib["x2"], dot.attrib["cx"]))
    assert (low + high) / 2 == pytest.approx(middle, abs=0.02)


def test_a_long_label_of_an_interval_takes_two_lines_and_loses_nothing() -> None:
    label = "harmfulness on a file with a long name, safe <rows> only"
    markup = charts.intervals("i", "t", [charts.Interval(label, 0.5, 0.25, 0.75)])
    lines = [node.text or "" for node in parse(markup).iter("text") if node.get("class") == "label"]
    assert len(lines) == 2
    assert " ".join(lines) == label
    assert all(len(line) <= 28 for line in lines)


def test_empty_input_gives_a_chart_that_says_so() -> None:
    empty = [
        charts.bar_chart("a", "t", []),
        charts.strip("b", "t", []),
        charts.intervals("c", "t", []),
    ]
    for markup in empty:
        description = parse(markup).find("desc")
        assert description is not None
        assert (description.text or "").startswith("no ")
    assert "0 points" in charts.scatter(
        "d", "t", [charts.Series("all", "flagged", [])], x_label="x", y_label="y"
    )


def test_points_that_are_not_finite_are_left_out() -> None:
    series = charts.Series("all", "flagged", [(math.inf, 0.0), (0.0, math.nan), (1.0, 1.0)])
    markup = charts.scatter("d", "t", [series], x_label="x", y_label="y")
    assert len(list(parse(markup).iter("circle"))) == 1
    assert "nan" not in markup.lower()


def all_charts(name: str, values: list[float], counts: list[int]) -> list[str]:
    points = list(zip(values, reversed(values), strict=True))
    return [
        charts.bar_chart("a", name, [charts.Bar(name, count) for count in counts]),
        charts.strip("b", name, [charts.Bar(name, count) for count in counts]),
        charts.histogram("c", name, counts, counts, values[:3]),
        charts.scatter("d", name, [charts.Series("s", "flagged", points)], x_label=name, y_label=name),
        charts.intervals("e", name, [charts.Interval(name, v, v, v) for v in values]),
    ]


@given(NAMES, lists(floats(0, 1), max_size=6), lists(integers(0, 10**9), max_size=6))
def test_charts_are_well_formed_titled_and_repeatable_for_any_label(
    name: str, values: list[float], counts: list[int]
) -> None:
    first, second = all_charts(name, values, counts), all_charts(name, values, counts)
    assert first == second
    for markup in first:
        root = parse(markup)
        assert root.get("role") == "img"
        assert [child.tag for child in root[:2]] == ["title", "desc"]
        assert not re.search(r'="-?(nan|inf)', markup)


@given(lists(tuples(floats(-1e6, 1e6), floats(-1e6, 1e6)), min_size=1, max_size=20))
def test_every_point_lies_inside_the_drawing(points: list[tuple[float, float]]) -> None:
    markup = charts.scatter(
        "d", "t", [charts.Series("s", "flagged", points)], x_label="x", y_label="y", is_square=True
    )
    for node in parse(markup).iter("circle"):
        assert 0 <= float(node.attrib["cx"]) <= svg.WIDTH
        assert 0 <= float(node.attrib["cy"]) <= 360


def test_no_chart_carries_a_style_attribute_or_raw_markup_of_a_label() -> None:
    for markup in all_charts(HOSTILE, [0.5], [1]):
        assert "style=" not in markup
        assert "<img" not in markup
