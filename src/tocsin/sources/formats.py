"""Which reader a file gets, by its ending and its first bytes."""

from __future__ import annotations

import codecs
import json
from pathlib import Path, PurePath
from typing import NamedTuple

from tocsin.sources.files import HEAD_BYTES, NoTextError, UnreadableFileError, open_regular, require_text
from tocsin.sources.json_array import json_array_rows, json_object_rows
from tocsin.sources.limits import Limits
from tocsin.sources.lines import json_line_rows, text_rows
from tocsin.sources.parquet import parquet_rows
from tocsin.sources.rows import RowReader
from tocsin.sources.tables import table_rows

ENDINGS = {
    ".txt": "text",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "tsv",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_JSON_START = b"{["
_SNIFF_BYTES = 1 << 16
_SNIFF_LINES = 10


class Format(NamedTuple):
    """A file format and its reader."""

    name: str
    read: RowReader


_READERS: dict[str, RowReader] = {
    "text": text_rows,
    "jsonl": json_line_rows,
    "json array": json_array_rows,
    "json object": json_object_rows,
    "csv": table_rows(None),
    "tsv": table_rows("\t"),
    "parquet": parquet_rows,
}


def format_by_ending(path: Path | str) -> str | None:
    """`text`, `jsonl`, `json`, `csv`, `tsv`, `parquet`; None when the ending is not known."""
    return ENDINGS.get(PurePath(path).suffix.lower())


def find_format(path: Path, limits: Limits, *, is_stdin: bool = False) -> Format:
    """Choose the reader for a regular file.

    Raises:
        UnreadableFileError: If it is too large, empty, binary, or has no known ending.
    """
    with open_regular(path) as stream:
        stream.seek(0, 2)
        size = stream.tell()
        stream.seek(0)
        head = stream.read(_SNIFF_BYTES)
    if size > limits.data_file_bytes:
        message = f"expected a file of at most {limits.data_file_bytes:,} bytes, got {size:,}. Split it."
        raise UnreadableFileError(message)
    name = _name_from_head(head) if is_stdin else format_by_ending(path)
    if name is None:
        require_text(head[:HEAD_BYTES])
        endings = ", ".join(ENDINGS)
        message = (
            f"expected a SKILL.md or a file that ends in one of {endings}. Rename it, or pipe it in as -."
        )
        raise UnreadableFileError(message)
    if not head:
        message = "expected at least one row, got an empty file."
        raise NoTextError(message)
    if name != "parquet":
        require_text(head[:HEAD_BYTES])
    if name == "json":
        name = _json_layout(head)
    return Format(name, _READERS[name])


def _name_from_head(head: bytes) -> str:
    """Parquet, JSON or text: comma-separated values cannot be told from text, so they need a file name."""
    if head.startswith((b"PAR1", b"PARE")):
        return "parquet"
    start = head.removeprefix(codecs.BOM_UTF8).lstrip()
    if start[:1] and start[:1] in _JSON_START and _looks_like_json(start):
        return "json"
    return "text"


def _looks_like_json(start: bytes) -> bool:
    """Tell JSON from a prompt that begins with a bracket, such as a chat template's `[INST]`."""
    following = start[1:].lstrip()[:1]
    if start.startswith(b"["):
        return following in (b"{", b'"', b"[", b"]", b"")
    # The first line of JSONL may be broken: an object on one of the next lines decides.
    return following in (b'"', b"}") or any(
        line.startswith(b"{") and _is_complete(line)
        for line in start.split(b"\n", _SNIFF_LINES)[1:_SNIFF_LINES]
    )


def _json_layout(head: bytes) -> str:
    """Rows on lines of their own, one array, or one object."""
    start = head.removeprefix(codecs.BOM_UTF8).lstrip()
    first_line, line_end, rest = start.partition(b"\n")
    following = rest.lstrip()[:1]
    if start.startswith(b"["):
        return "jsonl" if following in (b"[", b"{") and _is_complete(first_line) else "json array"
    # A line that begins like an object after another one: JSONL, even if the first line is broken. A first
    # line longer than the head is JSONL too, or one object on one line, which the same reader takes.
    return "jsonl" if following == b"{" or not line_end else "json object"


def _is_complete(line: bytes) -> bool:
    try:
        json.loads(line.decode("utf-8"))
    except (ValueError, RecursionError):
        return False
    return True
