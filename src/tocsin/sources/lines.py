"""Readers of line-based files: plain text (one prompt a line) and JSON Lines."""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path

from tocsin.core.records import Reason
from tocsin.sources.files import bounded_lines, open_regular
from tocsin.sources.limits import Limits
from tocsin.sources.rows import JsonParser, Row, unreadable, utf8_problem


def text_rows(path: Path, limits: Limits) -> Iterator[Row]:
    r"""One prompt a line; blank lines are skipped; only `\n` and `\r\n` end a line."""
    with open_regular(path) as stream:
        for line in bounded_lines(stream, limits.record_bytes):
            raw = line.raw.strip()
            if not raw:
                if line.cut:
                    yield unreadable(line.number, _too_long(limits), Reason.TRUNCATED)
                continue
            try:
                # A cut may have split a character: an incremental decoder leaves its half out.
                text = (
                    codecs.getincrementaldecoder("utf-8")().decode(raw) if line.cut else raw.decode("utf-8")
                )
            except UnicodeDecodeError as error:
                yield unreadable(line.number, utf8_problem(error))
                continue
            notes = (
                (f"only the first {limits.record_bytes:,} bytes of the line were read",) if line.cut else ()
            )
            yield Row(line.number, text, notes=notes)


def json_line_rows(path: Path, limits: Limits) -> Iterator[Row]:
    """One JSON value a line; blank lines are skipped."""
    parser = JsonParser()
    with open_regular(path) as stream:
        for line in bounded_lines(stream, limits.record_bytes):
            if line.cut:
                yield unreadable(line.number, _too_long(limits), Reason.TRUNCATED)
            elif raw := line.raw.strip():
                yield parser.row(line.number, raw)


def _too_long(limits: Limits) -> str:
    return f"expected a line of at most {limits.record_bytes:,} bytes, got a longer one. Split it."
