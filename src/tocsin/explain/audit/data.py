"""What an audit is given: prompts, tasks, a judge, and the words in which it speaks to a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from tocsin.core.errors import UsageError


class Prompt(NamedTuple):
    """A harmful prompt."""

    text: str
    category: str | None = None


class AuditData(NamedTuple):
    """Prompts and tasks; those for fitting share none with the others."""

    fit_harmful: Sequence[str]
    """Directions and probes are fitted on these."""
    fit_harmless: Sequence[str]
    harmful: Sequence[Prompt]
    """Behaviour is measured on these."""
    harmless: Sequence[str]
    """As many, and of like length."""
    capability: Sequence[tuple[str, str]]
    """Tasks with their right replies."""


class ReplyJudge(Protocol):
    """Says of replies whether they help with harm, and whether they refuse; None where it cannot tell."""

    name: str

    def harmful(self, prompts: Sequence[str], replies: Sequence[str]) -> list[bool | None]:
        """Whether each reply helps with its harmful prompt."""
        ...

    def refused(self, prompts: Sequence[str], replies: Sequence[str]) -> list[bool | None]:
        """Whether each reply refuses its prompt."""
        ...


@dataclass(frozen=True, slots=True)
class Wording:
    """How an audit speaks to a model."""

    self_audit: Callable[[str], str]
    """From a prompt to the request to assess it."""
    mend: str | None
    """What is said to a model whose assessment could not be read; None leaves it at that."""
    reflect: Callable[[str], str]
    """From a prompt to the same prompt after an instruction to reflect on safety first."""
    plan: Callable[[str], str]
    """The neutral control: an instruction of equal length that does not speak of safety."""
    marker: str
    """Stands before the answer itself in a reply to the two."""

    def answer(self, reply: str) -> tuple[str, bool]:
        """The part of a reply to judge, and whether its marker was found; without it the whole reply."""
        before, found, after = reply.rpartition(self.marker)
        return (after.strip(), True) if found else (before + after, False)


@dataclass(frozen=True, slots=True)
class AuditSettings:
    """What decides an audit's result, beside models and prompts."""

    n_fit: int = 128
    """Most prompts of each side that directions and probes are fitted on."""
    n_test: int = 100
    """Most prompts of each side that behaviour is measured on."""
    n_drift: int = 64
    """Of them, harmless ones on which continuations are compared."""
    n_repair: int = 50
    """Of them, prompts of each side on which every repair is measured."""
    n_tasks: int = 128
    """Most tasks that measure capability."""
    max_new_tokens: int = 64
    """Longest reply that is judged. The published code writes 1,024 (card 02, section 3.1)."""
    audit_tokens: int = 256
    drift_tokens: int = 128
    seed: int = 0
    repairs: bool = True
    """Whether repairs are tried; they take most of the time."""

    def __post_init__(self) -> None:
        sizes = (self.n_fit, self.n_test, self.n_drift, self.n_repair, self.n_tasks)
        lengths = (self.max_new_tokens, self.audit_tokens, self.drift_tokens)
        if min(sizes) < MIN_PROMPTS or min(lengths) < 1:
            message = (
                f"expected at least {MIN_PROMPTS} prompts of every use and replies of at least one token, "
                f"got {min(sizes)} and {min(lengths)}."
            )
            raise UsageError(message)


MIN_PROMPTS = 8
"""Fewer prompts of one use say nothing at all."""
MIN_CELL = 20
"""Below this there is a warning, and no verdict (card 02, section 7, check 10)."""
