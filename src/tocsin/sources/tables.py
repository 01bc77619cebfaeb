"""Reader of `.csv` and `.tsv` files with a header line."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

from tocsin.core.records import Reason
from tocsin.sources.files import Line, NoTextError, UnreadableFileError, bounded_lines, open_regular
from tocsin.sources.limits import Limits
from tocsin.sources.rows import Row, unreadable, utf8_problem

_DELIMITERS = (",", ";", "\t", "|")


class _RecordTooLongError(Exception):
    """Raised inside the csv module's own loop: a quote that is never closed would swallow the file."""


class _RecordLines:
    """Feeds decoded lines to `csv.reader` and remembers what belongs to the record being read."""

    def __init__(self, lines: Iterator[Line], limit: int) -> None:
        self._lines = lines
        self._limit = limit
        self.begin()

    def begin(self) -> None:
        """Forget the last record."""
        self.first_line = 0
        self.last_line = 0
        self.problem = ""
        self._used = 0

    def __iter__(self) -> _RecordLines:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.first_line = self.first_line or line.number
        self.last_line = line.number
        self._used += len(line.raw)
        if line.cut or self._used > self._limit:
            raise _RecordTooLongError
        try:
            return line.raw.decode("utf-8") + "\n"
        except UnicodeDecodeError as error:
            self.problem = utf8_problem(error)
            return line.raw.decode("utf-8", "replace") + "\n"


def table_rows(delimiter: str | None) -> Callable[[Path, Limits], Iterator[Row]]:
    """A reader for the given delimiter; None finds it in the header line (comma, semicolon, tab, bar)."""

    def rows(path: Path, limits: Limits) -> Iterator[Row]:
        with open_regular(path) as stream:
            lines = bounded_lines(stream, limits.record_bytes)
            yield from _rows(lines, limits, delimiter)

    return rows


def _rows(lines: Iterator[Line], limits: Limits, delimiter: str | None) -> Iterator[Row]:
    header_line = next((line for line in lines if line.raw.strip() or line.cut), None)
    if header_line is None:
        message = "expected a header line, got an empty file."
        raise NoTextError(message)
    header, delimiter = _header(header_line, limits, delimiter)
    width = len(header)
    # The csv module refuses fields over 128 KiB by a process-wide setting; it is raised to our bound, never
    # lowered.
    if csv.field_size_limit() < limits.record_bytes:
        csv.field_size_limit(limits.record_bytes)
    source = _RecordLines(lines, limits.record_bytes)
    # Strict: a quote in the wrong place is reported, not guessed at, because a wrong guess joins rows unseen.
    reader = csv.reader(source, delimiter=delimiter, strict=True)
    while True:
        source.begin()
        try:
            fields = next(reader)
        except StopIteration:
            return
        except _RecordTooLongError:
            detail = (
                f"expected a record of at most {limits.record_bytes:,} bytes; lines {source.first_line} to "
                f"{source.last_line} are longer together. Look for a quote that is never closed."
            )
            yield unreadable(source.first_line, detail, Reason.TRUNCATED)
            continue
        except csv.Error:
            detail = "expected a delimiter or line end after a closing quote, and every quote to be closed"
            detail += f"; lines {source.first_line} to {source.last_line} were not read. Double inner quotes."
            yield unreadable(source.first_line, detail)
            continue
        line = source.first_line
        if not fields:
            continue
        if source.problem:
            yield unreadable(line, source.problem)
        elif len(fields) > width:
            detail = (
                f"expected {width} fields, got {len(fields)}. Put quotes around text that holds a delimiter."
            )
            yield unreadable(line, detail)
        else:
            yield Row(line, dict(zip(header, fields, strict=False)))


def _header(line: Line, limits: Limits, delimiter: str | None) -> tuple[list[str], str]:
    if line.cut:
        message = f"expected a header line of at most {limits.record_bytes:,} bytes, got a longer one."
        raise UnreadableFileError(message, line=line.number)
    try:
        text = line.raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UnreadableFileError(utf8_problem(error), line=line.number) from error
    best: list[str] = []
    best_delimiter = ","
    for candidate in (delimiter,) if delimiter else _DELIMITERS:
        try:
            fields = next(csv.reader([text.rstrip("\r")], delimiter=candidate))
        except csv.Error as error:
            message = "expected a header line of column names, got one that is not CSV."
            raise UnreadableFileError(message, line=line.number) from error
        if len(fields) > len(best):
            best, best_delimiter = fields, candidate
    names = [name.strip() or f"column {number}" for number, name in enumerate(best, start=1)]
    if len(set(names)) != len(names):
        message = "expected every column name once, got one twice. Rename one of them in the header line."
        raise UnreadableFileError(message, line=line.number)
    return names, best_delimiter
