"""What an agreement study found. `Agreement` is the JSON twin of the page; a missing number is null."""

from __future__ import annotations

import json
from typing import Literal

from pydantic import Field, JsonValue

from tocsin.core.records import SCHEMA_VERSION, Record
from tocsin.core.stats.item_sums import Estimate
from tocsin.judges.comparison.records import Comparison


class Rejected(Record):
    """A ranking that could not be used."""

    annotator: str
    item: str
    problem: str


class Reading(Record):
    """What was read of one annotator."""

    annotator: str
    rows: int
    """Rankings found, whole or not usable."""
    incomplete: int
    """Rows left out because the item itself lacks a field."""
    valid: int
    repaired: int
    """Made valid by dense re-ranking."""
    rejected: int
    items: int
    """Different items with a usable ranking."""


class SubjectProfile(Record):
    """How one annotator sees one model."""

    subject: str
    not_harmful: Estimate
    """Share of items, 0 to 1."""
    mean_rank: Estimate
    """0 is not harmful; higher is more harmful."""
    top: Estimate
    """Share of items on which it is the most harmful of those ranked."""


class Profile(Record):
    """How one annotator sees the models."""

    annotator: str
    n: int
    """Items."""
    none_harmful: Estimate
    """Share of items without a harmful response."""
    subjects: tuple[SubjectProfile, ...]


class PairAgreement(Record):
    """Two annotators on the items that both ranked."""

    a: str
    b: str
    n: int
    exact: Estimate
    """Share of items with equal vectors."""
    binary_accuracy: Estimate
    """Share of responses on which they agree whether it is harmful."""
    binary_kappa: Estimate
    alpha: Estimate
    """Krippendorff, ordinal, over the ranks of all responses."""
    quadratic_kappa: Estimate
    ac1: Estimate
    """Gwet, harmful or not."""
    ac2: Estimate
    """Gwet, ranks with quadratic weights."""
    top_one: Estimate
    rbo_90: Estimate
    """Extrapolated rank-biased overlap, p = 0.9."""
    rbo_50: Estimate
    tau_b: Estimate
    """Mean over the `tau_n` items on which neither vector is constant."""
    tau_n: int
    permuted: dict[str, float | None]
    """The same measures where the rankings of one annotator are shuffled among the items (expectation)."""
    relative_alpha: Estimate | None = None
    """Alpha over the mean alpha of the reference with the other people; may exceed 1."""


class SetAgreement(Record):
    """Agreement among several annotators."""

    name: str
    annotators: tuple[str, ...]
    n: int
    """Items that at least two of them ranked."""
    alpha: Estimate
    """Krippendorff, ordinal; rankings may be missing."""
    fleiss_kappa: float | None
    """Nominal, over the items that all of them ranked."""


class PartAgreement(Record):
    """The reference and another annotator on a part of the items."""

    part: str
    """`group NAME`, or `judges unanimous`, `judges contested`, `people unanimous`, `people contested`."""
    a: str
    b: str
    n: int
    exact: Estimate
    alpha: Estimate
    rbo_90: Estimate


class PositionBias(Record):
    """Whether an annotator favours a place in the order of responses."""

    annotator: str
    verdict: Literal["biased", "not shown", "cannot be told"]
    n: int
    """Items with a known order."""
    p_value: float | None = None
    """Of the permutation test, Holm-corrected over annotators."""
    mean_rank: tuple[float, ...] = ()
    """Mean rank of the response at each place."""
    reason: str = ""


class Agreement(Record):
    """Everything that `tocsin judges agree` found."""

    schema_version: int = SCHEMA_VERSION
    reference: str
    subjects: tuple[str, ...]
    n_items: int
    humans: tuple[str, ...]
    judges: tuple[str, ...]
    """Annotators that are not people."""
    readings: tuple[Reading, ...]
    rejected: tuple[Rejected, ...]
    profiles: tuple[Profile, ...]
    pairs: tuple[PairAgreement, ...]
    sets: tuple[SetAgreement, ...]
    ceiling: Estimate | None
    """Mean alpha of the reference with the other people; null when there are none."""
    parts: tuple[PartAgreement, ...]
    position: tuple[PositionBias, ...]
    comparisons: tuple[Comparison, ...]
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_json(self) -> str:
        """As indented JSON in ASCII; a number that is not finite is null."""
        return json.dumps(self.model_dump(mode="json"), indent=1, allow_nan=False)
