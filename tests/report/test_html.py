from __future__ import annotations

import base64
import hashlib
import itertools
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from made_up import HOSTILE, hostile_rows, hostile_run, row, rows, run

from tocsin.core.errors import RunError
from tocsin.core.records import Evidence, Finding, Reason
from tocsin.report import ReportRow, RunInfo, write_html_report
from tocsin.report.html import REASONS, TEXT_SHOWN
from tocsin.report.summary import TOP_ROWS

VOID = frozenset({"meta", "input", "br", "img", "link", "rect", "line", "circle"})


class Page(HTMLParser):
    """The page as a browser without scripts reads it: tags, attributes and visible text."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.words: list[str] = []
        self.raw: dict[str, str] = {}
        self.feed(source)
        self.close()
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1] == tag, f"</{tag}> closes <{self.open[-1]}>"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("style", "script"):
            self.raw[self.open[-1]] = data
        else:
            self.words.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page(
    tmp_path: Path, given_rows: list[ReportRow], info: RunInfo | None = None, *, include_text: bool = False
) -> Page:
    path = tmp_path / "report.html"
    write_html_report(path, info or run(), given_rows, include_text=include_text)
    return Page(path.read_text("utf-8"))


@pytest.fixture
def hostile(tmp_path: Path) -> Page:
    return page(tmp_path, list(hostile_rows()), hostile_run(), include_text=True)


def test_page_says_how_many_items_met_which_fate(tmp_path: Path) -> None:
    found = page(
        tmp_path,
        [
            row(0, 0.9),
            row(1, 0.9, known=True),
            row(2, reason=Reason.LANGUAGE),
            row(3, 0.1, left_out=("2 windows",)),
            row(4, 0.1),
        ],
    )
    assert "1 of 5 items flagged" in found.text
    for number, name in (
        (1, "flagged"),
        (1, "known, in the baseline"),
        (1, "not judged"),
        (1, "partly read"),
    ):
        assert f"{name} {number}" in found.text
    assert REASONS[Reason.LANGUAGE] in found.text


def test_page_explains_flag_threshold_source_and_method(tmp_path: Path) -> None:
    found = page(tmp_path, list(rows(50)))
    assert "The model represents the text as a request for something harmful." in found.text
    assert "0.6, from the fitted profile" in found.text
    assert "Latent Guard, arXiv 2507.11878" in found.text
    assert "embedded:smollm2-135m@0123456789abcdef" in found.text
    assert "tocsin scan 'examples/prompts and skills' --detector harmfulness" in found.text


def test_findings_show_score_category_place_and_span(tmp_path: Path) -> None:
    found = page(
        tmp_path, [row(6, 0.875, path="lists/a.jsonl", evidence=(Evidence(part="text", start=3, end=9),))]
    )
    assert "0.875 Fraud and scams prohibited lists/a.jsonl:7 text 3–9" in found.text


def test_nothing_flagged_is_not_called_safe(tmp_path: Path) -> None:
    found = page(tmp_path, [row(0, 0.1)])
    assert "Nothing flagged in 1 item" in found.text
    assert "does not prove the input harmless" in found.text


def test_when_nothing_could_be_judged_the_headline_says_so(tmp_path: Path) -> None:
    found = page(tmp_path, [row(i, reason=Reason.EMPTY) for i in range(3)])
    assert "No item could be judged" in found.text
    assert "nothing is known about this input" in found.text


def test_unfinished_and_empty_runs_say_so(tmp_path: Path) -> None:
    found = page(tmp_path, [], run(finished=None))
    assert "This run is unfinished." in found.text
    assert "Nothing was examined" in found.text


def test_measured_rates_are_shown_and_their_absence_is_said(tmp_path: Path) -> None:
    assert "harmless flagged set A 0.04 0.025 to 0.062 500" in page(tmp_path, [row(0)]).text
    assert "No measured error rates" in page(tmp_path, [row(0)], run(measured=())).text


def test_rows_beyond_the_limit_are_counted(tmp_path: Path) -> None:
    found = page(tmp_path, [row(i, 0.9) for i in range(TOP_ROWS + 7)])
    assert "7 more flagged rows are in results.jsonl" in found.text


def test_format_findings_are_grouped_by_rule(tmp_path: Path) -> None:
    finding = Finding(rule="skill/name-missing", message="expected a name, got none", line=2)
    found = page(tmp_path, [row(i, 0.1, findings=(finding,), path=f"s{i}/SKILL.md") for i in range(4)])
    assert "skill/name-missing : 4" in found.text
    assert "s0/SKILL.md:1 , line 2" in found.text


def test_text_is_absent_unless_asked_for_and_then_closed_and_marked(tmp_path: Path) -> None:
    given_row = row(
        0, text={"text": "one placeholder here"}, evidence=(Evidence(part="text", start=4, end=15),)
    )
    assert "placeholder" not in page(tmp_path, [given_row]).text
    path = tmp_path / "with.html"
    write_html_report(path, run(), [given_row], include_text=True)
    source = path.read_text("utf-8")
    assert "one <mark>placeholder</mark> here" in source
    assert "<details open" not in source


def test_long_text_is_cut_around_the_evidence_and_says_so(tmp_path: Path) -> None:
    body = "a" * (2 * TEXT_SHOWN) + "needle" + "b" * TEXT_SHOWN
    spans = (Evidence(part="text", start=2 * TEXT_SHOWN, end=2 * TEXT_SHOWN + 6),)
    path = tmp_path / "long.html"
    write_html_report(path, run(), [row(0, text={"text": body}, evidence=spans)], include_text=True)
    source = path.read_text("utf-8")
    assert "<mark>needle</mark>" in source
    assert f"{2 * TEXT_SHOWN + 6:,} further characters are not shown" in source


def test_overlapping_and_impossible_spans_do_not_repeat_or_lose_text(tmp_path: Path) -> None:
    spans = tuple(
        Evidence(part="text", start=s, end=e) for s, e in ((2, 6), (4, 8), (8, 8), (5, 99), (70, 80))
    )
    path = tmp_path / "spans.html"
    write_html_report(path, run(), [row(0, text={"text": "abcdefghij"}, evidence=spans)], include_text=True)
    assert ">ab<mark>cdefghij</mark></pre>" in path.read_text("utf-8")


def test_hostile_names_add_no_tag_attribute_or_control_character(hostile: Page) -> None:
    assert hostile.named("img") == []
    assert len(hostile.named("script")) == 1
    assert not [a for _, attributes in hostile.tags for a in attributes if a.startswith("on")]
    assert not re.search("[\u202e\x1b\u200b]", hostile.text)
    assert "[U+202E]" in hostile.text
    assert "<img src=x" in hostile.text
    assert hostile.open == []


def test_policy_allows_the_pages_own_style_and_script_only(hostile: Page) -> None:
    (policy,) = [m["content"] or "" for m in hostile.named("meta") if m.get("http-equiv")]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    for kind in ("style", "script"):
        digest = base64.b64encode(hashlib.sha256(hostile.raw[kind].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy


def test_page_refers_to_nothing_outside_itself(hostile: Page) -> None:
    for _, attributes in hostile.tags:
        assert not {"src", "style", "action", "srcset", "poster", "data"} & set(attributes)
        assert (attributes.get("href") or "#").startswith("#")
    for block in hostile.raw.values():
        assert not re.search(r"https?:|@import|url\(|fetch\(", block)


def test_links_and_labels_point_to_elements_that_exist_and_ids_are_unique(hostile: Page) -> None:
    ids = [attributes["id"] for _, attributes in hostile.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in hostile.tags:
        for name in ("for", "aria-labelledby"):
            assert set((attributes.get(name) or "").split()) <= set(ids)
        href = attributes.get("href")
        assert href is None or href[1:] in ids


def test_headings_start_at_one_and_skip_no_level(hostile: Page) -> None:
    levels = [int(tag[1]) for tag, _ in hostile.tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_equal_runs_give_equal_pages(tmp_path: Path) -> None:
    first, second = tmp_path / "a.html", tmp_path / "b.html"
    for path in (first, second):
        write_html_report(path, run(), rows(200, planes=True))
    assert first.read_bytes() == second.read_bytes()


def test_a_page_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(RunError, match="--out"):
        write_html_report(blocker / "report.html", run(), [row(0)])


def test_a_failed_write_keeps_the_old_page_and_leaves_no_rest(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_html_report(path, run(), [row(0)])
    before = path.read_bytes()

    def broken() -> list[ReportRow]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_html_report(path, run(), broken())
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["report.html"]


def test_page_size_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_html_report(path, run(), rows(20_000, planes=True))
    assert path.stat().st_size < 400_000


def test_hostile_name_is_as_bad_as_it_claims() -> None:
    assert "<img" in HOSTILE
    assert "\u202e" in HOSTILE
