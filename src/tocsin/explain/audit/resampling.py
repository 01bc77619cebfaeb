"""Rates and their intervals: Wilson for a rate alone, paired resampling for whatever is made of several."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from tocsin.core.stats.bootstrap import draw_groups
from tocsin.core.stats.intervals import wilson
from tocsin.core.stats.item_sums import Estimate, number

Floats = NDArray[np.float64]
N_RESAMPLES = 1_000


def flags(values: Iterable[bool | None]) -> Floats:
    """1, 0 and NaN for yes, no and unknown."""
    return np.array([np.nan if value is None else float(value) for value in values], dtype=np.float64)


def rate(values: Floats) -> Estimate:
    """Share of ones among those known, with Wilson's interval."""
    known = values[~np.isnan(values)]
    found = wilson(float(known.sum()), len(known))
    return Estimate(value=number(found.value), low=found.low, high=found.high)


class Resamples:
    """Draws of prompts with replacement; the same draw serves every measure and both models.

    Args:
        n: Prompts.
        seed: Equal seeds give equal draws.
    """

    def __init__(self, n: int, seed: int) -> None:
        drawn = draw_groups(np.zeros(n, dtype=np.int64), N_RESAMPLES, seed, n)
        self._counts = np.vstack([np.ones((1, n)), *drawn])

    def mean(self, values: Floats) -> Floats:
        """Mean of the known values, then of each resample's; shape (1 + N_RESAMPLES,)."""
        known = ~np.isnan(values)
        with np.errstate(invalid="ignore", divide="ignore"):
            found: Floats = (self._counts @ np.where(known, values, 0.0)) / (self._counts @ known)
        return found
