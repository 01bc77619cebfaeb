"""Clusters, scores and directions on plain arrays (card 03, arXiv 2507.11878, section 3)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tocsin.core.errors import FitError
from tocsin.core.stats.bootstrap import bootstrap_interval
from tocsin.core.stats.intervals import Rate, wilson
from tocsin.core.stats.item_sums import Estimate

Floats = NDArray[np.float64]


def centre(states: NDArray[np.floating], what: str) -> Floats:
    """Mean of a cluster over its prompts, in float64.

    Args:
        states: Shape (n, rows, width).
        what: Names the cluster in an error.

    Raises:
        FitError: If the cluster is empty or holds numbers that are not finite.
    """
    if len(states) == 0:
        message = f"expected at least one {what} prompt, got none. Give prompts of this kind."
        raise FitError(message)
    if not np.isfinite(states).all():
        message = f"some activations of {what} prompts are not finite numbers; the model is damaged."
        raise FitError(message)
    return np.asarray(states.mean(axis=0, dtype=np.float64))


def scores(states: NDArray[np.floating], positive: Floats, negative: Floats) -> Floats:
    """S = cos(h, positive) - cos(h, negative) for each prompt and row.

    Args:
        states: Shape (n, rows, width).
        positive: Centre of one cluster, shape (rows, width).
        negative: Centre of the other.

    Returns:
        Shape (n, rows), from -2 to 2. A zero vector has no direction and counts as cosine 0.

    Raises:
        FitError: If the centres have another shape, as those of another model do.
    """
    if positive.shape != states.shape[1:] or negative.shape != states.shape[1:]:
        message = f"expected centres of shape {states.shape[1:]}, got {positive.shape} and {negative.shape}."
        raise FitError(message)
    return _cosines(states, positive) - _cosines(states, negative)


def cosine(a: Floats, b: Floats) -> float | None:
    """Of two vectors; None where one is zero."""
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / lengths if lengths > 1e-9 else None


def mean_estimate(values: Floats, *, seed: int, n_resamples: int = 2_000) -> Estimate:
    """The mean with its bootstrap interval over prompts; null for none."""
    if len(values) == 0:
        return Estimate(value=None)
    if len(values) < 2:
        return Estimate(value=float(values[0]))
    return as_estimate(bootstrap_interval(np.mean, values, n_resamples=n_resamples, seed=seed))


def share_estimate(flags: NDArray[np.bool_]) -> Estimate:
    """A share with Wilson's interval; null for none."""
    return as_estimate(wilson(int(flags.sum()), len(flags))) if len(flags) else Estimate(value=None)


def as_estimate(rate: Rate) -> Estimate:
    """A rate as a record, NaN as null."""

    def known(value: float) -> float | None:
        return float(value) if np.isfinite(value) else None

    return Estimate(value=known(rate.value), low=known(rate.low), high=known(rate.high))


def _cosines(states: NDArray[np.floating], one: Floats) -> Floats:
    wide = states.astype(np.float64)
    lengths = np.linalg.norm(wide, axis=-1) * np.linalg.norm(one, axis=-1)
    dots = np.einsum("nrd,rd->nr", wide, one)
    cosines: Floats = np.divide(dots, lengths, out=np.zeros_like(dots), where=lengths > 0)
    return cosines
