"""What a study of directions is given: its prompts, how replies are read, and what decides its result."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from tocsin.core.errors import InputError, UsageError
from tocsin.explain.directions.geometry import Floats
from tocsin.models.local import LocalModel

MIN_BUCKET = 8
"""Fewest prompts of a bucket that a refusal centre is taken from."""
MAX_ROWS = 6
REQUEST = "REQUEST"
"""Stands for the harmful prompt in a wrapper."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectionSettings:
    """Choices of the study."""

    n_fit: int = 100
    """Prompts of each label behind the centres (paper: 100); at most half of what is given is taken."""
    n_test: int = 100
    """Most held-out prompts of each label."""
    n_steered: int = 24
    """Held-out prompts of each label that are steered (paper: 50)."""
    n_rows: int = MAX_ROWS
    """Blocks at whose input directions are added, spread evenly over the depth."""
    coefficient: float = 1.0
    """Paper: 1; its script for reply inversion uses 2."""
    max_new_tokens: int = 24
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.n_fit, self.n_test, self.n_steered) < MIN_BUCKET or not 1 <= self.n_rows <= MAX_ROWS:
            message = (
                f"expected at least {MIN_BUCKET} prompts to fit, test and steer, 1 to {MAX_ROWS} rows, got "
                f"{self.n_fit}, {self.n_test}, {self.n_steered} and {self.n_rows}."
            )
            raise UsageError(message)
        if not math.isfinite(self.coefficient):
            message = f"expected a finite coefficient, got {self.coefficient}. Give a number such as 1 or 2."
            raise UsageError(message)


class Question(NamedTuple):
    """How recognition is asked for, inverted with respect to refusal (card 03, section 3.6)."""

    before: str
    """Put before a request."""
    after: str
    """Put after it; a vector is added only to the tokens before this."""
    reads: Callable[[str], bool | None]
    """True where a reply says harmful, False where it says harmless, None where it says neither."""


class Variant(NamedTuple):
    """A changed model whose beliefs are read by the original centres."""

    name: str
    model: LocalModel


class DirectionData(NamedTuple):
    """Prompts, and how replies are read."""

    harmful: list[str]
    harmless: list[str]
    wrapped: list[str]
    """Harmful prompts inside wrappers that are not among `harmful`; may be empty. Never part of a centre."""
    refuses: Callable[[str], bool]
    end_ids: tuple[int, ...]
    question: Question
    variants: tuple[Variant, ...] = ()
    planted: dict[str, tuple[int, Literal["harmfulness", "refusal"], Floats]] | None = None
    """Name, row and direction that should be found."""
    wrappers: tuple[str, ...] = ()
    """Instead of `wrapped`: texts in which `REQUEST` stands for a prompt. The study puts held-out prompts
    into them, since it alone knows which stand behind a centre."""

    def wrap(self, held_out: Sequence[str]) -> list[str]:
        """Wrapped prompts: those given, or the held-out ones, each in the next wrapper."""
        if not self.wrappers:
            return self.wrapped
        return [
            self.wrappers[i % len(self.wrappers)].replace(REQUEST, prompt)
            for i, prompt in enumerate(held_out)
        ]


def refuse_shared(harmful: Sequence[str], harmless: Sequence[str]) -> None:
    """Refuse prompts with both labels: they pull both centres together, down to a direction of length 0.

    Raises:
        InputError: If a prompt is on both sides.
    """
    shared = len(set(harmful) & set(harmless))
    if shared:
        message = (
            f"expected prompts that are either harmful or harmless, got {shared} that stand on both sides. "
            "Take them out of one."
        )
        raise InputError(message)
