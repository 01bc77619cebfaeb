"""Section headers of a Markdown text, from a real parser: ATX and setext, not inside fences, HTML or code."""

from __future__ import annotations

import re
from functools import cache
from typing import NamedTuple

from markdown_it import MarkdownIt

from tocsin.sources.limits import Limits

# The block parser's cost grows with characters, but a line of words decides nothing about structure after its
# first letter. Lines with < > or ] are kept: they may end an HTML block or a link definition.
_PROSE_TAIL = re.compile(r"^([ \t]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)?[A-Za-z])[^<>\]\n]+$", re.MULTILINE)
# Inline parsing of adversarial text is quadratic; a header of this length costs two milliseconds at worst.
_INLINE_CHARS = 200
_MARKUP = re.compile(r"[*_`\[\]<&\\!~]")
_CONTAINER = re.compile(r"^[ \t]*(?:(?:>|[-*+]|\d{1,9}[.)])[ \t]*)*")
_ATX = re.compile(r"^[ \t]*#{1,6}[ \t]+|[ \t]+#+[ \t]*$|^#{1,6}$")


class Headers(NamedTuple):
    """Headers in order, and notes of bounds that were hit."""

    texts: tuple[str, ...]
    notes: tuple[str, ...]


@cache
def _block_parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark")
    parser.core.ruler.enableOnly(["normalize", "block"])
    return parser


@cache
def _inline_parser() -> MarkdownIt:
    return MarkdownIt("commonmark")


def section_headers(markdown: str, limits: Limits) -> Headers:
    """Plain texts of all section headers of a text whose line ends are line feeds.

    Cost is bounded by `header_lines` for any text: about a second for the worst that was found.
    """
    notes = []
    lines = markdown.split("\n", limits.header_lines)
    if len(lines) > limits.header_lines and lines[-1]:
        notes.append(f"section headers were looked for in the first {limits.header_lines:,} lines only")
        lines = lines[:-1]
    # Longer lines add nothing: a header is cut at header_chars anyway.
    reduced = _PROSE_TAIL.sub(r"\1", "\n".join(line[: limits.header_chars * 2] for line in lines))
    texts: list[str] = []
    for token in _block_parser().parse(reduced):
        if token.type != "heading_open" or token.map is None:
            continue
        if len(texts) >= limits.headers:
            notes.append(f"only the first {limits.headers:,} section headers were read")
            break
        first, end = token.map
        # A setext header's last line is its underline.
        own = lines[first:end] if token.markup.startswith("#") else lines[first : end - 1]
        if token.level:
            own = [_CONTAINER.sub("", line) for line in own]
        text = _plain(" ".join(_ATX.sub("", line).strip() for line in own))
        if len(text) > limits.header_chars:
            notes.append(f"only the first {limits.header_chars} characters of a section header were read")
            text = text[: limits.header_chars]
        if text:
            texts.append(text)
    return Headers(tuple(texts), tuple(dict.fromkeys(notes)))


def _plain(text: str) -> str:
    """The text without inline markup."""
    if len(text) > _INLINE_CHARS or not _MARKUP.search(text):
        return text
    children = _inline_parser().parseInline(text)[0].children or []
    pieces = (" " if token.type in ("softbreak", "hardbreak") else token.content for token in children)
    return "".join(pieces).strip()
