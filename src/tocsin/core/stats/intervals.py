"""A rate with its interval."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from tocsin.core.errors import UsageError


@dataclass(frozen=True, slots=True)
class Rate:
    """An estimate, its interval, and how many items it stands on."""

    value: float
    """The estimate; NaN where there is none."""
    low: float
    high: float
    n: int
    """Items (not resamples)."""
    method: str = ""
    """How the interval was made."""
    note: str = ""
    """What a reader should know, such as that a bound was clipped."""

    @property
    def interval(self) -> tuple[float, float] | None:
        """`(low, high)`, or None where there is no interval."""
        return None if math.isnan(self.low) or math.isnan(self.high) else (self.low, self.high)


def normal_quantile(confidence: float) -> float:
    """Two-sided standard normal quantile: 1.959964 for 0.95.

    Raises:
        UsageError: If the confidence is not between 0 and 1.
    """
    if not 0 < confidence < 1:
        message = f"expected a confidence between 0 and 1, got {confidence}. Use 0.95, for instance."
        raise UsageError(message)
    return NormalDist().inv_cdf((1 + confidence) / 2)


def wilson(k: float, n: float, confidence: float = 0.95) -> Rate:
    """The rate k / n with Wilson's score interval (Wilson 1927).

    Args:
        k: Hits, from 0 to n. Need not be whole: an effective count is fine.
        n: Items. With none there is no rate: value NaN and the interval (0, 1).
        confidence: Coverage of the interval.

    Raises:
        UsageError: If k is outside 0..n.

    Example:
        >>> rate = wilson(8, 10)
        >>> round(rate.low, 4), round(rate.high, 4)
        (0.4902, 0.9433)
    """
    if not 0 <= k <= n:
        message = f"expected 0 <= k <= n, got k={k} and n={n}. Count hits among the same items."
        raise UsageError(message)
    z = normal_quantile(confidence)
    if n == 0:
        return Rate(math.nan, 0.0, 1.0, 0, "Wilson", "no items")
    p = k / n
    denominator = 1 + z * z / n
    centre = (p + z * z / (2 * n)) / denominator
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / denominator
    # The exact bounds at the ends are 0 and 1; rounding would leave them a hair inside or outside.
    low = 0.0 if k == 0 else max(0.0, centre - half)
    high = 1.0 if k == n else min(1.0, centre + half)
    return Rate(p, low, high, math.ceil(n), "Wilson")


def wilson_clustered(
    hits: Sequence[bool], groups: Sequence[Hashable] | None = None, confidence: float = 0.95
) -> Rate:
    """The share of hits with a Wilson interval that allows for items that share a source.

    Wilson's interval at the effective sample size n / deff (Dean and Pagano 2015), where the design effect
    deff is the between-group variance of the share over its binomial variance (Kish 1965), at least 1. Where
    all items agree it cannot be estimated; every group then counts as one item.

    Args:
        hits: One truth value for each item.
        groups: One value for each item; items with equal values share a source. None: all items are
            independent.
        confidence: Coverage of the interval.

    Returns:
        The rate over all items; `n` is the number of items, `method` tells the effective number.
    """
    flags = np.asarray(hits, dtype=np.float64)
    n, k = len(flags), float(flags.sum())
    if groups is None or n == 0:
        return wilson(k, n, confidence)
    codes = group_codes(groups, n)
    n_groups = int(codes.max()) + 1
    p = k / n
    if n_groups == n:
        return wilson(k, n, confidence)
    if p in (0.0, 1.0) or n_groups == 1:
        effective = float(n_groups)
    else:
        # Linearised ratio estimator: residual totals of the groups around the overall share.
        residuals = np.bincount(codes, weights=flags - p)
        variance = n_groups / (n_groups - 1) * float(residuals @ residuals) / n**2
        effective = n / max(1.0, variance / (p * (1 - p) / n))
    inner = wilson(p * effective, effective, confidence)
    return Rate(p, inner.low, inner.high, n, f"Wilson, {n_groups} groups, effective n {effective:.1f}")


def group_codes(groups: Sequence[Hashable] | None, n: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Groups as numbers from 0, in order of first appearance; every item its own group when None.

    Raises:
        UsageError: If there are not n of them.
    """
    if groups is None:
        return np.arange(n, dtype=np.int64)
    if len(groups) != n:
        message = f"expected one group for each of {n} items, got {len(groups)}. Give every item a group."
        raise UsageError(message)
    seen: dict[Hashable, int] = {}
    return np.array([seen.setdefault(group, len(seen)) for group in groups], dtype=np.int64)
