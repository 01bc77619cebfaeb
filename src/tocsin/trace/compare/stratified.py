"""Comparisons inside strata of like cascades.

Larger cascades are deeper and wider whatever they carry, so that a difference in depth is often one of size
alone (Juul and Ugander, PNAS 2021). Here two kinds are compared inside strata only: among cascades of one
size, or of one bin of sizes and one modality.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tocsin.core.errors import UsageError
from tocsin.core.stats.bootstrap import percentile_interval
from tocsin.core.stats.intervals import Rate

N_PERMUTATIONS = 1_999
N_RESAMPLES = 1_000
BINS_PER_DOUBLING = 8
"""A bin holds sizes within 9 % of each other."""
_CELLS = 1_000_000
"""Numbers in one array of a block of permutations or resamples."""

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class StratifiedTest:
    """Two kinds compared inside strata that hold both."""

    n_first: int
    """Cascades of the first kind in strata that hold both kinds."""
    n_second: int
    strata: int
    """Strata that hold both kinds."""
    delta: Rate | None = None
    """Cliff's delta inside strata, averaged over them with van Elteren's weights; None without strata."""
    p: float | None = None
    """Two-sided, by permuting kinds inside strata; None where `reason` says why."""
    reason: str = ""
    holm: float | None = None
    """`p` corrected for all comparisons of its family."""


def size_strata(
    sizes: ArrayLike, modalities: ArrayLike | None = None, *, per_doubling: int | None = None
) -> Ints:
    """Stratum of each cascade, as numbers from 0.

    Args:
        sizes: Events of each cascade, 1 or more.
        modalities: If given, cascades of different modality are in different strata.
        per_doubling: Bins of sizes between a size and its double, equally wide on the logarithmic scale.
            None: a stratum holds one size.

    Raises:
        UsageError: If a size is below 1.
    """
    size = np.asarray(sizes, np.int64)
    if not (size >= 1).all():
        message = "expected sizes of 1 or more. Leave empty cascades out."
        raise UsageError(message)
    bins = size if per_doubling is None else np.floor(np.log2(size) * per_doubling + 1e-9).astype(np.int64)
    kinds = np.zeros(len(size), np.int64)
    if modalities is not None:
        kinds = np.unique(np.asarray(modalities, str), return_inverse=True)[1].ravel()
    return np.unique(np.stack([bins, kinds], 1), axis=0, return_inverse=True)[1].ravel().astype(np.int64)


def stratified_test(
    values: ArrayLike,
    is_first: ArrayLike,
    strata: ArrayLike,
    *,
    n_permutations: int = N_PERMUTATIONS,
    n_resamples: int = N_RESAMPLES,
    confidence: float = 0.95,
    seed: int = 0,
) -> StratifiedTest:
    """Is the first kind greater or smaller than the second among like cascades?

    The statistic is van Elteren's (1960): pairs won less pairs lost in each stratum, divided by its size plus
    one, summed. The test permutes kinds inside strata, and is exact but for the number of permutations. The
    interval of delta resamples cascades of each kind.

    Args:
        values: Shape (n,). Finite.
        is_first: Shape (n,). True for cascades of the first kind.
        strata: Shape (n,). Equal for cascades that may be compared.
        n_permutations: The least p is one in this many and one.
        n_resamples: For the interval.
        confidence: Coverage of the interval.
        seed: Equal seeds give equal results.

    Raises:
        UsageError: If lengths differ or a value is not finite.
    """
    table = _Table.of(values, is_first, strata)
    n_first, n_second = int(table.first.sum()), int(table.second.sum())
    if not len(table.starts):
        return StratifiedTest(0, 0, 0, reason="no stratum holds both kinds")
    generator = np.random.default_rng(seed)
    observed = float(table.effects(table.first[None], table.second[None])[0])
    delta = _interval(table, observed, n_resamples, confidence, generator)
    scores = table.scores()
    if not scores.any():
        reason = "values do not differ inside a stratum"
        return StratifiedTest(n_first, n_second, len(table.starts), delta, reason=reason)
    total = float(scores @ table.first)
    sums = _permuted(table, scores, n_permutations, generator)
    extreme = int(np.count_nonzero(np.abs(sums) >= abs(total) - 1e-9))
    p = (1 + extreme) / (1 + n_permutations)
    return StratifiedTest(n_first, n_second, len(table.starts), delta, p)


@dataclass(frozen=True, slots=True)
class _Table:
    """Counts for each distinct value of each stratum that holds both kinds, sorted by stratum and value."""

    first: Floats
    second: Floats
    starts: Ints
    """First cell of each stratum."""
    rest_first: int
    """Cascades of the first kind in other strata."""
    rest_second: int

    @classmethod
    def of(cls, values: ArrayLike, is_first: ArrayLike, strata: ArrayLike) -> _Table:
        sample, kinds = np.asarray(values, np.float64), np.asarray(is_first, bool)
        codes = np.asarray(strata)
        if not sample.shape == kinds.shape == codes.shape or sample.ndim != 1:
            shapes = f"{sample.shape}, {kinds.shape} and {codes.shape}"
            message = f"expected one value, kind and stratum for each cascade, got shapes {shapes}."
            raise UsageError(message)
        if not np.isfinite(sample).all():
            message = f"expected finite values, got {int((~np.isfinite(sample)).sum())} others. Drop them."
            raise UsageError(message)
        codes = np.unique(codes, return_inverse=True)[1].ravel()
        size = int(codes.max(initial=-1)) + 1
        both = (np.bincount(codes[kinds], minlength=size) > 0) & (
            np.bincount(codes[~kinds], minlength=size) > 0
        )
        kept = both[codes] if size else np.zeros(0, bool)
        rest = int(np.count_nonzero(kinds & ~kept)), int(np.count_nonzero(~kinds & ~kept))
        sample, kinds, codes = sample[kept], kinds[kept], codes[kept]
        levels = np.unique(sample, return_inverse=True)[1].ravel()
        keys, cell = np.unique(codes * (len(sample) + 1) + levels, return_inverse=True)
        stratum = keys // (len(sample) + 1)
        starts = np.flatnonzero(np.diff(stratum, prepend=-1))
        counts = [np.bincount(cell[side], minlength=len(keys)).astype(float) for side in (kinds, ~kinds)]
        return cls(counts[0], counts[1], starts.astype(np.int64), *rest)

    @property
    def widths(self) -> Ints:
        """Cells of each stratum."""
        widths: Ints = np.diff(self.starts, append=len(self.first))
        return widths

    def effects(self, first: Floats, second: Floats) -> Floats:
        """Delta of each row of counts (rows, cells); NaN where no stratum holds both kinds."""
        per_first = np.add.reduceat(first, self.starts, axis=1)
        per_second = np.add.reduceat(second, self.starts, axis=1)
        weights = 1 / (per_first + per_second + 1)
        # Inside a stratum: the second kind below a cell less that above it.
        upto = np.cumsum(second, 1)
        before = (upto - second)[:, self.starts]
        lead = 2 * upto - second - np.repeat(2 * before + per_second, self.widths, axis=1)
        won = np.add.reduceat(first * lead, self.starts, axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray((weights * won).sum(1) / (weights * per_first * per_second).sum(1))

    def scores(self) -> Floats:
        """Weighted lead of a cascade of each cell over all others of its stratum, shape (cells,).

        Pairs of one kind cancel, so that the sum over the first kind is the statistic.
        """
        both = self.first + self.second
        sizes = np.add.reduceat(both, self.starts)
        upto = np.cumsum(both)
        before = (upto - both)[self.starts]
        lead = 2 * upto - both - np.repeat(2 * before + sizes, self.widths)
        return np.asarray(lead / np.repeat(sizes + 1, self.widths))


def _blocks(rows: int, width: int) -> Iterator[int]:
    step = max(1, _CELLS // max(width, 1))
    for start in range(0, rows, step):
        yield min(step, rows - start)


def _permuted(table: _Table, scores: Floats, n: int, generator: np.random.Generator) -> Floats:
    """Sum of the scores of the first kind in each permutation, shape (n,)."""
    sums = np.zeros(n)
    counts = (table.first + table.second).astype(np.int64)
    for start, width in zip(table.starts.tolist(), table.widths.tolist(), strict=True):
        if width == 1:
            continue
        cells = slice(start, start + width)
        drawn = int(table.first[cells].sum())
        done = 0
        for rows in _blocks(n, width):
            chosen = generator.multivariate_hypergeometric(
                counts[cells], drawn, size=rows, method="marginals"
            )
            sums[done : done + rows] += chosen @ scores[cells]
            done += rows
    return sums


def _interval(table: _Table, value: float, n: int, confidence: float, generator: np.random.Generator) -> Rate:
    """Percentile interval over resampled cascades of each kind, those outside common strata included."""
    size = int(table.first.sum() + table.second.sum())
    effects = []
    sides = []
    for counts, rest in ((table.first, table.rest_first), (table.second, table.rest_second)):
        everyone = np.append(counts, rest)
        sides.append((int(everyone.sum()), everyone / everyone.sum()))
    for rows in _blocks(n, len(table.first)):
        first, second = (
            generator.multinomial(total, shares, size=rows)[:, :-1].astype(np.float64)
            for total, shares in sides
        )
        effects.append(table.effects(first, second))
    resampled = np.concatenate(effects)
    resampled = resampled[np.isfinite(resampled)]
    method = f"percentile bootstrap over cascades, {n} resamples"
    if len(resampled) < n / 2:
        return Rate(value, math.nan, math.nan, size, "none", "too few cascades in common strata")
    if np.ptp(resampled) < 1e-12:
        return Rate(value, math.nan, math.nan, size, "none", "resamples do not differ")
    low, high = percentile_interval(resampled, confidence)
    return Rate(value, low, high, size, method)
