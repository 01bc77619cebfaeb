"""The page of a traced log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from tocsin.report import study as page_parts
from tocsin.report.curves import Curve, curves
from tocsin.report.study import Cell, Figure, Section, StudyPage, Table
from tocsin.report.trees import tree
from tocsin.trace.spread.records import Contrast, Ranged, SpreadStudy

MOST_CURVES = 6
TREES = 6
_GUESS = (
    "A reconstruction is a guess from times: nothing in a log says who passed an item to whom. Where rules "
    "disagree, the data do not decide."
)
_LIMITS = (
    _GUESS,
    "A log holds a share of all groups, so that depth and breadth are below those of the whole cascade.",
    "Unlabelled is not harmless, and labels of a detector carry its errors.",
    "Comparisons of labels say that shapes differ, not that harm makes them differ.",
)


_READING = (
    "The published test repeats a cascade for each of its groups, which makes p far too small; it stands "
    "here for comparison only. Deltas are Cliff's: the chance that a cascade of the first label exceeds "
    "one of the second, less the chance of the opposite. Most differences of shape are differences of "
    "size, so the comparisons at equal size and inside bins of size and modality are the ones to read."
)
_COMPLETING = (
    "If the log holds a share p of all groups, each tree is what was seen of a larger, balanced one. A "
    "height whose interval is wide counts as not identified; what no tree within the published bounds "
    "explains is out of reach. p is not in the data, so the estimate stands for several."
)


def trace_page(study: SpreadStudy, texts: Mapping[str, str] | None = None) -> StudyPage:
    """The page.

    Args:
        study: What was found.
        texts: Text of the largest cascades by their id, where it may be shown.
    """
    first = study.rules[0]
    overall = [row for row in study.means if row.label is None]
    depths = [row.depth.value for row in overall if row.depth.value is not None]
    spread = f"{min(depths):.2f} to {max(depths):.2f}" if depths else "unknown"
    return StudyPage(
        title=f"{_count(study.cascades, study)} items reached several groups; their mean depth is {spread}, "
        "depending on the rule",
        lead=(
            f"Messages that are copies of one item were linked, and who passed it to whom was reconstructed "
            f"under {len(study.rules)} rules: {', '.join(study.rules)}. Charts show {first} unless they say "
            f"otherwise. Cells of fewer than {study.smallest_cell} are not shown."
        ),
        sections=[
            _range(study),
            _tails(study),
            _contrasts(study),
            _estimates(study),
            _regressions(study),
            _top(study),
            *([_texts(study, texts)] if texts is not None else []),
            _timeline(study),
            _stages(study),
        ],
        limits=_LIMITS,
    )


def _count(value: int | None, study: SpreadStudy) -> str:
    return f"fewer than {study.smallest_cell}" if value is None else f"{value:,}"


def _cell(value: Ranged | None, digits: int = 3) -> Cell | page_parts.Ranged:
    if value is None or value.value is None:
        return None
    if value.low is None or value.high is None:
        return value.value
    return page_parts.Ranged(value.value, value.low, value.high, digits)


def _range(study: SpreadStudy) -> Section:
    rows = [
        [row.rule, row.label or "all", row.n, _cell(row.size, 2), _cell(row.depth, 2), _cell(row.breadth, 2),
         _cell(row.virality, 2)]
        for row in sorted(study.means, key=lambda row: row.label or "")
    ]  # fmt: skip
    paragraphs = [
        "Each row is one rule; read down the rows of one label to see how far the rule shapes the answer."
    ]
    if study.network_edges is not None:
        paragraphs.append(
            f"NETINF accepted {study.network_edges:,} edges between groups"
            + (f", with a mean delay of {1 / study.network_rate:.3g} hours." if study.network_rate else ".")
        )
    return Section(
        title="The range over rules",
        paragraphs=paragraphs,
        parts=[
            Table(
                title="Mean shape of cascades",
                columns=["rule", "label", "cascades", "groups", "depth", "breadth", "virality"],
                rows=rows,
                note="Normal 95 % intervals. Virality: mean distance between two groups of a tree.",
            )
        ],
    )


def _tails(study: SpreadStudy) -> Section:
    parts = []
    for measure in ("size", "depth", "breadth", "virality"):
        tails = [tail for tail in study.tails if tail.measure == measure and tail.values][:MOST_CURVES]
        if tails:
            lines = [
                Curve(tail.label, list(zip(tail.values, tail.shares, strict=True)), is_stepped=True)
                for tail in tails
            ]
            parts.append(
                Figure(
                    title=f"Cascades of at least this {measure}",
                    markup=curves(
                        f"tail-{measure}", f"Share of cascades by {measure}", lines,
                        x_label=measure, y_label="share of cascades", log_x=True, log_y=True,
                    ),
                )
            )  # fmt: skip
    return Section(title="How far cascades go", parts=parts)


def _contrast_row(one: Contrast) -> list[Cell | page_parts.Ranged]:
    return [
        one.measure, one.rule, f"{one.first} over {one.second}", one.n_first, one.n_second, one.published_p,
        one.ranks_holm, _cell(one.delta, 2), _cell(one.matched_delta, 2), one.matched_holm,
        _cell(one.binned_delta, 2), one.binned_holm,
    ]  # fmt: skip


def _contrasts(study: SpreadStudy) -> Section:
    if not study.contrasts:
        return Section(
            title="Labels compared", paragraphs=["No two labels of enough cascades can be compared."]
        )
    reasons = sorted({one.reason for one in study.contrasts if one.reason})
    ordered = sorted(study.contrasts, key=lambda one: (one.measure, one.first, one.second))
    return Section(
        title="Labels compared",
        paragraphs=[_READING],
        parts=[
            Table(
                title="Depth, breadth and virality under every rule",
                columns=[
                    "measure", "rule", "labels", "n", "n ", "published p", "p (Holm)", "delta",
                    "delta at equal size", "p (Holm) ", "delta in bins", "p (Holm)  ",
                ],
                rows=[_contrast_row(one) for one in ordered],
                note="95 % intervals. Holm's correction is over all comparisons under one rule. A dash: "
                + ("; ".join([*reasons, "no stratum with both labels or with differing values"]) + "."),
            )
        ],
    )  # fmt: skip


def _estimates(study: SpreadStudy) -> Section:
    return Section(
        title="The cascades behind the sample",
        paragraphs=[_COMPLETING],
        parts=[
            Table(
                title=f"Complete trees, from {study.rules[0]}",
                columns=["p", "cascades", "within reach", "identified", "branching", "height", "groups"],
                rows=[
                    [one.p, one.n, one.reachable, one.identified, one.b, one.h, one.size]
                    for one in study.completed
                ],
                note="Medians over cascades whose height is identified.",
            ),
            Table(
                title="Forwarding counters as a check on depth",
                columns=["rule", "cascades", "Spearman", "Kendall", "less deep than the counter proves"],
                rows=[
                    [one.rule, one.n, _cell(one.spearman), _cell(one.kendall), _cell(one.below)]
                    for one in study.counters
                ],
            ),
        ],
    )


def _regressions(study: SpreadStudy) -> Section:
    parts = [
        Table(
            title=f"{one.measure} ({one.n or 0:,} cascades, R² {one.r_squared:.3f})",
            columns=["trait", "coefficient", "p"],
            rows=[[term.name, _cell(term.value), term.p] for term in one.terms],
            note=f"{one.errors}. References: "
            + ", ".join(f"{name} {value}" for name, value in one.references.items())
            + ".",
        )
        for one in study.regressions
        if one.terms and one.r_squared is not None
    ]
    reasons = [f"{one.measure}: {one.reason}." for one in study.regressions if one.reason]
    return Section(title="Traits that go with shape", paragraphs=reasons, parts=parts)


def _top(study: SpreadStudy) -> Section:
    columns = ["cascade", "label", "modality", "groups", "hours", "least depth", "most depth",
               "least virality", "most virality"]  # fmt: skip
    rows: list[Sequence[Cell]] = [
        [one.id, one.label, one.modality, one.groups, one.hours, *one.depth, *one.virality]
        for one in study.top
    ]  # fmt: skip
    figures = [
        Figure(
            title=f"{one.id[:8]}, {one.label}, {one.groups} groups",
            markup=tree(f"tree-{i}", f"Tree of cascade {one.id}", one.tree),
        )
        for i, one in enumerate([one for one in study.top if one.tree][:TREES])
    ]
    return Section(
        title="The largest cascades",
        paragraphs=[f"Trees by {study.rules[0]}; the source is on the left."],
        parts=[
            *figures,
            Table(
                title="By groups",
                columns=columns,
                rows=rows,
                note="Depth and virality: least and most over the rules. Ids are keyed hashes.",
            ),
        ],
    )


def _texts(study: SpreadStudy, texts: Mapping[str, str]) -> Section:
    return Section(
        title="Texts of the largest cascades",
        folded="Show the texts, which may be harmful",
        parts=[
            Table(
                title="Earliest text of each",
                columns=["cascade", "text"],
                rows=[[one.id, texts[one.id]] for one in study.top if one.id in texts],
            )
        ],
    )


def _timeline(study: SpreadStudy) -> Section:
    if not study.timeline:
        return Section(title="Timeline")
    begin = study.timeline[0].start
    lines = [
        Curve(
            label,
            [((span.start - begin) / 86_400, float(span.events.get(label) or 0)) for span in study.timeline],
        )
        for label in list(study.timeline[0].events)[:MOST_CURVES]
    ]
    since = datetime.fromtimestamp(begin, UTC).date().isoformat()
    return Section(
        title="Timeline",
        parts=[
            Figure(
                title="First appearances in groups",
                markup=curves(
                    "timeline", "First appearances in groups over time", lines,
                    x_label=f"days since {since}", y_label="appearances",
                ),
                note="Cells that are not shown count as 0 here.",
            )
        ],
    )  # fmt: skip


def _stages(study: SpreadStudy) -> Section:
    return Section(
        title="From messages to cascades",
        parts=[
            Table(
                title="Counts by stage",
                columns=["stage", "count", "value"],
                rows=[
                    [stage, name, value]
                    for stage, found in study.stages.items()
                    for name, value in found.items()
                ],
                note=f"A dash is a count under {study.smallest_cell}.",
            )
        ],
    )
