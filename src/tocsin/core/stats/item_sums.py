"""Bootstrap over items from sums: every measure is a function of totals of per-item features.

A resample draws items with replacement, so its totals are counts times features: one matrix product gives
those of all measures of all pairs at once, and ratios of measures are resampled together. Responses of one
item share an order, so resampling them one by one would make intervals too narrow.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from tocsin.core.records import Record
from tocsin.core.stats.bootstrap import draw_groups, percentile_interval

Floats = NDArray[np.float64]
_MIN_ITEMS = 2


class Estimate(Record):
    """A number with its percentile bootstrap interval over items; null where the data do not give it."""

    value: float | None
    low: float | None = None
    high: float | None = None


class ItemSums:
    """Totals of features over items, as they are and resampled.

    Args:
        n_items: Items that are resampled.
        n_resamples: Resamples.
        seed: Equal seeds give equal intervals.
    """

    def __init__(self, n_items: int, n_resamples: int, seed: int) -> None:
        self._n = n_items
        self._resamples = n_resamples
        self._seed = seed
        self._blocks: list[Floats] = []
        self._shapes: list[tuple[int, ...]] = []
        self._totals: Floats | None = None

    def add(self, features: NDArray[np.generic]) -> int:
        """Register features of shape (items, ...), NaN as 0, before the first `total`. Returns a handle."""
        if self._totals is not None:
            message = "features can be added only before the first total is taken."
            raise ValueError(message)
        given = np.asarray(features, dtype=np.float64)
        self._shapes.append(given.shape[1:])
        self._blocks.append(np.nan_to_num(given.reshape(self._n, -1), nan=0.0))
        return len(self._shapes) - 1

    def total(self, handle: int) -> Floats:
        """Totals, shape (1 + resamples, ...): first those of the items as they are."""
        if self._totals is None:
            features = np.hstack(self._blocks)
            drawn = draw_groups(np.zeros(self._n, dtype=np.int64), self._resamples, self._seed, self._n)
            parts = [features.sum(0, keepdims=True)]
            if self._n >= _MIN_ITEMS:
                parts += [counts @ features for counts in drawn]
            self._totals = np.vstack(parts)
            self._blocks = []
        widths = [math.prod(shape) for shape in self._shapes]
        start = sum(widths[:handle])
        return self._totals[:, start : start + widths[handle]].reshape(
            len(self._totals), *self._shapes[handle]
        )

    def ratio(self, top: int, bottom: int) -> Floats:
        """Quotient of two totals; NaN where the second is 0."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(self.total(top) / self.total(bottom))


def estimate(values: Floats, confidence: float = 0.95) -> Estimate:
    """An estimate from its value (first) and its resampled values; undefined ones are passed over."""
    value = number(values[0])
    resampled = values[1:][~np.isnan(values[1:])]
    if value is None or len(resampled) < 100:
        return Estimate(value=value)
    low, high = percentile_interval(resampled, confidence)
    return Estimate(value=value, low=number(low), high=number(high))


def number(value: float) -> float | None:
    """A float for a record: None when it is not finite."""
    return float(value) if math.isfinite(value) else None
