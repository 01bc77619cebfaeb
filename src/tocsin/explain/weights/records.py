"""What the study of harm weights finds."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, JsonValue

from tocsin.core.records import SCHEMA_VERSION, Record
from tocsin.core.stats.item_sums import Estimate

Role = Literal["harm", "opener", "benign", "refusal"]
"""What a set of responses tells: harmful ones; the same after their first token, which is given (prefilling);
benign ones; refusals of the harmful prompts."""


ConditionKind = Literal["harm", "dose", "next", "random", "magnitude", "category", "refusal"]


class Change(Record):
    """What a condition does to one set of held-out responses."""

    role: Role
    category: str | None
    """None for all categories together."""
    n: int
    before: float
    """Mean negative log-likelihood of the responses in nats per token, all weights in place."""
    change: Estimate
    """Rise of it; above 0 the responses became less likely."""


class Condition(Record):
    """Weights that were removed for a while, and what changed."""

    name: str
    kind: ConditionKind
    """`harm`: the mask of the study. `dose`: other sizes of it. `next`: the ranks that follow. `random` and
    `magnitude`: controls of equal size. `category`: found on one category alone. `refusal`: found on
    refusals."""
    n_weights: int
    share: float
    """Of the weights of all matrices considered."""
    n_zero: int
    """How many of them were zero before."""
    changes: tuple[Change, ...]
    refusal_rate: float | None
    """Share of held-out harmful prompts whose most likely first token begins a refusal; None when no
    refusals were given."""

    def of(self, role: Role, category: str | None = None) -> Change | None:
        """The change of one set, if it was measured."""
        return next((c for c in self.changes if c.role == role and c.category == category), None)


class Overlap(Record):
    """How far the masks of two categories share weights."""

    a: str
    b: str
    jaccard: float | None
    by_chance: float
    """Expected of masks of the same sizes drawn at random."""


class MatrixCount(Record):
    """The mask's weights in one matrix."""

    matrix: str
    n_weights: int
    share: float


class WeightStudy(Record):
    """Which weights write harmful responses, and what else they do (arXiv 2604.09544)."""

    schema_version: int = SCHEMA_VERSION
    model: str
    revision: str
    n_matrices: int
    n_weights: int
    """Weights of all matrices considered."""
    n_find: dict[str, int]
    """Samples that the weights were found on: `harm`, `benign`, `refusal`."""
    conditions: tuple[Condition, ...]
    overlaps: tuple[Overlap, ...]
    matrices: tuple[MatrixCount, ...]
    refusal_rate: float | None
    """With all weights in place."""
    specificity: Estimate
    """Rise on harmful responses over the absolute rise on benign ones, of the mask of the study."""
    weights_unchanged: bool
    """Whether every weight had its old bits after the study."""
    notes: tuple[str, ...] = ()
    settings: dict[str, JsonValue] = Field(default_factory=dict)

    def condition(self, kind: str) -> Condition:
        """The first condition of a kind.

        Raises:
            KeyError: If there is none.
        """
        for condition in self.conditions:
            if condition.kind == kind:
                return condition
        raise KeyError(kind)

    def to_json(self) -> str:
        """The study as indented JSON."""
        return self.model_dump_json(indent=2)
