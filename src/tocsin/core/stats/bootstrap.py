"""Resampling: stratified, and by whole groups where items share a source.

Groups are drawn with replacement inside strata of like composition (only positive, only negative, both), so
that every resample keeps both classes. Without groups every item is a group of its own, which is the ordinary
stratified bootstrap.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tocsin.core.errors import UsageError
from tocsin.core.stats.intervals import Rate, group_codes, normal_quantile

N_RESAMPLES = 2_000
_CELLS = 1_000_000
"""Numbers in one array of a block of resamples: 8 MB, of which a block holds about ten."""

Counts = NDArray[np.float64]
Codes = NDArray[np.int64]


def composition(codes: Codes, strata: NDArray[np.int64] | None) -> Codes:
    """Stratum of each group: a number that is equal for groups whose items have the same set of strata.

    Args:
        codes: Group of each item, from 0.
        strata: Stratum of each item, as numbers from 0 to 62; None puts all groups in one stratum.
    """
    held = np.zeros(int(codes.max()) + 1, dtype=np.int64)
    if strata is not None:
        np.bitwise_or.at(held, codes, np.int64(1) << strata)
    return np.unique(held, return_inverse=True)[1].astype(np.int64)


def draw_groups(stratum: Codes, n_resamples: int, seed: int, cells: int) -> Iterator[Counts]:
    """Blocks of resamples: how often each group was drawn, shape (resamples in the block, groups).

    Args:
        stratum: Stratum of each group.
        n_resamples: Rows over all blocks.
        seed: Of the random generator.
        cells: Numbers the caller holds for each resample; decides the size of a block.
    """
    generator = np.random.default_rng(seed)
    members = [np.flatnonzero(stratum == value) for value in range(int(stratum.max()) + 1)]
    size = max(1, _CELLS // max(1, cells))
    for start in range(0, n_resamples, size):
        rows = min(size, n_resamples - start)
        counts = np.zeros((rows, len(stratum)))
        offsets = np.arange(rows)[:, None]
        for member in members:
            drawn = generator.integers(0, len(member), size=(rows, len(member))) + offsets * len(member)
            counts[:, member] = np.bincount(drawn.ravel(), minlength=rows * len(member)).reshape(rows, -1)
        yield counts


def percentile_interval(values: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    """Percentile interval of resampled values; NaN bounds when one of them is NaN."""
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def logit_interval(value: float, values: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    """Normal interval on the logit scale from the spread of resampled values; 0 < `value` < 1."""
    centre = math.log(value / (1 - value))
    half = normal_quantile(confidence) * float(values.std(ddof=1)) / (value * (1 - value))
    return 1 / (1 + math.exp(half - centre)), 1 / (1 + math.exp(-half - centre))


def bootstrap_interval(
    metric: Callable[..., float],
    *arrays: NDArray[np.generic],
    groups: Sequence[Hashable] | None = None,
    strata: Sequence[int] | NDArray[np.integer] | None = None,
    n_resamples: int = N_RESAMPLES,
    confidence: float = 0.95,
    seed: int = 0,
) -> Rate:
    """Percentile bootstrap interval of any metric of aligned arrays.

    The metric is called once for each resample; `ranking_intervals` is much faster for ranking metrics.

    Args:
        metric: Takes the arrays, with their rows resampled, and returns a number.
        arrays: Aligned on the first axis.
        groups: One value for each row; whole groups are drawn. None: rows are drawn.
        strata: One small number (0 to 62) for each row, such as its label; the make-up of a resample is kept.
        n_resamples: Number of resamples.
        confidence: Coverage of the interval.
        seed: Equal seeds give equal intervals.

    Returns:
        The metric of the rows as they are, with its interval.

    Raises:
        UsageError: If there are no rows, or the arrays differ in length.
    """
    n = len(arrays[0]) if arrays else 0
    if n == 0 or any(len(array) != n for array in arrays):
        lengths = ", ".join(str(len(array)) for array in arrays) or "none"
        message = (
            f"expected arrays of one length above 0, got lengths {lengths}. Align them on the first axis."
        )
        raise UsageError(message)
    value = float(metric(*arrays))
    codes = group_codes(groups, n)
    stratum = composition(codes, None if strata is None else np.asarray(strata, dtype=np.int64))
    if len(stratum) < 2:
        return Rate(value, math.nan, math.nan, n, "none", "all rows share one group")
    rows = np.arange(n)
    resampled = [
        float(metric(*(array[chosen] for array in arrays)))
        for block in draw_groups(stratum, n_resamples, seed, len(stratum))
        for counts in block
        for chosen in [np.repeat(rows, counts[codes].astype(np.int64))]
    ]
    low, high = percentile_interval(np.asarray(resampled), confidence)
    return Rate(value, low, high, n, describe(groups, len(stratum), n_resamples))


def describe(
    groups: Sequence[Hashable] | None, n_groups: int, n_resamples: int, scale: str = "percentile"
) -> str:
    """The method in words."""
    unit = "stratified" if groups is None else f"{n_groups} groups"
    return f"{scale} bootstrap, {unit}, {n_resamples} resamples"
