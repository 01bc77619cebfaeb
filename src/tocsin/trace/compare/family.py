"""A family of comparisons between kinds of content, as published and as it should be (arXiv 2505.18099).

The public code tests b and h of each harmful kind against unlabelled items, against viral but normal ones,
against those of them that were forwarded 5 times or more, and harmful kinds against each other. It feeds
every cascade once for each of its groups, does not look at size, and corrects for nothing. Here that test
stands beside three others on one row for each cascade: the same test, one among cascades of one size, and one
inside bins of size and modality, each corrected by Holm over the whole family.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tocsin.core.errors import UsageError
from tocsin.core.stats.intervals import Rate
from tocsin.core.stats.multiplicity import holm
from tocsin.trace.compare.attributes import MANY, Attributes
from tocsin.trace.compare.ranks import RankTest, cliffs_delta, rank_sum, rank_sum_weighted_by_size
from tocsin.trace.compare.stratified import (
    BINS_PER_DOUBLING,
    N_PERMUTATIONS,
    StratifiedTest,
    size_strata,
    stratified_test,
)

HARMFUL = ("propaganda", "hateful", "misinfo")
NORMAL = "normal"
OTHER = "other"


@dataclass(frozen=True, slots=True)
class Side:
    """Cascades of a label whose forwarding counter reached a number."""

    label: str
    min_forwarding: int = 0

    def __str__(self) -> str:
        return f"{self.label}, forwarded {self.min_forwarding}+" if self.min_forwarding else self.label

    def of(self, attributes: Attributes) -> NDArray[np.bool_]:
        """Which cascades are on this side; an unknown counter reaches 0 only."""
        chosen = attributes.labels == self.label
        if self.min_forwarding:
            chosen = chosen & (attributes.forwarding >= self.min_forwarding)
        return np.asarray(chosen)


@dataclass(frozen=True, slots=True)
class Pair:
    """The first side is said to go further than the second."""

    first: Side
    second: Side


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One measure of two sides. Tests are None where `reason` says why."""

    measure: str
    first: str
    second: str
    n_first: int
    """Cascades with a value of the measure."""
    n_second: int
    reason: str = ""
    weighted: RankTest | None = None
    """As published, every cascade once for each of its groups: for comparison only, p is far too small."""
    ranks: RankTest | None = None
    """The published test on one row for each cascade, one-sided."""
    ranks_holm: float | None = None
    """Its p corrected over the family."""
    delta: Rate | None = None
    """Cliff's delta of all cascades, whatever their size."""
    matched: StratifiedTest | None = None
    """Among cascades of one size."""
    binned: StratifiedTest | None = None
    """Inside bins of size and modality."""


def published_pairs(
    harmful: Sequence[str] = HARMFUL, normal: str | None = NORMAL, other: str | None = OTHER
) -> list[Pair]:
    """The comparisons of the public code, for these labels.

    Args:
        harmful: Harmful kinds. Of two, the first is said to go further.
        normal: Viral but normal content; None leaves its comparisons out.
        other: Unlabelled content; None leaves its comparisons out. Unlabelled is not harmless.
    """
    pairs = []
    if other is not None:
        pairs += [Pair(Side(kind), Side(other)) for kind in harmful]
    if normal is not None:
        pairs += [Pair(Side(kind), Side(normal)) for kind in harmful]
        pairs += [Pair(Side(kind), Side(normal, MANY)) for kind in harmful]
    return pairs + [Pair(Side(a), Side(b)) for a, b in itertools.combinations(harmful, 2)]


def compare(
    measures: Mapping[str, ArrayLike],
    sizes: ArrayLike,
    attributes: Attributes,
    pairs: Sequence[Pair],
    *,
    n_permutations: int = N_PERMUTATIONS,
    confidence: float = 0.95,
    seed: int = 0,
) -> list[Comparison]:
    """Every measure of every pair.

    Args:
        measures: By name, shape (cascades,). NaN where a cascade has no value, which leaves it out.
        sizes: Events of each cascade.
        attributes: Of each cascade.
        pairs: What to compare, such as `published_pairs()`.
        n_permutations: As for `stratified_test`.
        confidence: Coverage of intervals.
        seed: Equal seeds give equal results.

    Returns:
        Measures in their order, pairs inside. Holm's correction is over all of them, for each kind of test.

    Raises:
        UsageError: If a measure or the sizes do not have one value for each cascade.
    """
    size = np.asarray(sizes, np.int64)
    n = len(attributes.labels)
    for name, values in {"size": size, **measures}.items():
        if np.shape(values) != (n,):
            message = f"expected {n} values of {name}, one for each cascade, got shape {np.shape(values)}."
            raise UsageError(message)
    exact = size_strata(size)
    binned = size_strata(size, attributes.modalities, per_doubling=BINS_PER_DOUBLING)
    found = []
    for name, values in measures.items():
        sample = np.asarray(values, np.float64)
        for pair in pairs:
            first, second = (side.of(attributes) & np.isfinite(sample) for side in (pair.first, pair.second))
            rows = np.flatnonzero(first | second)
            one = Comparison(
                measure=name, first=str(pair.first), second=str(pair.second),
                n_first=int(first.sum()), n_second=int(second.sum()),
            )  # fmt: skip
            absent = [
                str(side) for side, n in ((pair.first, one.n_first), (pair.second, one.n_second)) if not n
            ]
            if absent:
                found.append(replace(one, reason=f"not computable: no cascade of {' or '.join(absent)}"))
                continue
            x, y = sample[first], sample[second]
            ranks = rank_sum(x, y)
            if ranks is None:
                found.append(replace(one, reason="not computable: all values are equal"))
                continue
            tests = [
                stratified_test(
                    sample[rows], first[rows], strata[rows],
                    n_permutations=n_permutations, confidence=confidence, seed=seed,
                )
                for strata in (exact, binned)
            ]  # fmt: skip
            found.append(
                replace(
                    one,
                    weighted=rank_sum_weighted_by_size(x, size[first], y, size[second]),
                    ranks=ranks,
                    delta=cliffs_delta(x, y, confidence=confidence, seed=seed),
                    matched=tests[0],
                    binned=tests[1],
                )
            )
    return _corrected(found)


def _corrected(found: list[Comparison]) -> list[Comparison]:
    ranks = _holm([one.ranks.p if one.ranks else None for one in found])
    matched = _holm([one.matched.p if one.matched else None for one in found])
    binned = _holm([one.binned.p if one.binned else None for one in found])
    return [
        replace(
            one,
            ranks_holm=ranks[place],
            matched=replace(one.matched, holm=matched[place]) if one.matched else None,
            binned=replace(one.binned, holm=binned[place]) if one.binned else None,
        )
        for place, one in enumerate(found)
    ]


def _holm(values: Sequence[float | None]) -> list[float | None]:
    known = [value for value in values if value is not None]
    corrected = iter(holm(known).tolist())
    return [None if value is None else next(corrected) for value in values]
