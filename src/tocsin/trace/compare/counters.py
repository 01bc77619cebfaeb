"""Forwarding counters as a check on reconstructed depth.

A message whose counter says f has travelled f hops or more, so that its complete cascade is at least f deep.
A reconstruction that is right about depth ranks cascades as their counters do, and is below the counter only
where groups between were not seen.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tocsin.core.errors import UsageError
from tocsin.core.stats.bootstrap import N_RESAMPLES, percentile_interval
from tocsin.core.stats.intervals import Rate, wilson

Floats = NDArray[np.float64]
_CELLS = 1_000_000


@dataclass(frozen=True, slots=True)
class CounterCheck:
    """Over the cascades whose counter is known."""

    n: int
    spearman: Rate
    """Rank correlation of counter and depth; NaN where one of them is constant."""
    kendall: Rate
    """Kendall's tau-b of the same."""
    below: Rate
    """Share of cascades that are less deep than their counter proves."""


def check_counters(
    depth: ArrayLike,
    forwarding: ArrayLike,
    *,
    n_resamples: int = N_RESAMPLES,
    confidence: float = 0.95,
    seed: int = 0,
) -> CounterCheck:
    """Hold depths against forwarding counters.

    Both take few values, so everything is computed on their table, and a resample is a draw of its cells.

    Args:
        depth: Shape (cascades,).
        forwarding: Shape (cascades,). Largest counter, 0 to 5; NaN where unknown.
        n_resamples: For the intervals of the correlations.
        confidence: Coverage of intervals.
        seed: Equal seeds give equal intervals.

    Raises:
        UsageError: If lengths differ.
    """
    deep, hops = np.asarray(depth, np.float64), np.asarray(forwarding, np.float64)
    if deep.shape != hops.shape or deep.ndim != 1:
        message = f"expected a counter for each depth, got shapes {deep.shape} and {hops.shape}."
        raise UsageError(message)
    known = np.isfinite(hops) & np.isfinite(deep)
    deep, hops = deep[known], hops[known]
    n = len(deep)
    below = wilson(int(np.count_nonzero(deep < hops)), n, confidence)
    if not n:
        none = Rate(math.nan, math.nan, math.nan, 0, "none", "no counter is known")
        return CounterCheck(0, none, none, below)
    rows, columns = (np.unique(values, return_inverse=True)[1].ravel() for values in (hops, deep))
    shape = (int(rows.max()) + 1, int(columns.max()) + 1)
    table = np.bincount(rows * shape[1] + columns, minlength=shape[0] * shape[1]).astype(np.float64)
    generator = np.random.default_rng(seed)
    step = max(1, _CELLS // len(table))
    resampled: list[list[Floats]] = [[], []]
    for start in range(0, n_resamples, step):
        drawn = generator.multinomial(n, table / n, size=min(step, n_resamples - start))
        for kept, function in zip(resampled, (_spearman, _kendall), strict=True):
            kept.append(function(drawn.reshape(-1, *shape).astype(np.float64)))
    rates = [
        _rate(float(function(table.reshape(1, *shape))[0]), np.concatenate(kept), n, confidence)
        for function, kept in zip((_spearman, _kendall), resampled, strict=True)
    ]
    return CounterCheck(n, rates[0], rates[1], below)


def _rate(value: float, resampled: Floats, n: int, confidence: float) -> Rate:
    finite = resampled[np.isfinite(resampled)]
    if math.isnan(value):
        return Rate(value, math.nan, math.nan, n, "none", "all counters or all depths are equal")
    if len(finite) < len(resampled) / 2 or np.ptp(finite) < 1e-12:
        return Rate(value, math.nan, math.nan, n, "none", "too few cascades that differ")
    low, high = percentile_interval(finite, confidence)
    return Rate(value, low, high, n, f"percentile bootstrap over cascades, {len(resampled)} resamples")


def _spearman(tables: Floats) -> Floats:
    """Of tables of shape (tables, rows, columns): Pearson's correlation of mid-ranks."""
    n = tables.sum((1, 2))
    centred = []
    for axis in (2, 1):
        margin = tables.sum(axis)
        ranks = np.cumsum(margin, 1) - margin / 2
        centred.append(ranks - n[:, None] / 2)
    rows, columns = centred
    covariance = np.einsum("tr,trc,tc->t", rows, tables, columns)
    spread = np.einsum("tr,tr->t", rows**2, tables.sum(2)) * np.einsum("tc,tc->t", columns**2, tables.sum(1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(spread > 0, covariance / np.sqrt(spread), np.nan)


def _kendall(tables: Floats) -> Floats:
    """Tau-b of tables of shape (tables, rows, columns)."""
    upto = tables.cumsum(1).cumsum(2)
    # Cascades with both a smaller row and a smaller column, and with a smaller row and a larger column.
    above = np.zeros_like(tables)
    above[:, 1:, 1:] = upto[:, :-1, :-1]
    earlier = np.zeros_like(tables)
    earlier[:, 1:, :] = tables.cumsum(1)[:, :-1, :]
    beyond = earlier.sum(2, keepdims=True) - earlier.cumsum(2)
    score = (tables * (above - beyond)).sum((1, 2))
    n = tables.sum((1, 2))
    pairs = n * (n - 1) / 2
    tied = [(m * (m - 1) / 2).sum(1) for m in (tables.sum(2), tables.sum(1))]
    spread = (pairs - tied[0]) * (pairs - tied[1])
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(spread > 0, score / np.sqrt(spread), np.nan)
