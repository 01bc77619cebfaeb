"""The real skills of the evaluation data, when they are there."""

from __future__ import annotations

import os
import re
from itertools import pairwise
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from tocsin.sources import Limits, open_source
from tocsin.sources.headers import section_headers

DATA = os.environ.get("TOCSIN_DATA")
pytestmark = pytest.mark.skipif(DATA is None, reason="TOCSIN_DATA does not name the evaluation data")


def _skills() -> Path:
    return Path(DATA or "") / "skills"


def test_all_skills_are_read_and_nested_ones_are_their_own() -> None:
    source = open_source(_skills())
    items = list(source.items())
    folders = [Path(item.origin.path).parent for item in items]
    assert len(items) == source.total == 327
    assert sum(any(outer in folder.parents for outer in folders) for folder in folders) == 3
    assert not any(item.problem or item.partial for item in items)
    assert any("manifest.csv" in notice for notice in source.notices)


def test_headers_equal_those_of_the_full_parser() -> None:
    """The fast path hands the parser shortened lines; headers must be those of the unshortened text."""
    parser = MarkdownIt("commonmark")
    for item in open_source(_skills()).items():
        assert item.skill is not None
        tokens = parser.parse(item.skill.body)
        expected = []
        for token, inline in pairwise(tokens):
            if token.type == "heading_open":
                pieces = (" " if c.type == "softbreak" else c.content for c in inline.children or [])
                expected.append("".join(pieces))
        assert _collapsed(item.skill.headers) == _collapsed(expected), item.origin.path
        assert item.skill.headers == section_headers(item.skill.body, Limits()).texts


def _collapsed(texts: tuple[str, ...] | list[str]) -> list[str]:
    return [short for text in texts if (short := re.sub(r"\s+", " ", text).strip()[:200])]
