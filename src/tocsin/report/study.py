"""Pages of studies: sections of paragraphs, tables and figures, as HTML, as text and as JSON.

A study (a ranking of judges, an agreement, a look inside a model, a reconstruction) hands over plain strings
and numbers; nothing here knows what they mean. Examined text has no place in them.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tocsin.report.page import write_page
from tocsin.report.records import RunInfo
from tocsin.report.visible import visible

if TYPE_CHECKING:
    from markupsafe import Markup

Cell = str | int | float | None
"""A number is set to the right; None is shown as a dash."""
_MAX_ROWS = 400
"""Rows of one table that a page shows; the rest stays in the JSON twin."""


@dataclass(frozen=True, slots=True)
class Ranged:
    """A value with the ends of its interval, in the unit of the value."""

    value: float
    low: float
    high: float
    digits: int = 3

    def __str__(self) -> str:
        d = self.digits
        return f"{self.value:z.{d}f} ({self.low:z.{d}f} to {self.high:z.{d}f})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table with its title."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell | Ranged]]
    note: str = ""
    """Shown below it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A chart of `tocsin.report.charts` or `curves` with its title."""

    title: str
    markup: Markup
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One heading of a page and what stands under it."""

    title: str
    paragraphs: Sequence[str] = ()
    parts: Sequence[Table | Figure] = ()
    folded: str = ""
    """If given, its tables are hidden until this is clicked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyPage:
    """A whole page."""

    title: str
    """What was found, as a short sentence."""
    lead: str
    """What was asked and how, in a few sentences."""
    sections: Sequence[Section]
    limits: Sequence[str] = ()
    """Sentences on what the study cannot tell."""


def write_study_page(path: Path | str, run: RunInfo, page: StudyPage) -> None:
    """Write one self-contained page that opens from disk.

    Args:
        path: The page; replaced when it exists, and never left half-written.
        run: Description of the run.
        page: What to show. A table of more than 400 rows is cut, and says so.

    Raises:
        RunError: If the page cannot be written.
    """
    values: dict[str, object] = {
        "run": run,
        "page": page,
        "sections": [_section_view(section) for section in page.sections],
        "command": shlex.join(visible(word) for word in run.argv),
        "limits": (*page.limits, *run.limits),
    }
    write_page(Path(path), "study.html.j2", values)


def render_study(page: StudyPage, *, width: int | None = None, is_terminal: bool = False) -> str:
    """The page for a terminal: headings, paragraphs and tables; figures are left to the HTML page."""
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable

    console = Console(width=width, force_terminal=is_terminal, highlight=False, markup=False, emoji=False)
    with console.capture() as capture:
        console.print(visible(page.title) + "\n", style="bold")
        for section in page.sections:
            tables = [part for part in section.parts if isinstance(part, Table)]
            if not tables and not section.paragraphs:
                continue
            console.print(visible(section.title), style="bold")
            for paragraph in section.paragraphs:
                console.print(visible(paragraph))
            for table in tables:
                shown = RichTable(
                    title=visible(table.title),
                    title_justify="left",
                    title_style="",
                    box=box.SIMPLE_HEAD,
                    padding=(0, 1),
                    pad_edge=False,
                )
                for i, column in enumerate(table.columns):
                    is_number = all(not isinstance(row[i], str) for row in table.rows)
                    shown.add_column(
                        visible(column), justify="right" if is_number else "left", overflow="fold"
                    )
                for row in table.rows[:_MAX_ROWS]:
                    shown.add_row(*(visible(cell_text(cell)) for cell in row))
                console.print(shown)
                if table.note:
                    console.print(visible(table.note), style="dim")
    text = capture.get()
    return text if is_terminal else "".join(f"{line.rstrip()}\n" for line in text.splitlines())


def cell_text(cell: Cell | Ranged) -> str:
    """A cell as text: three decimals for fractions, groups of three digits for counts.

    Example:
        >>> cell_text(1200), cell_text(0.25), cell_text(None), cell_text(Ranged(0.5, 0.4, 0.6))
        ('1,200', '0.250', '-', '0.500 (0.400 to 0.600)')
    """
    if cell is None:
        return "-"
    if isinstance(cell, Ranged | str):
        return str(cell)
    if isinstance(cell, int):
        return f"{cell:,}"
    if not math.isfinite(cell):
        return "-"
    return f"{cell:.3f}" if 0.001 <= abs(cell) < 1_000 or cell == 0 else f"{cell:,.3g}"


def _section_view(section: Section) -> Mapping[str, object]:
    return {
        "title": section.title,
        "folded": section.folded,
        "paragraphs": section.paragraphs,
        "figures": [part for part in section.parts if isinstance(part, Figure)],
        "tables": [_table_view(part) for part in section.parts if isinstance(part, Table)],
    }


def _table_view(table: Table) -> Mapping[str, object]:
    numeric = [all(not isinstance(row[i], str) for row in table.rows) for i in range(len(table.columns))]
    return {
        "title": table.title,
        "columns": list(zip(table.columns, numeric, strict=True)),
        "rows": [
            [_cell_view(cell, is_number=number) for cell, number in zip(row, numeric, strict=True)]
            for row in table.rows[:_MAX_ROWS]
        ],
        "hidden": max(len(table.rows) - _MAX_ROWS, 0),
        "note": table.note,
    }


def _cell_view(cell: Cell | Ranged, *, is_number: bool) -> Mapping[str, object]:
    """What is shown, and what the column is sorted by: missing numbers come last."""
    value = cell.value if isinstance(cell, Ranged) else cell
    known = isinstance(value, int | float) and math.isfinite(value)
    return {"text": cell_text(cell), "is_number": is_number, "value": value if known else -1e308}
