"""What the study of a traced log found. Cells of fewer cascades than the smallest cell are None or absent."""

from __future__ import annotations

from pydantic import Field

from tocsin.core.records import Record


class Ranged(Record):
    """A value and its 95 % interval; None where there is none."""

    value: float | None = None
    low: float | None = None
    high: float | None = None


class MeanShape(Record):
    """Mean shape of the cascades of one label under one rule, with normal intervals over cascades."""

    rule: str
    label: str | None
    """None for all cascades."""
    n: int
    size: Ranged
    depth: Ranged
    breadth: Ranged
    virality: Ranged


class Tail(Record):
    """P(X >= x) of a measure, down to the smallest cell."""

    measure: str
    rule: str
    label: str
    values: tuple[float, ...]
    shares: tuple[float, ...]
    n: int | None


class Contrast(Record):
    """Two labels compared in one measure under one rule; tests are None where `reason` says why."""

    rule: str
    measure: str
    first: str
    second: str
    n_first: int | None
    n_second: int | None
    reason: str = ""
    published_p: float | None = None
    """Every cascade once for each of its groups, as published: for comparison only."""
    ranks_p: float | None = None
    """One row for each cascade, one-sided."""
    ranks_holm: float | None = None
    delta: Ranged | None = None
    """Cliff's delta over all cascades."""
    matched_delta: Ranged | None = None
    """Among cascades of equal size."""
    matched_holm: float | None = None
    binned_delta: Ranged | None = None
    """Inside bins of size and modality."""
    binned_holm: float | None = None


class Completed(Record):
    """Complete trees behind the reconstructed ones, for one share of groups seen."""

    p: float
    n: int | None
    """Cascades with an edge."""
    reachable: float | None
    """Share that some tree within the bounds explains."""
    identified: float | None
    """Share whose height has a narrow interval."""
    b: float | None
    """Median branching over identified cascades."""
    h: float | None
    size: float | None
    """Median groups of the complete cascade."""


class Counters(Record):
    """Forwarding counters held against depth."""

    rule: str
    n: int | None
    spearman: Ranged
    kendall: Ranged
    below: Ranged
    """Share of cascades less deep than their counter proves."""


class Term(Record):
    """One coefficient of a regression."""

    name: str
    value: Ranged
    p: float | None


class Regressed(Record):
    """One regression on the traits of a cascade."""

    measure: str
    n: int | None
    left_out: dict[str, int]
    r_squared: float | None = None
    errors: str = ""
    references: dict[str, str] = Field(default_factory=dict)
    terms: tuple[Term, ...] = ()
    reason: str = ""


class TopCascade(Record):
    """One of the largest cascades, by a keyed hash."""

    id: str
    label: str
    modality: str
    groups: int
    hours: float
    depth: tuple[float, float]
    """Least and most over the rules."""
    virality: tuple[float, float]
    tree: tuple[int, ...]
    """Parent of each event, by time, under the first rule; -1 for a root. Empty above 300 events."""


class Span(Record):
    """Part of the timeline."""

    start: float
    """Seconds since 1970."""
    events: dict[str, int | None]
    """First appearances in groups, by label; None where they are of fewer cascades than the smallest cell."""


class SpreadStudy(Record):
    """The whole study."""

    schema_version: int = 1
    rules: tuple[str, ...]
    smallest_cell: int
    stages: dict[str, dict[str, int | None]]
    cascades: int | None
    events: int | None
    labels: dict[str, int | None]
    network_edges: int | None = None
    """Edges that NETINF accepted."""
    network_rate: float | None = None
    """Its delay rate, per hour."""
    means: tuple[MeanShape, ...]
    tails: tuple[Tail, ...]
    contrasts: tuple[Contrast, ...]
    completed: tuple[Completed, ...]
    counters: tuple[Counters, ...]
    regressions: tuple[Regressed, ...]
    top: tuple[TopCascade, ...]
    timeline: tuple[Span, ...]
