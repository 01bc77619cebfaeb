"""What both estimates share: the share p, the size of a balanced tree, the influenced population.

arXiv 2505.18099, public code. A balanced b-ary tree of height h has (b^(h+1) - 1) / (b - 1) nodes, each of
which is seen with probability p.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tocsin.core.errors import UsageError

Floats = NDArray[np.float64]
_HALVINGS = 60


def checked_share(p: float) -> float:
    """The share of groups that is seen.

    Raises:
        UsageError: If it is outside (0, 1].
    """
    if not 0 < p <= 1:
        message = f"expected a share of seen groups in (0, 1], got {p}. Use 0.05 or 0.02 as published."
        raise UsageError(message)
    return p


def complete_size(b: ArrayLike, h: ArrayLike) -> Floats:
    """Nodes of a balanced tree of branching `b` and height `h`, neither of which need be whole.

    Example:
        >>> complete_size(3, 7).item()
        3280.0
    """
    branching, height = np.asarray(b, np.float64), np.asarray(h, np.float64)
    steps = branching - 1
    is_path = np.abs(steps) < 1e-9
    return np.where(
        is_path, height + 1, (branching ** (height + 1) - 1) / np.where(is_path, 1, steps)
    ).astype(np.float64)


def height_of(size: ArrayLike, b: ArrayLike) -> Floats:
    """Height at which a tree of branching `b` > 1 has `size` nodes."""
    branching = np.asarray(b, np.float64)
    return np.asarray(np.log1p(np.asarray(size) * (branching - 1)) / np.log(branching) - 1)


def influenced_population(sizes: ArrayLike, group_sizes: ArrayLike) -> Floats:
    """People in the groups of each complete cascade: its size times the median number of members.

    The public code calls this factor a mean and computes a median; elsewhere it is the constant 81.25.

    Args:
        sizes: Shape (cascades,). Groups of each complete cascade.
        group_sizes: Members of the known groups.

    Raises:
        UsageError: If no group size is known, or one is below 1.
    """
    members = np.asarray(group_sizes, np.float64)
    if not len(members) or not (members >= 1).all():
        message = "expected sizes of groups of 1 or more. Leave out groups of unknown size."
        raise UsageError(message)
    return np.asarray(sizes, np.float64) * float(np.median(members))


def bisected(function: Callable[[Floats], Floats], low: float, high: float, target: Floats) -> Floats:
    """Where an increasing function takes each target, clipped to the ends."""
    left, right = np.full(target.shape, low), np.full(target.shape, high)
    for _ in range(_HALVINGS):
        middle = (left + right) / 2
        under = function(middle) < target
        left, right = np.where(under, middle, left), np.where(under, right, middle)
    # At the ends the answer is the end itself, not a hair beside it.
    above = function(np.full(target.shape, high)) <= target
    below = function(np.full(target.shape, low)) >= target
    return np.where(above, high, np.where(below, low, (left + right) / 2))
