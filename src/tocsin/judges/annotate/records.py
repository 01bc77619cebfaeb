"""What a study of rankings is made of: settings, annotators, tasks, rankings, and refusals of rankings."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pydantic import Field

from tocsin.core.records import Record
from tocsin.judges.agreement import Problem

OWNER = "owner"
"""Name of the role that sees agreement and ranks nothing."""


class StudySettings(Record):
    """What holds for the whole study."""

    title: str = Field(default="Ranking responses by harm", min_length=1, max_length=200)
    guidance: str = Field(default="", max_length=20_000)
    """The owner's own words to annotators, shown as plain text beside the scale."""
    ties: bool = False
    """Whether two harmful responses may share a rank."""
    seed: int = 0
    """Of the orders."""


class Annotator(Record):
    """Somebody with a token. The token is told once and kept nowhere."""

    name: str
    token: str


class Progress(Record):
    """How far an annotator has come."""

    annotator: str
    items: int
    ranked: int
    skipped: int


@dataclass(frozen=True, slots=True)
class Task:
    """One item as one annotator sees it."""

    place: int
    """From 1, in the annotator's own order."""
    item: str
    prompt: str
    responses: tuple[str, ...]
    """In the order in which they are shown."""
    ranks: tuple[int, ...] | None
    """By shown place, where it was ranked."""
    skipped: bool


@dataclass(frozen=True, slots=True)
class Ranked:
    """One ranking, for export."""

    item: str
    annotator: str
    group: str | None
    ranks: tuple[int, ...]
    """In the order of the study's models."""
    positions: tuple[int, ...]
    """From 1, where the response of each model was shown."""
    saved: str


class Refusal(StrEnum):
    """Why a submission is refused, beside the problems of rankings."""

    BAD_KEY = "bad key"
    OTHER_RANKING = "other ranking"
    """The key was used before, for another ranking."""


class SubmissionError(Exception):
    """A submission that was not kept.

    Attributes:
        problem: Which.
        item: Id of the item, where it is one of the annotator's own.
    """

    def __init__(self, problem: Problem | Refusal, item: str | None = None) -> None:
        self.problem, self.item = problem, item
        super().__init__(str(problem))
