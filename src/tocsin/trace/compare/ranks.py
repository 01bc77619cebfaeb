"""The published rank test (arXiv 2505.18099, public code), and Cliff's delta beside it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from tocsin.core.errors import UsageError
from tocsin.core.stats.intervals import Rate
from tocsin.core.stats.ranking import auroc_interval


@dataclass(frozen=True, slots=True)
class RankTest:
    """Wilcoxon's rank-sum test of "the first sample is greater"."""

    u: float
    """Pairs in which the first is greater, ties counted as half."""
    p: float


def rank_sum(first: ArrayLike, second: ArrayLike) -> RankTest | None:
    """The test with the published settings.

    One-sided (the first is greater), normal approximation with corrections for continuity and ties.

    Returns:
        None where there is nothing to test: a sample is empty, or all values are equal.

    Example:
        >>> found = rank_sum([3, 4, 5, 6], [1, 2, 2, 3])
        >>> found.u, round(found.p, 7)
        (15.5, 0.0204166)
    """
    from scipy.stats import mannwhitneyu

    x, y = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if not len(x) or not len(y) or np.ptp(np.concatenate([x, y])) == 0:
        return None
    found = mannwhitneyu(x, y, alternative="greater", method="asymptotic", use_continuity=True)
    return RankTest(float(found.statistic), float(found.pvalue))


def rank_sum_weighted_by_size(
    first: ArrayLike, first_sizes: ArrayLike, second: ArrayLike, second_sizes: ArrayLike
) -> RankTest | None:
    """`rank_sum` as the public code feeds it: every cascade once for each of its groups.

    The rows of a cascade are copies of each other, so p is far too small. Serves to compare with published
    figures only.

    Raises:
        UsageError: If there is not one size for each value.
    """
    samples = []
    for values, sizes in ((first, first_sizes), (second, second_sizes)):
        if np.shape(values) != np.shape(sizes):
            message = f"expected one size for each of {np.size(values)} values, got {np.size(sizes)}."
            raise UsageError(message)
        samples.append(np.repeat(np.asarray(values, np.float64), np.asarray(sizes, np.int64)))
    return rank_sum(*samples)


def cliffs_delta(
    first: ArrayLike, second: ArrayLike, *, n_resamples: int = 1_000, confidence: float = 0.95, seed: int = 0
) -> Rate:
    """Share of pairs in which the first is greater less the share in which it is smaller, -1 to 1.

    The interval is that of AUROC, of which delta is twice the distance from one half.

    Returns:
        `n` counts both samples. Value and bounds are NaN without values on both sides, bounds also where a
        side has a single one.
    """
    x, y = np.asarray(first, np.float64), np.asarray(second, np.float64)
    scores, sides = np.concatenate([x, y]), np.arange(len(x) + len(y)) < len(x)
    area = auroc_interval(scores, sides, n_resamples=n_resamples, confidence=confidence, seed=seed)
    return Rate(2 * area.value - 1, 2 * area.low - 1, 2 * area.high - 1, area.n, area.method, area.note)
