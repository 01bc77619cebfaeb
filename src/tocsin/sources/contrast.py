"""Our own contrast set: matched pairs of harmful and harmless requests, look-alikes and skill purposes.

Every harmful side has a harmless twin that shares first word, final punctuation and about its length, so
that surface
marks do not tell them apart; plain everyday rows have no twin. All rows are requests or declared purposes,
written
for this project, and none is operational. The child-safety category has no row.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from functools import lru_cache
from importlib.resources import files
from typing import Literal

from pydantic import JsonValue

from tocsin.core.records import Item, Kind, Origin, Skill

Part = Literal["requests", "lookalikes", "everyday", "instructions", "skills", "plain_skills"]
Split = Literal["fit", "held-back"]

PARTS: tuple[Part, ...] = ("requests", "lookalikes", "everyday", "instructions", "skills", "plain_skills")


def contrast_items(*parts: Part, split: Split | None = None) -> list[Item]:
    """Items of the given parts (all of them by default), harmful sides before their twins.

    Args:
        parts: Which files of the set.
        split: Only rows of one split; profiles are fitted on `fit`, and `held-back` is for reporting.

    Returns:
        Items whose metadata hold `pair` (shared by twins), `label` (`harmful` or `harmless`), `part`,
        `split`,
        `category` (of the harmful side; None for plain rows), `type` (look-alikes only) and `plain`.
    """
    chosen = parts or PARTS
    return [
        item for part in chosen for item in _load(part) if split is None or item.metadata["split"] == split
    ]


@lru_cache(maxsize=len(PARTS))
def _load(part: Part) -> tuple[Item, ...]:
    raw = files("tocsin").joinpath("data", "contrast", f"{part}.jsonl").read_bytes()
    digest = hashlib.sha256(raw).hexdigest()
    return tuple(_items(part, raw.decode("utf-8"), digest))


def _items(part: Part, text: str, digest: str) -> Iterator[Item]:
    ordinal = 0
    for line, row in enumerate((json.loads(line) for line in text.splitlines()), start=1):
        facts: dict[str, JsonValue] = {
            "pair": row["id"],
            "part": part,
            "split": row["split"],
            "category": row.get("category"),
            "type": row.get("type"),
            "plain": "plain" in row,
        }
        for label in ("harmful", "harmless", "plain"):
            if label not in row:
                continue
            origin = Origin(input_hash=digest, ordinal=ordinal, path=f"{part}.jsonl", line=line)
            ordinal += 1
            metadata = facts | {"label": "harmful" if label == "harmful" else "harmless"}
            content = row[label]
            if isinstance(content, str):
                yield Item(kind=Kind.PROMPT, text=content, origin=origin, metadata=metadata)
            else:
                skill = Skill(
                    name=content["name"],
                    description=content["description"],
                    headers=tuple(content["headers"]),
                )
                yield Item(kind=Kind.SKILL, skill=skill, origin=origin, metadata=metadata)
