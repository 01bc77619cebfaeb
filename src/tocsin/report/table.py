"""The table that a scan prints on a terminal.

Flagged rows come first, then abstentions and partial readings by reason, then one line that sums up. Examined
text is never printed, and names are printed with control characters made visible.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tocsin.core.records import Evidence, Origin
from tocsin.report.records import ReportRow, RunInfo
from tocsin.report.summary import Group, Summary
from tocsin.report.visible import visible

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

TABLE_ROWS = 50
"""Flagged rows printed; the rest are counted."""
PLACES_SHOWN = 3
_WIDE = 110
"""From this width on the table has columns for the examined part and for the rationale."""


def render_table(
    run: RunInfo,
    summary: Summary,
    *,
    width: int | None = None,
    is_terminal: bool = False,
    max_rows: int = TABLE_ROWS,
) -> str:
    """The table as text that ends in a line feed.

    Args:
        run: Description of the run.
        summary: From `summarise` or `write_html_report`.
        width: Columns; of the terminal when not given (80 where there is none).
        is_terminal: Use colours. NO_COLOR in the environment switches them off again.
        max_rows: Flagged rows to print.
    """
    from rich.console import Console

    console = Console(
        width=width, force_terminal=is_terminal, highlight=False, markup=False, emoji=False, soft_wrap=False
    )
    with console.capture() as capture:
        for block in _blocks(run, summary, console.width, max_rows):
            console.print(block)
    text = capture.get()
    return text if is_terminal else "".join(f"{line.rstrip()}\n" for line in text.splitlines())


def _blocks(run: RunInfo, summary: Summary, width: int, max_rows: int) -> list[RenderableType]:
    blocks: list[RenderableType] = []
    shown = summary.top()[:max_rows]
    if shown:
        blocks.append(_flagged(shown, summary, width))
        more = summary.flagged_rows - len(shown)
        if more:
            blocks.append(_note(f"… and {more:,} more flagged, in {visible(run.results)}"))
    grouped = _grouped(summary)
    if grouped is not None:
        blocks.append(grouped)
    blocks.append(_sum(run, summary))
    blocks += [_plain(visible(str(estimate))) for estimate in run.prevalence]
    return blocks


def _flagged(rows: list[ReportRow], summary: Summary, width: int) -> Table:
    table = _table("Flagged")
    table.add_column("score", justify="right", no_wrap=True, style="bold red")
    table.add_column("category", max_width=24, overflow="fold")
    table.add_column("place", overflow="fold", ratio=3, min_width=16)
    several = len(summary.detectors) > 1
    wide = width >= _WIDE
    if several:
        table.add_column("detector", overflow="fold", max_width=18)
    if wide or not several:
        table.add_column("where in it", overflow="fold", max_width=26, style="dim")
    if wide:
        table.add_column("rationale", overflow="fold", ratio=3, style="dim")
    for row in rows:
        verdict = row.verdict
        cells = [
            "" if verdict.score is None else f"{verdict.score:.3f}",
            visible(verdict.category or verdict.label, limit=60),
            place(row.origin),
        ]
        if several:
            cells.append(visible(verdict.detector))
        if wide or not several:
            cells.append(", ".join(span(e) for e in verdict.evidence[:2]))
        if wide:
            cells.append(visible(verdict.rationale, limit=160))
        table.add_row(*(_plain(cell) for cell in cells))
    return table


def _grouped(summary: Summary) -> Table | None:
    lines: list[tuple[str, int, str]] = []
    several = len(summary.detectors) > 1
    for reason, groups in sorted(summary.abstentions.items(), key=lambda pair: pair[0].value):
        lines += [
            (f"not judged: {reason.value}", group.count, _places(group, detector if several else None))
            for detector, group in groups.items()
        ]
    lines += [
        (f"partly read: {visible(group.detail, limit=80)}", group.count, _places(group))
        for _, group in summary.partial.items()
    ]
    lines += [
        (f"format: {visible(rule, limit=80)}", group.count, _places(group))
        for rule, group in summary.findings.items()
    ]
    if not lines:
        return None
    table = _table("Also noticed")
    table.add_column("what", overflow="fold", ratio=2, min_width=20)
    table.add_column("items", justify="right", no_wrap=True)
    table.add_column("for example", overflow="fold", ratio=3)
    for what, count, where in lines:
        table.add_row(_plain(what), _plain(f"{count:,}"), _plain(where))
    return table


def _sum(run: RunInfo, summary: Summary) -> RenderableType:
    from rich.text import Text

    outcomes = summary.outcomes()
    text = Text(f"{outcomes.items:,} item{'' if outcomes.items == 1 else 's'} of {visible(run.input_name)}: ")
    text.append(f"{outcomes.flagged:,} flagged", style="bold red" if outcomes.flagged else "bold")
    if outcomes.known:
        text.append(f", {outcomes.known:,} known (in the baseline)")
    text.append(f", {outcomes.clean:,} not flagged")
    if outcomes.partial:
        text.append(f", {outcomes.partial:,} partly read", style="yellow")
    if outcomes.not_judged:
        text.append(f", {outcomes.not_judged:,} not judged", style="yellow")
    if run.finished is None:
        text.append(". The run is unfinished: the same command continues it", style="yellow")
    return text


def place(origin: Origin) -> str:
    """`path:line` with hidden characters made visible."""
    return visible(str(origin))


def span(evidence: Evidence) -> str:
    """Part and character range, such as `text 10-45`."""
    return f"{visible(evidence.part)} {evidence.start}-{evidence.end}"


def _places(group: Group, detector: str | None = None) -> str:
    shown = ", ".join(place(origin) for origin in group.places[:PLACES_SHOWN])
    more = group.count - min(PLACES_SHOWN, len(group.places))
    where = f"{shown} and {more:,} more" if more else shown
    return where if detector is None else f"{where} ({visible(detector)})"


def _table(title: str) -> Table:
    from rich import box
    from rich.table import Table

    return Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.SIMPLE_HEAD,
        expand=False,
        padding=(0, 1),
        pad_edge=False,
    )


def _plain(text: str) -> RenderableType:
    from rich.text import Text

    return Text(text)


def _note(text: str) -> RenderableType:
    from rich.text import Text

    return Text(text, style="dim")
