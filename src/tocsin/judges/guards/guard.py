"""What a guard model is: the questions it is asked, and what its answers mean."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from pydantic import Field, JsonValue

from tocsin.core.records import Abstention, Record

MIN_MASS = 0.5
"""Default of `GuardSettings.min_mass`; ours. Below it, anything else is likelier."""


class GuardSettings(Record):
    """How any guard is asked."""

    frame: Literal["template", "published"] | None = None
    """`template`: the chat template that the model ships; `published`: the format as published. By default
    the template where the family has one and the model ships it. A provider's server has a template, and is
    sent the chat or a message for it; with `published` it is sent the whole format as one message, for
    servers that put no template around it."""
    min_mass: float = Field(default=MIN_MASS, ge=0, le=1)
    """Probability that the answers must have together, else the item is not judged: a model that would write
    something else was not trained for this format. 0 takes any, as published code does. Local weights
    only."""
    attempts: int = Field(default=2, ge=1, le=5)
    """Replies asked of a provider until one can be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One answer of a reply, of two possible ones."""

    name: str
    """Under which its probability stands in `Verdict.extra`."""
    lead: str
    """What the reply holds before the answer; white space that already ends the frame is not repeated."""
    yes: tuple[str, ...]
    """Spellings of the answer that counts, the likeliest first; probabilities are summed."""
    no: tuple[str, ...]
    """Spellings of the other."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a provider is sent."""

    user: str
    response: str | None = None
    system: str = ""


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reply says."""

    is_unsafe: bool
    parts: Mapping[str, JsonValue] = field(default_factory=dict)
    codes: tuple[str, ...] = ()
    """Categories, in the guard's own codes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One question about a response: of one guideline, one risk, or of all harm."""

    name: str
    frame: tuple[str, str, str]
    """Published text before the request, between request and response, and after it; without the token that
    begins a sequence."""
    options: Mapping[str, JsonValue] = field(default_factory=dict)
    """What the model's own chat template must be told."""
    last_turn: str | None = None
    """A further turn of the user, after the response, where the model's template needs one."""
    steps: tuple[Step, ...]
    """Answers of one reply; the last one decides."""
    asked: Callable[[str, str], Asked]
    """Request and response as a provider is sent them, whose server puts its template around them."""
    is_told: bool = True
    """Whether what a provider is sent tells this question from the guard's others."""
    read: Callable[[str], Reading | Abstention]
    """A provider's reply."""
    reads_first_word: bool = False
    """The answer is the reply's first word, so that a reply that was cut after it is whole enough."""
    category: str | None = None
    """Taxonomy id of what it asks about; None where that is no single category."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Codes:
    """Categories that a guard names after its answer."""

    ids: Mapping[str, tuple[str, ...]]
    """Our categories for each code, the nearest first."""
    lead: str
    """What stands between the answer and its codes."""
    read: Callable[[str], tuple[str, ...] | Abstention]
    """A line of codes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """A guard as it is asked in a run."""

    family: str
    questions: tuple[Question, ...]
    ships_template: bool
    """Whether the published weights come with a chat template that makes the format."""
    codes: Codes | None = None
    wants_codes: bool = False
    """Whether local weights shall write the codes of a flagged response."""
    strips: bool = False
    """Whether the format takes request and response without white space around them."""
    settings: Mapping[str, JsonValue] = field(default_factory=dict)
    """What was chosen, for provenance."""

    @property
    def prompt_hash(self) -> str:
        """Hash of everything that a model is shown beside the item."""
        fixed = [
            [each.name, each.frame, dict(each.options), each.last_turn, [step.lead for step in each.steps]]
            for each in self.questions
        ]
        return hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """What a guard says of one response."""

    scores: Mapping[str, float]
    """For each question, from 0 to 1."""
    raw_scores: Mapping[str, float]
    """For each question: log-odds of the answers, or 1 and 0 where only the answer is known."""
    extra: Mapping[str, JsonValue] = field(default_factory=dict)
    codes: tuple[str, ...] = ()
    """Categories in the guard's own codes; none where they were not asked for or could not be read."""
    dollars: float | None = None


class Asker(Protocol):
    """Somebody who can be asked a guard's questions."""

    @property
    def id(self) -> str:
        """Name for provenance."""
        ...

    @property
    def identity(self) -> Mapping[str, JsonValue]:
        """What decides an answer beside question and item."""
        ...

    def ask(self, pairs: Sequence[tuple[str, str]], threshold: float) -> list[Answered | Abstention]:
        """Answers about pairs of request and response, in order.

        Args:
            pairs: Readable ones.
            threshold: Score from which on categories are wanted.
        """
        ...

    def close(self) -> None:
        """Give up connections."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A published guard, before its settings are known."""

    name: str
    summary: str
    card: str
    licence: str
    """Of the published weights."""
    settings: type[GuardSettings]
    build: Callable[[GuardSettings], Guard]
    languages: tuple[str, ...] = ()
