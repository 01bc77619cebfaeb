from __future__ import annotations

import io

import pytest
from made_up import HOSTILE, hostile_rows, hostile_run, row, rows, run
from rich.cells import cell_len

from tocsin.core.records import Finding, Reason
from tocsin.report import render_table, summarise


def table(given_rows: object = None, *, width: int = 80, **options: object) -> str:
    summary = summarise(given_rows)  # type: ignore[arg-type]
    return render_table(run(), summary, width=width, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("width", [60, 80, 100, 140, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    for line in table(rows(300), width=width).splitlines():
        assert cell_len(line) <= width


def test_flagged_rows_come_first_by_score_then_groups_then_the_sum() -> None:
    text = table(
        [
            row(0, 0.7),
            row(1, reason=Reason.LANGUAGE),
            row(2, 0.95, category="cyberattack"),
            row(3, 0.1, findings=(Finding(rule="skill/name-missing", message="m"),)),
            row(4, 0.1, left_out=("2 windows",)),
        ],
        width=100,
    )
    marks = [
        "0.950",
        "0.700",
        "not judged: language",
        "partly read: 2 windows",
        "skill/name-missing",
        "5 items",
    ]
    places = [text.index(mark) for mark in marks]
    assert places == sorted(places)
    assert text.rstrip().endswith("2 flagged, 1 not flagged, 1 partly read, 1 not judged")


def test_rows_beyond_the_limit_are_counted_and_point_to_the_results_file() -> None:
    text = table([row(i, 0.9) for i in range(10)], max_rows=4)
    assert text.count("0.900") == 4
    assert "6 more flagged, in results.jsonl" in text


def test_the_detector_is_named_only_when_there_are_several() -> None:
    assert "detector" not in table([row(0)])
    assert "biopsy" in table([row(0), row(0, detector="biopsy")])


def test_known_findings_and_an_unfinished_run_are_said() -> None:
    summary = summarise([row(0, 0.9, known=True)])
    text = " ".join(render_table(run(finished=None), summary, width=100).split())
    assert "0 flagged, 1 known (in the baseline)" in text
    assert "unfinished" in text


def test_hostile_names_cannot_move_the_cursor_or_start_markup() -> None:
    text = render_table(hostile_run(), summarise(hostile_rows()), width=120)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "[U+001B]" in "".join(text.split())
    io.StringIO().write(text)
    text.encode("utf-8")
    assert HOSTILE not in text


def test_examined_text_is_never_printed() -> None:
    text = table([row(0, text={"text": "quite plain placeholder words"})], width=200)
    assert "placeholder" not in text


def test_colours_appear_on_a_terminal_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    assert "\x1b[" not in table([row(0)])
    assert "\x1b[" in table([row(0)], is_terminal=True)


def test_empty_run_gives_one_line() -> None:
    assert table([]).strip() == "0 items of examples/prompts and skills: 0 flagged, 0 not flagged"
