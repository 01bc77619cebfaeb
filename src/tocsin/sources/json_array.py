"""Reader of `.json` files: an array of rows, streamed element by element, or one object as the only row.

Elements are found by matching brackets outside strings, so a broken or overlong element costs itself and not
the rest of the file, and memory stays at one element.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from tocsin.core.records import Reason
from tocsin.sources.files import CHUNK_BYTES, open_regular
from tocsin.sources.limits import Limits
from tocsin.sources.rows import JsonParser, Row, unreadable

_IN_STRING = re.compile(rb'["\\]')
_OUTSIDE = re.compile(rb'["\[\]{},]')


class _Element(NamedTuple):
    line: int
    raw: bytes
    cut: bool
    ends_array: bool


def json_array_rows(path: Path, limits: Limits) -> Iterator[Row]:
    """Every element of the array; an unclosed array or text after its end is a row with a problem."""
    parser = JsonParser()
    with open_regular(path) as stream:
        closed_at = None
        line = 1
        is_first = True
        for element in _elements(stream, limits.record_bytes):
            line = element.line
            if closed_at is not None:
                if element.raw.strip() or element.cut:
                    yield unreadable(
                        line, "expected nothing after the array's closing bracket, got more text."
                    )
                    return
                continue
            if element.cut:
                detail = f"expected an element of at most {limits.record_bytes:,} bytes, got a longer one."
                yield unreadable(line, detail, Reason.TRUNCATED)
            elif element.raw.strip():
                yield parser.row(line, element.raw)
            elif not (element.ends_array and is_first):
                yield unreadable(line, "expected a value between two commas or brackets, got nothing.")
            is_first = False
            if element.ends_array:
                closed_at = line
        if closed_at is None:
            yield unreadable(
                line, "expected the array's closing bracket, got the end of the file: it may be cut off."
            )


def json_object_rows(path: Path, limits: Limits) -> Iterator[Row]:
    """The whole file as one JSON value: one row."""
    with open_regular(path) as stream:
        raw = stream.read(limits.record_bytes + 1)
    if len(raw) > limits.record_bytes:
        detail = (
            f"expected one JSON object of at most {limits.record_bytes:,} bytes, got a longer one. Use JSONL."
        )
        yield unreadable(1, detail, Reason.TRUNCATED)
    else:
        yield JsonParser().row(1, raw.removeprefix(codecs.BOM_UTF8))


class _Collector:
    """Bytes of the element that is being read, up to the limit, and the line it began on."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._pieces: list[bytes] = []
        self._size = 0
        self._newlines = 0
        self._line = 1

    def add(self, piece: bytes) -> None:
        room = self._limit + 1 - self._size
        if room > 0:
            self._pieces.append(piece[:room])
            self._size += min(len(piece), room)
        self._newlines += piece.count(b"\n")

    def finish(self, *, ends_array: bool) -> _Element:
        raw = b"".join(self._pieces)
        leading = raw[: len(raw) - len(raw.lstrip())].count(b"\n")
        element = _Element(self._line + leading, raw, self._size > self._limit, ends_array)
        self._line += self._newlines
        self._pieces, self._size, self._newlines = [], 0, 0
        return element


def _elements(stream: BinaryIO, limit: int) -> Iterator[_Element]:
    """Pieces between the top-level commas and brackets; then one more piece: whatever follows the array."""
    collector = _Collector(limit)
    depth = 0
    in_string = False
    skip = 0
    """Bytes at the beginning of the next chunk that an escape has consumed."""
    first = True
    while chunk := stream.read(CHUNK_BYTES):
        if first:
            chunk = chunk.removeprefix(codecs.BOM_UTF8)
            first = False
        start = 0
        position = skip
        skip = 0
        while match := (_IN_STRING if in_string else _OUTSIDE).search(chunk, position):
            mark = match.group()
            position = match.end()
            if in_string:
                if mark == b'"':
                    in_string = False
                else:
                    position += 1
                continue
            if mark == b'"':
                in_string = True
            elif mark in b"[{":
                depth += 1
                if depth == 1:
                    start = position
            elif mark in b"]}":
                depth -= 1
                if depth == 0:
                    collector.add(chunk[start : position - 1])
                    yield collector.finish(ends_array=True)
                    start = position
                depth = max(depth, 0)
            elif depth == 1:
                collector.add(chunk[start : position - 1])
                yield collector.finish(ends_array=False)
                start = position
        skip = max(0, position - len(chunk)) if in_string else 0
        collector.add(chunk[start:])
    rest = collector.finish(ends_array=False)
    if rest.raw.strip() or rest.cut:
        yield rest
