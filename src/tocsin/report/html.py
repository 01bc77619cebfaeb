"""The HTML page of a scan: what was read, what was found, what that means, and what it cannot tell."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tocsin.core.records import Evidence, Kind, Provenance, Reason
from tocsin.core.taxonomy import CATEGORIES
from tocsin.report import charts
from tocsin.report.page import plural, write_page
from tocsin.report.records import DetectorNote, ReportRow, RunInfo
from tocsin.report.summary import (
    DetectorSummary,
    Outcomes,
    Plane,
    PointSample,
    Summary,
    summarise,
)
from tocsin.report.visible import visible

if TYPE_CHECKING:
    from markupsafe import Markup

TEXT_SHOWN = 20_000
"""Characters of one part shown with `include_text`."""
_TEXT_BEFORE = 500
"""Characters kept before the first span when a long part is cut."""
_RATIONALE_SHOWN = 600

_CATEGORIES = {category.id: category for category in CATEGORIES}
_KINDS = {
    Kind.PROMPT: ("prompt", "prompts"),
    Kind.RESPONSE: ("response", "responses"),
    Kind.CHAT: ("chat", "chats"),
    Kind.SKILL: ("skill", "skills"),
    Kind.TRAINING_SAMPLE: ("training sample", "training samples"),
    Kind.IMAGE: ("image", "images"),
    Kind.MEME: ("meme", "memes"),
    Kind.CODE: ("code file", "code files"),
    Kind.MESSAGE: ("message", "messages"),
}
REASONS = {
    Reason.EMPTY: "There was no text to judge.",
    Reason.UNREADABLE: "The row or file could not be read in the format it claims to have.",
    Reason.LANGUAGE: "The language or script is outside the list this detector was made for.",
    Reason.ENCODED: "Most of it is an encoded block (such as base64), which hides its meaning.",
    Reason.CODE: "Most of it is program code, which this detector does not understand.",
    Reason.TRUNCATED: "It had to be cut, and the rest could change the answer.",
    Reason.UNSUPPORTED_KIND: "The detector does not read this kind of item.",
    Reason.MISSING_PART: "A part the detector needs is absent.",
    Reason.UNPARSED: "The model answered, but not in the form that was asked for.",
    Reason.REFUSED: "The model declined to judge it.",
    Reason.PROVIDER: "The model's provider failed or could not be reached.",
}
"""What each reason of an abstention means, for a reader who knows none of them."""
_SOURCES = {
    "default": "the detector's default",
    "profile": "the fitted profile",
    "command line": "the command line",
    "none": "no source recorded",
}
_POLAR = (
    "Each point is an item. Its distance from the origin is theta, the angle in radians between its "
    "activation and the main direction of harmless prompts; its bearing is phi, the angle within the next "
    "two directions. Harmless prompts lie on a ring; an unusual item lies inside or outside it."
)
_BELIEFS = (
    "Each point is an item: to the right, the model represents it as more harmful; higher, it is readier to "
    "refuse. Items on the lower right look harmful to the model but would be answered."
)
_PLANES = {"polar": ("Polar map of activations", _POLAR), "beliefs": ("Harmfulness and refusal", _BELIEFS)}


@dataclass(frozen=True, slots=True)
class _Segment:
    """A piece of examined text; marked when it is evidence."""

    text: Markup
    is_marked: bool


@dataclass(frozen=True, slots=True)
class _Part:
    """One part of an item, for the reader who asked for text."""

    name: str
    segments: list[_Segment]
    hidden: int
    """Characters that are not shown."""


@dataclass(frozen=True, slots=True)
class _FindingView:
    """A row of the findings table."""

    row: ReportRow
    category: str
    tier: str
    rationale: str
    parts: list[_Part]


@dataclass(slots=True)
class _DetectorView:
    """A detector with its counts, its charts and how it was set."""

    counts: DetectorSummary
    note: DetectorNote
    thresholds: list[tuple[float | None, str]]
    provenances: list[tuple[Provenance, str]]
    histogram: Markup | None = None
    bins: list[tuple[str, int, int]] = field(default_factory=list)
    planes: list[tuple[str, str, Markup, str]] = field(default_factory=list)


def write_html_report(
    path: Path | str, run: RunInfo, rows: Iterable[ReportRow], *, include_text: bool = False
) -> Summary:
    """Write one self-contained page that opens from disk, and return the counts it shows.

    Args:
        path: The page; replaced when it exists, and never left half-written.
        run: Description of the run.
        rows: Read once; at most `summary.TOP_ROWS` of them are kept.
        include_text: Show the examined text of flagged rows that carry it, escaped and behind a click.

    Raises:
        RunError: If the page cannot be written.
    """
    summary = summarise(rows)
    detectors = [
        _detector(run, summary.detectors[name], i) for i, name in enumerate(sorted(summary.detectors))
    ]
    top = summary.top()
    outcomes = summary.outcomes()
    values: dict[str, object] = {
        "run": run,
        "summary": summary,
        "outcomes": outcomes,
        "headline": _headline(outcomes),
        "strip": _strip(outcomes),
        "items": _items(summary, outcomes),
        "detectors": detectors,
        "findings": [_finding(row, include_text=include_text) for row in top],
        "more": summary.flagged_rows - len(top),
        "has_text": include_text,
        "categories": _categories(summary),
        "abstentions": [
            (reason.value, REASONS[reason], groups)
            for reason, groups in sorted(summary.abstentions.items(), key=lambda pair: -pair[1].total())
        ],
        "measured": _measured(run),
        "not_assessed": sorted({name for view in detectors for name, _ in view.counts.not_assessed.items()}),
        "titles": {name: category.title for name, category in _CATEGORIES.items()},
        "command": shlex.join(visible(word) for word in run.argv),
        "seconds": _seconds(run),
    }
    write_page(Path(path), "scan.html.j2", values)
    return summary


def _headline(outcomes: Outcomes) -> str:
    if outcomes.items == 0:
        return "Nothing was examined"
    if outcomes.not_judged == outcomes.items:
        return "No item could be judged" if outcomes.items > 1 else "The item could not be judged"
    if outcomes.flagged:
        return f"{outcomes.flagged:,} of {plural(outcomes.items, 'item')} flagged"
    return f"Nothing flagged in {plural(outcomes.items, 'item')}"


def _strip(outcomes: Outcomes) -> Markup:
    parts = [
        charts.Bar("flagged", outcomes.flagged, "flagged"),
        charts.Bar("known", outcomes.known, "known"),
        charts.Bar("not judged", outcomes.not_judged, "abstained"),
        charts.Bar("partly read", outcomes.partial, "partial"),
        charts.Bar("not flagged", outcomes.clean, "unflagged"),
    ]
    return charts.strip("outcomes", "Outcome of every item", parts)


def _items(summary: Summary, outcomes: Outcomes) -> str:
    kinds = []
    for name, count in summary.kinds.items():
        one, many = _KINDS[Kind(name)]
        kinds.append(plural(count, one, many))
    if len(kinds) == 1 and summary.kinds.total() == outcomes.items:
        return kinds[0]
    counted = plural(outcomes.items, "item")
    return f"{counted} ({', '.join(kinds)})" if kinds else counted


def _detector(run: RunInfo, counts: DetectorSummary, index: int) -> _DetectorView:
    notes = {note.name: note for note in run.detectors}
    view = _DetectorView(
        counts=counts,
        note=notes.get(counts.name, DetectorNote(name=counts.name)),
        thresholds=[
            (threshold, _SOURCES.get(source, source))
            for (threshold, source), _ in sorted(
                counts.thresholds.items(), key=lambda pair: (-pair[1], str(pair[0]))
            )
        ],
        provenances=[
            (provenance, json.dumps(provenance.settings, sort_keys=True) if provenance.settings else "")
            for _, provenance in sorted(counts.provenances.items())
        ],
    )
    bins = list(zip(counts.bins_unflagged, counts.bins_flagged, strict=True))
    if any(below or above for below, above in bins):
        lines = sorted({threshold for threshold, _ in counts.thresholds if threshold is not None})
        view.histogram = charts.histogram(
            f"scores-{index}",
            f"Scores given by {visible(counts.name)}",
            counts.bins_unflagged,
            counts.bins_flagged,
            lines[:3],
        )
        size = 1 / len(bins)
        view.bins = [
            (f"{i * size:.3f} to {(i + 1) * size:.3f}", below, above)
            for i, (below, above) in enumerate(bins)
            if below or above
        ]
    for plane, samples in sorted(counts.planes.items()):
        title, meaning = _PLANES[plane]
        view.planes.append((title, meaning, _plane(f"{plane}-{index}", plane, samples), _sampled(samples)))
    return view


def _plane(name: str, plane: str, samples: Plane) -> Markup:
    series = [
        charts.Series("not flagged", "unflagged", _coordinates(plane, samples.unflagged)),
        charts.Series("flagged", "flagged", _coordinates(plane, samples.flagged)),
    ]
    title, _ = _PLANES[plane]
    if plane == "polar":
        labels = ("theta · cos(phi), radians", "theta · sin(phi), radians")
    else:
        labels = ("harmfulness belief", "refusal belief")
    return charts.scatter(
        name, title, series, x_label=labels[0], y_label=labels[1], is_square=plane == "polar"
    )


def _coordinates(plane: str, sample: PointSample) -> list[tuple[float, float]]:
    points = [(point.x, point.y) for point in sample.points()]
    return charts.polar(points) if plane == "polar" else points


def _sampled(samples: Plane) -> str:
    """Says when only a sample is drawn."""
    pairs = (("flagged", samples.flagged), ("not flagged", samples.unflagged))
    cut = [
        f"{len(sample.points()):,} of {sample.seen:,} {name}"
        for name, sample in pairs
        if sample.seen > len(sample.points())
    ]
    return f"A fixed sample is drawn: {' and '.join(cut)} items." if cut else ""


def _categories(summary: Summary) -> Markup | None:
    counted = summary.categories.items()
    if not counted:
        return None
    bars = [
        charts.Bar(_CATEGORIES[name].title if name in _CATEGORIES else name, count) for name, count in counted
    ]
    return charts.bar_chart("categories", "Flagged items by their strongest category", bars)


def _finding(row: ReportRow, *, include_text: bool) -> _FindingView:
    verdict = row.verdict
    category = _CATEGORIES.get(verdict.category or "")
    texts: Mapping[str, str] = row.text if include_text and row.text is not None else {}
    return _FindingView(
        row=row,
        category=category.title if category else verdict.category or "",
        tier=category.tier if category else "",
        rationale=visible(verdict.rationale, limit=_RATIONALE_SHOWN),
        parts=[_part(name, text, verdict.evidence) for name, text in texts.items()],
    )


def _part(name: str, text: str, evidence: Sequence[Evidence]) -> _Part:
    """Cut a part to `TEXT_SHOWN` characters around its first span and mark the spans in it."""
    from markupsafe import escape

    spans = _merged([(e.start, e.end) for e in evidence if e.part == name], len(text))
    start, end = 0, len(text)
    if len(text) > TEXT_SHOWN:
        start = max(spans[0][0] - _TEXT_BEFORE, 0) if spans and spans[0][0] >= TEXT_SHOWN else 0
        end = min(start + TEXT_SHOWN, len(text))
    segments, at = [], start
    for low, high in [*spans, (end, end)]:
        low, high = min(max(low, at), end), min(high, end)
        for piece, is_marked in ((text[at:low], False), (text[low:high], True)):
            if piece:
                segments.append(_Segment(escape(visible(piece, keep_lines=True)), is_marked))
        at = max(high, low)
    return _Part(name, segments, len(text) - (end - start))


def _merged(spans: list[tuple[int, int]], length: int) -> list[tuple[int, int]]:
    """Spans in order, inside the text, overlapping ones joined."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted((max(start, 0), min(end, length)) for start, end in spans):
        if start >= end:
            continue
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((start, end))
    return merged


def _measured(run: RunInfo) -> Markup | None:
    """Interval plot of the measured rates that have an interval and lie between 0 and 1."""
    rows = [
        charts.Interval(f"{entry.measure}, {entry.data}", entry.value, entry.low, entry.high)
        for entry in run.measured
        if entry.low is not None and entry.high is not None and 0 <= entry.low <= entry.high <= 1
    ]
    return charts.intervals("measured", "Measured rates with 95 % intervals", rows) if rows else None


def _seconds(run: RunInfo) -> str:
    if run.started is None or run.finished is None:
        return ""
    seconds = (run.finished - run.started).total_seconds()
    return f"{seconds:.1f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
