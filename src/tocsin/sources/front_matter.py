"""The YAML block between the two `---` lines of a SKILL.md, read leniently and within bounds.

YAML is read as a stream of events, never constructed: only the top level is kept, aliases are refused (so
there is nothing to expand), and nodes and depth are counted. What is not YAML is read again with values that
hold colons put in quotes, as clients do, and then line by line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

from tocsin.core.records import Finding
from tocsin.sources.limits import Limits

# libyaml's parser where PyYAML was built with it: the same events, ten times faster.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_KEY_LINE = re.compile(r"(?P<key>[A-Za-z_][A-Za-z0-9_-]{0,63})[ \t]*:(?:[ \t]+(?P<value>.*))?$")
_NEEDS_QUOTES = re.compile(r":[ \t]|:$|[ \t]#|^[@`%&*!|>\[\]{},?#-]|[\t\"']")
_UNCLOSED_LINES = 100


@dataclass(frozen=True, slots=True)
class Value:
    """One top-level value."""

    text: str | None
    """The scalar as written; None for null, a list or a mapping."""
    line: int
    is_nested: bool = False


@dataclass(slots=True)
class FrontMatter:
    """What the front matter says, and where the body begins."""

    values: dict[str, Value] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    body: str = ""
    body_line: int = 1
    """Line of the file on which the body begins."""


class _NotReadError(Exception):
    """YAML that is broken, or exceeds a bound; carries what to say and whether a second try can help."""

    def __init__(self, message: str, *, line: int | None, is_hostile: bool) -> None:
        self.message = message
        self.line = line
        self.is_hostile = is_hostile
        super().__init__(message)


def split_front_matter(text: str, limits: Limits) -> FrontMatter:
    """Read the front matter of a SKILL.md whose line ends are line feeds. Never raises."""
    result = FrontMatter(body=text)
    opening = re.match(r"(?:[ \t]*\n)*---[ \t]*(?:\n|\Z)", text)
    if opening is None:
        message = "expected the file to begin with a `---` line and a block with name and description"
        result.findings.append(Finding(rule="skill/front-matter-missing", message=message, line=1))
        return result
    first_line = text.count("\n", 0, opening.end()) + 1
    closing = re.compile(r"^(?:---|\.\.\.)[ \t]*$", re.MULTILINE).search(text, opening.end())
    if closing is None:
        message = "expected a second `---` line after the front matter, got none"
        result.findings.append(Finding(rule="skill/front-matter-invalid", message=message, line=first_line))
        _by_lines(_leading_block(text[opening.end() :]), first_line, result)
        return result
    block = text[opening.end() : closing.start()]
    result.body = text[closing.end() :].removeprefix("\n")
    result.body_line = text.count("\n", 0, closing.end()) + 2
    if len(block.encode("utf-8", "replace")) > limits.front_matter_bytes:
        result.notes.append(
            f"only the first {limits.front_matter_bytes:,} bytes of the front matter were read"
        )
        message = f"expected front matter of at most {limits.front_matter_bytes:,} bytes"
        result.findings.append(Finding(rule="skill/front-matter-too-large", message=message, line=first_line))
        _by_lines(
            block.encode("utf-8", "replace")[: limits.front_matter_bytes].decode("utf-8", "ignore"),
            first_line,
            result,
        )
    else:
        _read_block(block, first_line, limits, result)
    return result


def _read_block(block: str, first_line: int, limits: Limits, result: FrontMatter) -> None:
    try:
        result.values = _by_events(block, first_line, limits, result)
        return
    except _NotReadError as error:
        result.findings.append(
            Finding(rule="skill/front-matter-invalid", message=error.message, line=error.line)
        )
        is_hostile = error.is_hostile
    if not is_hostile:
        try:
            result.values = _by_events(_quoted(block), first_line, limits, result)
            return
        except _NotReadError:
            pass
    result.notes.append("the front matter is not readable YAML and was read line by line")
    _by_lines(block, first_line, result)


def _by_events(block: str, first_line: int, limits: Limits, result: FrontMatter) -> dict[str, Value]:
    values: dict[str, Value] = {}
    depth = nodes = line = 0
    key: str | None = None
    try:
        for event in yaml.parse(block, Loader=_LOADER):
            line = first_line + (event.start_mark.line if event.start_mark else 0)
            if isinstance(event, yaml.AliasEvent):
                message = "expected YAML without aliases, got one; it was not expanded"
                raise _NotReadError(message, line=line, is_hostile=True)
            if isinstance(event, yaml.CollectionEndEvent):
                depth -= 1
                continue
            if not isinstance(event, yaml.CollectionStartEvent | yaml.ScalarEvent):
                continue
            scalar = event if isinstance(event, yaml.ScalarEvent) else None
            nodes += 1
            if nodes > limits.front_matter_nodes or depth > limits.front_matter_depth:
                bounds = (
                    f"{limits.front_matter_nodes:,} values nested at most {limits.front_matter_depth} deep"
                )
                message = f"expected at most {bounds}, got more"
                raise _NotReadError(message, line=line, is_hostile=True)
            if depth == 0 and not isinstance(event, yaml.MappingStartEvent):
                message = "expected keys and values, got YAML of another shape"
                raise _NotReadError(message, line=line, is_hostile=False)
            if depth == 1:
                if key is None:
                    key = "" if scalar is None else scalar.value
                else:
                    if key in values:
                        message = "expected every key once, got one twice; the last was read"
                        result.findings.append(
                            Finding(rule="skill/duplicate-key", message=message, line=line)
                        )
                        result.notes.append("a front matter key occurs twice")
                    text = None if scalar is None else _scalar(scalar, limits, result)
                    values[key] = Value(text, line, is_nested=scalar is None)
                    key = None
            depth += scalar is None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        message = "expected YAML, got a syntax error; values with colons need quotes"
        raise _NotReadError(
            message, line=first_line + mark.line if mark else first_line, is_hostile=False
        ) from error
    return values


def _scalar(event: yaml.ScalarEvent, limits: Limits, result: FrontMatter) -> str | None:
    value: str = event.value
    if event.implicit[0] and value in _NULL:
        return None
    if len(value) > limits.front_matter_chars:
        result.notes.append(
            f"only the first {limits.front_matter_chars:,} characters of a front matter value were read"
        )
        value = value[: limits.front_matter_chars]
    return value


def _quoted(block: str) -> str:
    """The block with one-line top-level values in quotes where YAML would need them, and tabs as spaces."""
    lines = []
    for line in block.split("\n"):
        match = _KEY_LINE.match(line)
        value = (match["value"] or "").strip() if match else ""
        if match and value and _NEEDS_QUOTES.search(value) and not _is_block_start(value):
            lines.append(f"{match['key']}: {json.dumps(_unquoted(value), ensure_ascii=False)}")
        else:
            lines.append(line.replace("\t", "  "))
    return "\n".join(lines)


def _is_block_start(value: str) -> bool:
    return re.fullmatch(r"[|>][+-]?\d?[+-]?", value) is not None


def _unquoted(value: str) -> str:
    is_quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "\"'"
    return value[1:-1] if is_quoted else value


def _by_lines(block: str, first_line: int, result: FrontMatter) -> None:
    """Top-level `key: value` lines; indented lines continue the value before them."""
    for key, text, line in _key_lines(block, first_line):
        result.values[key] = Value(text or None, line)


def _key_lines(block: str, first_line: int) -> Iterator[tuple[str, str, int]]:
    key, pieces, begun = "", [""], first_line
    for number, line in enumerate(block.split("\n"), start=first_line):
        match = _KEY_LINE.match(line)
        if match:
            if key:
                yield key, " ".join(pieces).strip(), begun
            value = (match["value"] or "").strip()
            key, pieces, begun = match["key"], ["" if _is_block_start(value) else _unquoted(value)], number
        elif key and line[:1] in (" ", "\t"):
            pieces.append(line.strip())
    if key:
        yield key, " ".join(pieces).strip(), begun


def _leading_block(text: str) -> str:
    """The lines that look like an unclosed front matter: up to the first blank line or header."""
    lines = []
    for line in text.split("\n", _UNCLOSED_LINES)[:_UNCLOSED_LINES]:
        if not line.strip() or line.startswith("#"):
            break
        lines.append(line)
    return "\n".join(lines)
