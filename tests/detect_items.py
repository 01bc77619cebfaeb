"""Neutral items for tests of detectors: a made-up marker stands where a harmful request would."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from pydantic import JsonValue

from tocsin.core.records import Item, Kind, Origin, Skill, Turn

HASH = "0" * 64
MARKED = "crimson kettle"
UNMARKED = "wooden ladder"
_ACTIONS = (
    "Explain how to clean",
    "Write a note about",
    "Describe the use of",
    "Tell me how to store",
    "List facts on",
)
_PLACES = (
    "in the garden",
    "at the school",
    "for a small shop",
    "on a long train ride",
    "in the old kitchen",
    "by the sea",
)


def origin(ordinal: int = 0) -> Origin:
    """Origin of the item with this running number."""
    return Origin(input_hash=HASH, ordinal=ordinal)


def prompt(text: str, ordinal: int = 0, **metadata: JsonValue) -> Item:
    """A prompt."""
    return Item(kind=Kind.PROMPT, text=text, origin=origin(ordinal), metadata=metadata)


def chat(*turns: tuple[str, str], ordinal: int = 0) -> Item:
    """A chat from pairs of role and text."""
    return Item(kind=Kind.CHAT, turns=_turns(turns), origin=origin(ordinal))


def sample(*turns: tuple[str, str], ordinal: int = 0) -> Item:
    """A fine-tuning sample from pairs of role and text."""
    return Item(kind=Kind.TRAINING_SAMPLE, turns=_turns(turns), origin=origin(ordinal))


def skill(
    description: str, ordinal: int = 0, *, body: str = "", metadata: dict[str, JsonValue] | None = None
) -> Item:
    """A skill with a fixed name and two headers."""
    own = Skill(name="house-notes", description=description, headers=("Overview", "Steps"), body=body)
    return Item(kind=Kind.SKILL, skill=own, origin=origin(ordinal), metadata=metadata or {})


def marked_texts() -> list[str]:
    """Thirty texts with the marker."""
    return [f"{action} the {MARKED} {place}" for action, place in product(_ACTIONS, _PLACES)]


def unmarked_texts() -> list[str]:
    """Their twins without it."""
    return [text.replace(MARKED, UNMARKED) for text in marked_texts()]


def training_items() -> tuple[list[Item], list[Item]]:
    """Harmless and harmful items: pairs of twins, and plain ones; categories alternate with the place."""
    harmful = [
        prompt(text, index, pair=index, category="fraud" if index % 2 else "drugs")
        for index, text in enumerate(marked_texts())
    ]
    harmless = [prompt(text, 100 + index, pair=index) for index, text in enumerate(unmarked_texts())]
    plain = [
        prompt(text.replace(UNMARKED, "glass jar"), 200 + index, plain=True)
        for index, text in enumerate(unmarked_texts())
    ]
    return [*harmless, *plain], harmful


def _turns(turns: Sequence[tuple[str, str]]) -> tuple[Turn, ...]:
    return tuple(Turn(role=role, text=text) for role, text in turns)
