"""Small builders of inputs; all text in them is neutral."""

from __future__ import annotations

import json
from pathlib import Path

from tocsin.core.records import Item
from tocsin.sources import Limits, open_source

SKILL = """---
name: plant-care
description: Says when to water house plants.
---

# Plant care

Text.

## When to water

More text.
"""


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def write_rows(path: Path, *rows: object) -> Path:
    return write(path, "".join(json.dumps(row) + "\n" for row in rows))


def read(path: Path | str, limits: Limits | None = None, **options: object) -> list[Item]:
    return list(open_source(path, limits=limits, **options).items())  # type: ignore[arg-type]


def one_skill(folder: Path, content: str | bytes, limits: Limits | None = None) -> Item:
    write(folder / "SKILL.md", content)
    (item,) = read(folder, limits)
    return item


def rules(item: Item) -> list[str]:
    return [finding.rule for finding in item.findings]
