"""Bradley-Terry and Plackett-Luce strengths by minorise-maximise steps (Hunter 2004), many samples at once.

`choix` fits one sample at a time; intervals need thousands, so the same fixed point is iterated on a stack
of sufficient statistics (tests compare single fits with `choix`). Bradley-Terry counts a tie as half a win
for either. Plackett-Luce reads a ranking as draws from the most harmful on among those left; responses that
are not harmful are tied at the end and only ever left over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Denominators = Callable[[Floats], Floats]
_STEPS = 10_000
_TOLERANCE = 1e-9


class Stages(NamedTuple):
    """Plackett-Luce draws of rankings."""

    wins: Floats
    """Shape (items, subjects): 1 where the subject is drawn."""
    counts: Floats
    """Shape (items, sets): how often a set of candidates was drawn from."""
    members: NDArray[np.bool_]
    """Shape (sets, subjects)."""


def wins_of(vectors: Floats) -> Floats:
    """Wins of row over column for each item, ties as halves: shape (items, k) in, (items, k, k) out."""
    sign = np.sign(vectors[:, :, None] - vectors[:, None, :])
    wins = (sign + 1) / 2
    wins[:, np.arange(vectors.shape[1]), np.arange(vectors.shape[1])] = 0
    return np.asarray(wins)


def stages_of(vectors: Floats) -> Stages:
    """Plackett-Luce draws of rank vectors, shape (items, k)."""
    n, k = vectors.shape
    left = [vectors <= np.where(vectors == rank, rank, 0).max(1)[:, None] for rank in range(1, k + 1)]
    happened = [
        (vectors == rank).any(1) & (held.sum(1) > 1) for rank, held in zip(range(1, k + 1), left, strict=True)
    ]
    candidates = np.concatenate([held[took] for held, took in zip(left, happened, strict=True)])
    if not len(candidates):
        return Stages(np.zeros((n, k)), np.zeros((n, 0)), np.zeros((0, k), dtype=np.bool_))
    members, which = np.unique(candidates, axis=0, return_inverse=True)
    rows = np.concatenate([np.flatnonzero(took) for took in happened])
    counts = np.zeros((n, len(members)))
    np.add.at(counts, (rows, which.ravel()), 1)
    drawn = [
        ((vectors == rank) & took[:, None]) for rank, took in zip(range(1, k + 1), happened, strict=True)
    ]
    return Stages(np.sum(drawn, axis=0).astype(np.float64), counts, members)


def bradley_terry(wins: Floats) -> Floats:
    """Strengths from wins of row over column.

    Args:
        wins: Shape (..., k, k); a tie is half a win on either side.

    Returns:
        Log odds with mean 0, shape (..., k). NaN where the wins do not determine them: some models never
        lose to, or never meet, the others.

    Example:
        >>> import numpy as np
        >>> bradley_terry(np.array([[0.0, 3.0], [1.0, 0.0]])).round(4).tolist()
        [0.5493, -0.5493]
    """
    w = np.asarray(wins, dtype=np.float64)
    met = w + np.swapaxes(w, -1, -2)
    total = w.sum(-1)

    def denominators(strength: Floats) -> Floats:
        return np.asarray((met / (strength[..., :, None] + strength[..., None, :])).sum(-1))

    return _fixed_point(total, denominators, connected(w))


def plackett_luce(wins: Floats, counts: Floats, members: NDArray[np.bool_], beats: Floats) -> Floats:
    """Strengths from totals of `Stages`.

    Args:
        wins: Draws of each subject, shape (..., k).
        counts: Draws from each set, shape (..., sets).
        members: The sets, shape (sets, k).
        beats: Items on which row is drawn before column, shape (..., k, k): decides whether strengths exist.

    Returns:
        As for `bradley_terry`.
    """
    w, held = np.asarray(wins, dtype=np.float64), members.astype(np.float64)

    def denominators(strength: Floats) -> Floats:
        return np.asarray((counts / (strength @ held.T)) @ held)

    return _fixed_point(w, denominators, connected(beats))


def connected(wins: Floats) -> NDArray[np.bool_]:
    """Whether a chain of wins leads from every model to every other (Ford 1957), for each of (..., k, k)."""
    k = wins.shape[-1]
    reach = ((wins > 0) | np.eye(k, dtype=np.bool_)).astype(np.float64)
    for _ in range(max(1, (k - 1).bit_length())):
        reach = (reach @ reach > 0).astype(np.float64)
    return np.asarray((reach > 0).all((-2, -1)))


def _fixed_point(wins: Floats, denominators: Denominators, exists: NDArray[np.bool_]) -> Floats:
    strength = np.ones_like(wins)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        for _ in range(_STEPS):
            new = wins / denominators(strength)
            new = np.where(exists[..., None], new / np.exp(np.log(new).mean(-1, keepdims=True)), 1.0)
            change = np.abs(np.log(new) - np.log(strength)).max() if new.size else 0.0
            strength = new
            if change < _TOLERANCE:
                break
        return np.where(exists[..., None], np.log(strength), np.nan)
