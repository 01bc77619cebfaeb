"""Pages of studies and their charts."""

from __future__ import annotations

import math
import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.report import Figure, Ranged, RunInfo, Section, StudyPage, Table, render_study, write_study_page
from tocsin.report.curves import HEAT_STEPS, SERIES_COLOURS, Curve, curves, heat_map

RUN = RunInfo(command="judges", input_name="<data>.jsonl", input_hash="ab" * 32, tool_version="1")
HOSTILE = "<script>alert(1)</script>"


def page(rows: int = 2) -> StudyPage:
    table = Table(
        title="Scores",
        columns=("metric", "score", "n"),
        rows=[(f"{HOSTILE}{i}", Ranged(0.5, 0.4, 0.6), 1200) for i in range(rows)],
        note="per prompt",
    )
    chart = curves("c", "Depth", [Curve(HOSTILE, [(1, 1), (2, 4)])], x_label="layer", y_label="effect")
    section = Section(
        title="Results", paragraphs=("One.",), parts=[table, Figure(title="Depth", markup=chart)]
    )
    return StudyPage(title="Word count wins", lead="What was asked.", sections=[section], limits=["Small."])


def test_a_page_escapes_every_cell_and_label(tmp_path: Path) -> None:
    write_study_page(tmp_path / "report.html", RUN, page())
    text = (tmp_path / "report.html").read_text("utf-8")
    assert HOSTILE not in text
    assert text.count("&lt;script&gt;") >= 3
    assert "0.500 (0.400 to 0.600)" in text
    assert "1,200" in text
    assert "style=" not in text


def test_a_long_table_is_cut_and_says_so(tmp_path: Path) -> None:
    write_study_page(tmp_path / "report.html", RUN, page(rows=403))
    text = (tmp_path / "report.html").read_text("utf-8")
    assert text.count("<tbody>") == 400
    assert "3 more rows" in text


def test_a_terminal_shows_tables_without_control_characters() -> None:
    found = render_study(page(), width=100)
    assert "Scores" in found
    assert "0.500 (0.400 to 0.600)" in found
    assert "\x1b" not in found


def test_a_page_has_a_colour_for_every_class_of_a_chart() -> None:
    style = (Path(__file__).parents[2] / "src/tocsin/report/templates/report.css").read_text("utf-8")
    for name in [f"curve-{i}" for i in range(SERIES_COLOURS)] + [f"heat-{i}" for i in range(HEAT_STEPS + 1)]:
        assert f".{name} " in style


@pytest.mark.parametrize("is_log", [False, True])
@given(ys=st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=8))
def test_curves_are_well_formed_for_any_numbers(ys: list[float], is_log: bool) -> None:
    bounded = [y if not math.isfinite(y) else max(min(y, 1e12), -1e12) for y in ys]
    points = [(float(i), y) for i, y in enumerate(bounded)]
    markup = curves(
        "c", "t", [Curve("a", points, band=[(y - 1, y + 1) for y in bounded])],
        x_label="x", y_label="y", log_x=is_log, log_y=is_log, reference=1.0,
    )  # fmt: skip
    ET.fromstring(str(markup))
    assert "nan" not in re.sub(r"<desc.*?</desc>|<title.*?</title>", "", str(markup))


def test_a_logarithmic_axis_puts_equal_ratios_at_equal_distances() -> None:
    markup = str(
        curves("c", "t", [Curve("a", [(1, 1), (10, 1), (100, 1)])], x_label="x", y_label="y", log_x=True)
    )
    found = re.search(r'class="curve curve-0" d="M([\d.]+) [\d.]+L([\d.]+) [\d.]+L([\d.]+)', markup)
    assert found is not None
    first, second, third = map(float, found.groups())
    assert second - first == pytest.approx(third - second, abs=0.02)


def test_a_heat_map_shades_by_the_largest_absolute_value() -> None:
    markup = str(heat_map("h", "t", ["a", "b"], ["x", "y"], [[1.0, -2.0], [0.0, math.nan]]))
    ET.fromstring(markup)
    assert 'class="heat-10 below"' in markup
    assert 'class="heat-5"' in markup
    assert ">-<" in markup


def test_rounding_leaves_no_negative_zero() -> None:
    assert str(Ranged(-0.0001, -0.0004, 0.0001)) == "0.000 (0.000 to 0.000)"
    assert str(Ranged(-0.25, -0.5, 0.0, 2)) == "-0.25 (-0.50 to 0.00)"
