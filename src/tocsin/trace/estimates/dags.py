"""The k-tree behind a cascade in which every earlier group is joined to every later one.

arXiv 2505.18099, public code; the k-tree is that of Sadikov, Medina, Leskovec and Garcia-Molina (WSDM 2011):
a balanced b-ary tree in which a node is also joined to its ancestors at distance k or less.

This estimate is kept to compare with published figures. It should not be read as an estimate of a cascade:

* The complete DAG of n groups always has n (n - 1) / 2 edges and a mean out-degree of n / 2, so that the
  three moments, and b, h and k with them, are functions of n alone.
* With k <= 3 and p = 0.02 the model expects about p k n edges, at most 0.06 n. It is out of reach of what is
  observed for every n, and the residual says so: about 50 at n = 10, about 450 at n = 30.
* The published formula for the mean out-degree is no mean. For whole h and k it equals (1 - p) / p times the
  expected edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tocsin.core.errors import UsageError
from tocsin.trace.cascades import Cascades
from tocsin.trace.estimates.complete import Floats, checked_share, complete_size

SHARE = 0.02
START = (1.5, 4.0, 1.0)
B_BOUNDS = (1.1, 5.0)
B_HIGH_WITH_COUNTER = 10.0
H_BOUNDS = (1.0, 50.0)
K_BOUNDS = (1.0, 3.0)


@dataclass(frozen=True, slots=True)
class DagEstimates:
    """What the published optimiser returns, each of shape (cascades,)."""

    p: float
    b: Floats
    h: Floats
    k: Floats
    residual: Floats
    """Sum of the absolute errors of size, edges and out-degree. It is never near 0: see the module."""
    size: Floats
    """Groups of the complete cascade, from b and h."""


@dataclass(frozen=True, slots=True)
class DagMoments:
    """Of the DAG that joins every event to all strictly earlier ones; shape (cascades,)."""

    size: NDArray[np.int64]
    edges: NDArray[np.int64]
    out_degree: Floats
    """Mean over the events that have a later one; NaN where none has."""


def dag_moments(cascades: Cascades) -> DagMoments:
    """Size, edges and mean out-degree. Events at one time are not joined."""
    owner, n = cascades.owner, len(cascades)
    starts = cascades.offsets[:-1][owner]
    fresh = np.ones(len(owner), bool)
    fresh[1:] = (owner[1:] != owner[:-1]) | (cascades.times[1:] != cascades.times[:-1])
    place = np.arange(len(owner))
    # Place of the first event at the same time: all before it in the cascade are strictly earlier.
    tied = np.maximum.accumulate(np.where(fresh, place, 0)) if len(owner) else place
    edges = np.bincount(owner, weights=tied - starts, minlength=n)
    ends = tied[cascades.offsets[1:] - 1] if n else np.zeros(0, np.int64)
    with_later = ends - cascades.offsets[:-1]
    with np.errstate(invalid="ignore"):
        return DagMoments(cascades.sizes, edges.astype(np.int64), edges / with_later)


def expected_edges(b: ArrayLike, h: ArrayLike, k: ArrayLike, p: float = SHARE) -> Floats:
    """Edges of the k-tree both of whose ends are seen, for b > 1 and k <= h.

    Example:
        >>> bool(np.isclose(expected_edges(3, 7, 1, 0.05), 0.05**2 * (complete_size(3, 7) - 1)))
        True
    """
    b, h, k = (np.asarray(value, np.float64) for value in (b, h, k))
    return np.asarray(checked_share(p) ** 2 / (b - 1) * (b * (1 - b**k) / (b - 1) + k * b ** (h + 1)))


def expected_out_degree_as_published(b: float, h: float, k: float, p: float = SHARE) -> float:
    """The published sum, which is not the expectation of a mean out-degree (see the module)."""
    level = np.arange(int(h) + 1)
    below = np.minimum(h - level, k)
    each = b**level * checked_share(p) * (1 - p) * (b ** (below + 1) - b) / (b - 1)
    return float(each.sum())


def estimate_dags_as_published(
    moments: DagMoments, p: float = SHARE, *, forwarding: Sequence[int | None] | None = None
) -> DagEstimates:
    """L-BFGS-B on the sum of three absolute errors from (1.5, 4, 1), once per distinct cascade.

    Args:
        moments: From `dag_moments`.
        p: Share of groups that is seen, in (0, 1]. Published: 0.02.
        forwarding: Largest forwarding counter of each cascade, None where unknown: the published variant in
            which h is at least one more than the counter (127 and everything from 5 up counts as 5) and b
            goes up to 10.

    Raises:
        UsageError: If `p` is outside (0, 1], or there is not one counter for each cascade.
    """
    from scipy.optimize import minimize

    checked_share(p)
    n = len(moments.size)
    if forwarding is not None and len(forwarding) != n:
        message = f"expected one forwarding counter for each of {n} cascades, got {len(forwarding)}."
        raise UsageError(message)
    low_h = np.full(n, H_BOUNDS[0])
    if forwarding is not None:
        low_h = np.array([min(one or 0, 5) + 1.0 for one in forwarding])
    rows = np.stack([moments.size, moments.edges, moments.out_degree, low_h], 1).astype(np.float64)
    joined = moments.edges > 0
    distinct, back = np.unique(rows[joined], axis=0, return_inverse=True)
    b_high = B_BOUNDS[1] if forwarding is None else B_HIGH_WITH_COUNTER
    found = np.empty((len(distinct), 4))
    for row, (size, edges, out, low) in enumerate(distinct.tolist()):

        def error(x: Floats, size: float = size, edges: float = edges, out: float = out) -> float:
            b, h, k = x.tolist()
            misses = (
                p * float(complete_size(b, h)) - size,
                float(expected_edges(b, h, k, p)) - edges,
                expected_out_degree_as_published(b, h, k, p) - out,
            )
            return sum(map(abs, misses))

        start = (START[0], max(START[1], low), START[2])
        bounds = [(B_BOUNDS[0], b_high), (low, H_BOUNDS[1]), K_BOUNDS]
        best = minimize(error, start, method="L-BFGS-B", bounds=bounds)
        found[row] = (*best.x, best.fun)
    table = np.full((n, 4), np.nan)
    table[joined] = found[back.ravel()]
    b, h, k, residual = table.T
    return DagEstimates(p, b, h, k, residual, complete_size(b, h))
