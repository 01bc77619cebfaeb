"""Shape of reconstructed cascades: size, depth, breadth and structural virality, and their CCDFs.

Measures of arXiv 2505.18099 (its public code) and, for structural virality, of Goel,
Anderson, Hofman and Watts (Management Science 2016). All cascades are measured at once: levels by doubling
pointers, subtree sizes level by level from the leaves up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tocsin.core.errors import UsageError
from tocsin.trace.cascades import ROOT, Cascades, Parents

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Shapes:
    """Measures of every cascade, each of shape (cascades,), in the order of the cascades.

    Where first events are tied a cascade is a forest. Its depth is that of the deepest tree, its breadth
    counts a level over all trees (the public code counts the first tree alone), and its virality is the mean
    over pairs of events of one tree, since events of two trees have no distance.
    """

    size: Ints
    """Events."""
    roots: Ints
    depth: Ints
    """Edges from a root to the event furthest from it; 0 without edges."""
    breadth: Ints
    """Events of the fullest level."""
    virality: Floats
    """Mean distance between two events of one tree; NaN without edges."""
    out_degree: Floats
    """Mean number of children over the events that have any; NaN without edges."""


@dataclass(frozen=True, slots=True)
class Ccdf:
    """P(X >= x) at every distinct value, ascending."""

    values: Floats
    shares: Floats
    """From 1 down to 1 / n."""
    n: int


def levels(parents: Parents) -> Ints:
    """Edges between every event and its root, shape (events,).

    Args:
        parents: Shape (events,). A parent has a lower place than its child.

    Raises:
        UsageError: If a parent does not have a lower place than its child.
    """
    _check_order(parents)
    steps: Ints = (parents != ROOT).astype(np.int64)
    above = parents.copy()
    # Each round doubles the distance that is looked up, so that a path of n events takes log n rounds.
    while True:
        waiting = np.flatnonzero(above != ROOT)
        if not len(waiting):
            return steps
        over = above[waiting]
        steps[waiting] += steps[over]
        above[waiting] = above[over]


def subtree_sizes(parents: Parents, level: Ints) -> Ints:
    """Events at and below every event, shape (events,).

    Args:
        parents: As for `levels`.
        level: What `levels` gave.
    """
    sizes = np.ones(len(parents), np.int64)
    order = np.argsort(level, kind="stable")
    ends = np.cumsum(np.bincount(level, minlength=1))
    for deep in range(len(ends) - 1, 0, -1):
        here = order[ends[deep - 1] : ends[deep]]
        np.add.at(sizes, parents[here], sizes[here])
    return sizes


def shapes(cascades: Cascades, parents: Parents) -> Shapes:
    """Measure every cascade.

    Linear in the number of events, but for a logarithm of the depth.

    Args:
        cascades: Cascades of one event or more.
        parents: Shape (events,).

    Raises:
        UsageError: If `parents` does not belong to the cascades: another length, a parent that does not have
            a lower place than its child, or one in another cascade.

    Example:
        >>> from tocsin.trace.cascades import Cascades
        >>> star = Cascades.of(np.array([1, 1, 1]), np.array(["a", "b", "c"]), np.array([0.0, 1.0, 2.0]))
        >>> found = shapes(star, np.array([-1, 0, 0]))
        >>> found.depth.item(), found.breadth.item(), round(found.virality.item(), 3)
        (1, 2, 1.333)
    """
    n, owner = len(cascades), cascades.owner
    if parents.shape != owner.shape:
        message = f"expected one parent for each of {len(owner)} events, got shape {parents.shape}."
        raise UsageError(message)
    level = levels(parents)
    child = np.flatnonzero(parents != ROOT)
    above = parents[child]
    astray = int(np.count_nonzero(owner[above] != owner[child]))
    if astray:
        message = f"expected parents in the cascade of their child, got {astray} in another one."
        raise UsageError(message)
    if n == 0:
        none, blank = np.zeros(0, np.int64), np.zeros(0)
        return Shapes(none, none, none, none, blank, blank)

    depth = np.maximum.reduceat(level, cascades.offsets[:-1])
    first = np.concatenate(([0], np.cumsum(depth + 1)))
    counts = np.bincount(first[owner] + level, minlength=int(first[-1]))
    breadth = np.maximum.reduceat(counts, first[:-1])

    # An edge with s events below it in a tree of m lies between s (m - s) of its pairs.
    below = subtree_sizes(parents, level)
    tree = below[_roots(parents, level)].astype(np.float64)
    between = below[child] * (tree[child] - below[child])
    distances = 2 * np.bincount(owner[child], weights=between, minlength=n)
    pairs = np.bincount(owner, weights=tree - 1, minlength=n)
    edges = np.bincount(owner[child], minlength=n)
    inner = np.bincount(owner[np.unique(above)], minlength=n)
    with np.errstate(invalid="ignore"):
        virality, out_degree = distances / pairs, edges / inner
    return Shapes(cascades.sizes, cascades.sizes - edges, depth, breadth, virality, out_degree)


def ccdf(values: ArrayLike) -> Ccdf:
    """Share of values at or above each distinct value (arXiv 2505.18099, public code).

    Raises:
        UsageError: If a value is not finite.

    Example:
        >>> found = ccdf([1, 1, 2, 4])
        >>> found.values.tolist(), found.shares.tolist()
        ([1.0, 2.0, 4.0], [1.0, 0.5, 0.25])
    """
    sample = np.asarray(values, dtype=np.float64).ravel()
    if not np.isfinite(sample).all():
        message = f"expected finite values, got {int((~np.isfinite(sample)).sum())} others. Leave them out."
        raise UsageError(message)
    distinct, counts = np.unique(sample, return_counts=True)
    above = np.cumsum(counts[::-1])[::-1]
    return Ccdf(distinct, above / max(len(sample), 1), len(sample))


def _roots(parents: Parents, level: Ints) -> Ints:
    """Place of the root of every event."""
    root = np.where(parents == ROOT, np.arange(len(parents)), parents)
    for _ in range(int(level.max(initial=0)).bit_length()):
        root = root[root]
    return root


def _check_order(parents: Parents) -> None:
    wrong = np.flatnonzero((parents < ROOT) | (parents >= np.arange(len(parents))))
    if len(wrong):
        message = (
            f"expected parents at lower places than their children, got {len(wrong)} others, the first at "
            f"event {wrong[0]}. Sort events by time."
        )
        raise UsageError(message)
