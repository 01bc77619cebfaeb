"""Whether scores can be read as probabilities."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tocsin.core.errors import UsageError
from tocsin.core.stats.intervals import Rate, wilson

N_BINS = 10


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """Items whose probability falls between two bounds (the lower one included, and 1 in the last bin)."""

    low: float
    high: float
    n: int
    mean_probability: float
    rate: Rate
    """Share of positives among them."""


def brier(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """Mean squared difference of probability and outcome (Brier 1950): 0 is perfect, 0.25 is a constant 0.5.

    Args:
        probabilities: Shape (n,), from 0 to 1.
        labels: Shape (n,), true for positives.

    Raises:
        UsageError: If there are no items, lengths differ, or a value is outside 0 to 1.

    Example:
        >>> brier([0.8, 0.4], [True, False])
        0.1
    """
    values, flags = _checked(probabilities, labels)
    return float(np.mean((values - flags) ** 2))


def expected_calibration_error(probabilities: ArrayLike, labels: ArrayLike, bins: int = N_BINS) -> float:
    """Mean distance of probability and share of positives over bins of equal width, weighted by their items.

    Naeini et al. (2015). Depends on the number of bins and is above 0 by chance in small samples. Arguments
    as for `brier`.
    """
    values, flags = _checked(probabilities, labels)
    gaps = [
        abs(float(values[inside].mean()) - float(flags[inside].mean())) * int(inside.sum())
        for _, _, inside in _bins(values, bins)
    ]
    return float(sum(gaps) / len(values))


def reliability_bins(probabilities: ArrayLike, labels: ArrayLike, bins: int = N_BINS) -> list[CalibrationBin]:
    """The bins of a reliability diagram that hold items. Arguments as for `brier`."""
    values, flags = _checked(probabilities, labels)
    return [
        CalibrationBin(
            low, high, count, float(values[inside].mean()), wilson(float(flags[inside].sum()), count)
        )
        for low, high, inside in _bins(values, bins)
        for count in [int(inside.sum())]
    ]


def _bins(values: NDArray[np.float64], bins: int) -> Iterator[tuple[float, float, NDArray[np.bool_]]]:
    if bins < 1:
        message = f"expected at least 1 bin, got {bins}."
        raise UsageError(message)
    place = np.minimum((values * bins).astype(np.int64), bins - 1)
    for index in range(bins):
        inside = place == index
        if inside.any():
            yield index / bins, (index + 1) / bins, inside


def _checked(probabilities: ArrayLike, labels: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    values = np.asarray(probabilities, dtype=np.float64)
    flags = np.asarray(labels, dtype=np.bool_)
    if values.ndim != 1 or values.shape != flags.shape or len(values) == 0:
        message = (
            f"expected probabilities and labels of one length, got shapes {values.shape} and {flags.shape}."
        )
        raise UsageError(message)
    if not bool(np.all((values >= 0) & (values <= 1))):
        message = "expected probabilities from 0 to 1, got values outside. Calibrate the scores first."
        raise UsageError(message)
    return values, flags.astype(np.float64)
