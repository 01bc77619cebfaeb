"""One list of harm categories, and how published lists translate to it.

The text lives in `taxonomy.toml` beside this module. Every detector, judge and report uses these ids; a
crosswalk translates the codes of other lists (HarmfulSkillBench, BeaverTails, OpenAI moderation, MLCommons
and more) to them and back. Categories have two tiers, after HarmfulSkillBench (arXiv 2604.15415, section
3.1): *prohibited* ones are never acceptable, *high-risk* ones only with human review or a disclosure that
AI is involved.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType
from typing import Literal

from pydantic import Field, TypeAdapter

from tocsin.core.errors import UsageError
from tocsin.core.records import Record

Tier = Literal["prohibited", "high-risk"]


class Category(Record):
    """One category of harm."""

    id: str
    """Stable: written into results."""
    title: str
    tier: Tier
    definition: str
    """What is forbidden, then what stays allowed."""
    crosswalk: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    """For each scheme, the codes that translate to this category; a scheme without such a code is absent."""


class Code(Record):
    """One code of a published list."""

    title: str
    """Name as its authors give it."""
    ids: tuple[str, ...] = Field(min_length=1)
    """Our nearest categories, the nearest first."""
    definition: str = ""
    """In our own words; given where a detector shows the list to a model."""


class Scheme(Record):
    """A published list of categories."""

    title: str
    source: str
    code: dict[str, Code]
    """By code, in the authors' order."""


def _load() -> tuple[tuple[Category, ...], Mapping[str, Scheme]]:
    document = tomllib.loads(files("tocsin.core").joinpath("taxonomy.toml").read_text("utf-8"))
    schemes = TypeAdapter(dict[str, Scheme]).validate_python(document["scheme"])
    categories = []
    for entry in document["category"]:
        crosswalk = {
            name: codes
            for name, scheme in schemes.items()
            if (codes := tuple(code for code, meaning in scheme.code.items() if entry["id"] in meaning.ids))
        }
        categories.append(Category(**entry, crosswalk=crosswalk))
    return tuple(categories), MappingProxyType(schemes)


CATEGORIES, SCHEMES = _load()
_by_id = {category.id: category for category in CATEGORIES}


def category(category_id: str) -> Category:
    """The category with an id.

    Raises:
        UsageError: If there is none; the message lists near matches.
    """
    found = _by_id.get(category_id)
    if found is None:
        hint = _hint(category_id, _by_id)
        message = f"no category has the id '{category_id}'.{hint} `tocsin taxonomy` lists them all."
        raise UsageError(message)
    return found


def crosswalk(scheme: str, code: str) -> tuple[str, ...]:
    """Our category ids for a code of a published list, the nearest first.

    Args:
        scheme: A key of `SCHEMES`, such as `harmfulskillbench`.
        code: A code as the scheme spells it, such as `P12`.

    Raises:
        UsageError: If the scheme or the code is unknown; the message lists near matches.
    """
    known = SCHEMES.get(scheme)
    if known is None:
        message = f"no scheme is called '{scheme}'. Known schemes: {', '.join(SCHEMES)}."
        raise UsageError(message)
    found = known.code.get(code)
    if found is None:
        message = f"the scheme '{scheme}' has no code '{code}'.{_hint(code, known.code)}"
        raise UsageError(message)
    return found.ids


def _hint(given: str, known: Mapping[str, object]) -> str:
    near = difflib.get_close_matches(given, known, n=3)
    return f" Did you mean {' or '.join(near)}?" if near else ""
