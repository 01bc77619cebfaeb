"""What every reader of a data file yields, and the parsing of one JSON value."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from tocsin.core.records import Abstention, Reason
from tocsin.sources.limits import Limits

DUPLICATE_KEY_NOTE = "a key occurs twice in one object; the last value was read"


class Row(NamedTuple):
    """One row of a data file before it becomes an item."""

    line: int
    """Line (text formats) or row (Parquet) at which it begins, from 1."""
    value: object = None
    """A string, a mapping of columns, or a list of messages."""
    problem: Abstention | None = None
    """Set when the row could not be read; `value` is then None."""
    notes: tuple[str, ...] = ()
    """Bounds that were hit, and doubts, while reading."""


RowReader = Callable[[Path, Limits], Iterator[Row]]


def unreadable(line: int, detail: str, reason: Reason = Reason.UNREADABLE) -> Row:
    """A row that stands for what could not be read."""
    return Row(line, problem=Abstention(reason=reason, detail=detail))


def utf8_problem(error: UnicodeDecodeError) -> str:
    """What to say about bytes that are not UTF-8."""
    return f"expected UTF-8, got another byte at position {error.start + 1}. Convert the file to UTF-8."


class JsonParser:
    """Parses one JSON value at a time and notices keys that occur twice. One for each reader."""

    def __init__(self) -> None:
        self._has_duplicates = False
        self._decoder = json.JSONDecoder(object_pairs_hook=self._object)

    def _object(self, pairs: list[tuple[str, object]]) -> dict[str, object]:
        result = dict(pairs)
        if len(result) != len(pairs):
            self._has_duplicates = True
        return result

    def row(self, line: int, raw: bytes) -> Row:
        """The value as a row, or a row with the problem. Error texts give positions, never content."""
        self._has_duplicates = False
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            return unreadable(line, utf8_problem(error))
        try:
            value = self._decoder.decode(text)
        except json.JSONDecodeError as error:
            return unreadable(
                line, f"expected one JSON value, got a syntax error at character {error.pos + 1}."
            )
        except RecursionError:
            return unreadable(line, "expected JSON of ordinary depth, got brackets nested too deeply.")
        except ValueError:
            return unreadable(
                line, "expected numbers of ordinary size, got an integer with thousands of digits."
            )
        return Row(line, value, notes=(DUPLICATE_KEY_NOTE,) if self._has_duplicates else ())
