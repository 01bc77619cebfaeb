"""What commands write: data to standard output, notices and progress to standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tocsin.api.progress import Progress, ProgressCallback, no_progress

if TYPE_CHECKING:
    from rich.table import Table

    from tocsin.report import StudyPage


def write(pieces: Iterable[str]) -> None:
    """Data, streamed to standard output. A reader that has seen enough (`head`, a pager) ends the stream."""
    try:
        for piece in pieces:
            sys.stdout.write(piece)
        sys.stdout.flush()
    except BrokenPipeError:
        drop_stdout()


def drop_stdout() -> None:
    """Keep Python from failing once more when it flushes standard output at exit."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def notice(text: str) -> None:
    """One line for people, to standard error. Nobody reading it must not change the exit code."""
    with suppress(BrokenPipeError):
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def show_study(page: StudyPage, as_json: str, folder: Path, *, json: bool) -> None:
    """A finished study: its page as text, or its JSON, and where the whole page is."""
    from tocsin.core.run_record import REPORT
    from tocsin.report import render_study

    write([f"{as_json}\n" if json else render_study(page, is_terminal=sys.stdout.isatty())])
    notice(f"report: {folder / REPORT}")


def table_text(table: Table) -> str:
    """A rich table as text: coloured on a terminal, plain elsewhere."""
    from rich.console import Console

    console = Console(highlight=False, emoji=False, markup=False, force_terminal=sys.stdout.isatty())
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def plain_table(*columns: str) -> Table:
    """An empty table in the style of all commands."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


@contextmanager
def progress_bar() -> Iterator[ProgressCallback]:
    """Shows stage, rate and time left on a terminal; silent when standard error is not one."""
    if not sys.stderr.isatty():
        yield no_progress
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Bars

    bars = Bars(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(compact=True),
        console=Console(stderr=True),
        transient=True,
    )
    task = bars.add_task("opening the input", total=None, rate="")

    def show(progress: Progress) -> None:
        speed = bars.tasks[task].speed
        bars.update(
            task,
            description=_WORDS[progress.stage].format(progress.what),
            completed=progress.done,
            total=progress.total,
            rate=f"{speed:,.0f}/s" if speed else "",
        )

    with bars:
        yield show


_WORDS = {
    "loading": "loading {}",
    "scanning": "scanning ({})",
    "training": "training ({})",
    "reporting": "writing the report",
}
