"""Branching b and height h of the complete tree behind a reconstructed one (arXiv 2505.18099, public code).

Two moments of the reconstructed tree are matched: its size N and the mean out-degree o of the nodes that have
children. Under sampling at rate p

    E[N] = p (b^(h+1) - 1) / (b - 1),        E[o] = p b / (1 - (1 - p)^b).

What a reader should know of this model:

* It counts a child only where the direct parent is seen too, which joins p^2 (S - 1) pairs of a tree of S
  nodes. A reconstruction joins nearly all events it sees. So o of a reconstruction means something else than
  E[o], and (b, h) describe a cascade only as far as one believes that they do.
* Within the published bounds E[o] spans 1.0025 to 1.2461 at p = 0.05. Whatever lies outside is out of reach.
* The complete size is N / p, whatever b and h are.
* The published optimiser starts at h = 4 and stops near it, since the error is nearly flat. The closed form
  below has the least error there is within the bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tocsin.core.errors import UsageError
from tocsin.core.stats.intervals import normal_quantile
from tocsin.trace.estimates.complete import Floats, bisected, checked_share, complete_size, height_of
from tocsin.trace.measures import Shapes

Flags = NDArray[np.bool_]

B_BOUNDS = (1.1, 10.0)
H_BOUNDS = (1.0, 50.0)
SHARE = 0.05
START = (1.5, 4.0)
STARTS = ((1.5, 4.0), (1.5, 5.0), (1.5, 10.0))
"""Two published starts and one further away, which between them show how little the data decide."""
SHARES = (0.01, 0.02, 0.05, 0.1, 0.2)
WIDEST = 1.5
"""Height counts as identified when its interval ends at no more than this times its beginning."""
_GRID = 200
_ROWS = 4_096


@dataclass(frozen=True, slots=True)
class Fitted:
    """Parameters of trees, and the error that was made small: |E[N] - N| + |E[o] - o|."""

    b: Floats
    h: Floats
    error: Floats


@dataclass(frozen=True, slots=True)
class TreeEstimates:
    """Estimates of shape (cascades,) at one share p; NaN for a cascade without edges.

    An interval holds every (b, h) within the bounds under which the observed N and o are each within the
    normal quantile of `confidence` of their expectations. It speaks of sampling alone: neither the choice
    of p nor the reconstruction is in it.
    """

    p: float
    confidence: float
    b: Floats
    h: Floats
    error: Floats
    b_low: Floats
    """NaN where out of reach, like the other bounds of b and h."""
    b_high: Floats
    h_low: Floats
    h_high: Floats
    size: Floats
    """Groups of the complete cascade."""
    size_low: Floats
    size_high: Floats
    reachable: Flags
    """Some (b, h) within the bounds expects what was observed."""
    identified: Flags
    """Reachable, and the interval of h ends at `WIDEST` times its beginning or before."""


def expected(b: ArrayLike, h: ArrayLike, p: float) -> tuple[Floats, Floats]:
    """Expected N and o.

    Raises:
        UsageError: If `p` is outside (0, 1].

    Example:
        >>> [round(x.item(), 4) for x in expected(3, 7, 0.05)]
        [164.0, 1.0517]
    """
    return checked_share(p) * complete_size(b, h), _expected_out(np.asarray(b, np.float64), p)


def solve(n: ArrayLike, o: ArrayLike, p: float = SHARE) -> Fitted:
    """The (b, h) within the bounds that have the least error, in closed form.

    b solves E[o] = o, then h solves E[N] = N. Where that h would exceed its bound, h stays there and b solves
    E[N] = N, because an error in N weighs far more.

    Args:
        n: Observed sizes.
        o: Observed mean out-degrees, of the same shape.
        p: Share of nodes that is seen.

    Raises:
        UsageError: If `p` is outside (0, 1].

    Example:
        >>> found = solve([5.0], [1.1], 0.05)
        >>> round(found.b.item(), 3), round(found.h.item(), 3)
        (4.811, 2.785)
    """
    size, out = np.asarray(n, np.float64), np.asarray(o, np.float64)
    whole = size / checked_share(p)
    b = bisected(lambda x: _expected_out(x, p), *B_BOUNDS, out)
    h = height_of(whole, b)
    high = h > H_BOUNDS[1]
    b = np.where(high, bisected(lambda x: complete_size(x, H_BOUNDS[1]), *B_BOUNDS, whole), b)
    h = np.where(high, H_BOUNDS[1], np.maximum(h, H_BOUNDS[0]))
    return Fitted(b, h, _error(b, h, size, out, p))


def solve_as_published(
    n: ArrayLike, o: ArrayLike, p: float = SHARE, start: tuple[float, float] = START
) -> Fitted:
    """What the published optimiser returns: L-BFGS-B from one start, which decides most of the answer.

    Kept for comparison with published figures; `solve` has the smaller error. Each distinct pair is solved
    once, as published.

    Args:
        n: Observed sizes, shape (cascades,).
        o: Observed mean out-degrees, shape (cascades,).
        p: Share of nodes that is seen.
        start: (b, h) to begin at; published are (1.5, 4) and, in an earlier pass, (1.5, 5).

    Raises:
        UsageError: If `p` is outside (0, 1].
    """
    from scipy.optimize import minimize

    checked_share(p)
    pairs, back = np.unique(np.stack([np.asarray(n, float), np.asarray(o, float)], 1), axis=0,
                            return_inverse=True)  # fmt: skip
    found = np.empty((len(pairs), 3))
    for row, (size, out) in enumerate(pairs.tolist()):

        def error(x: Floats, size: float = size, out: float = out) -> float:
            return float(_error(x[0], x[1], size, out, p))

        best = minimize(error, start, method="L-BFGS-B", bounds=[B_BOUNDS, H_BOUNDS])
        found[row] = (*best.x, best.fun)
    b, h, least = found[back.ravel()].T
    return Fitted(b, h, least)


def height_over_starts(
    n: ArrayLike, o: ArrayLike, p: float = SHARE, starts: Sequence[tuple[float, float]] = STARTS
) -> tuple[Floats, Floats]:
    """Lowest and highest h that the published optimiser returns over several starts."""
    heights = np.stack([solve_as_published(n, o, p, start).h for start in starts])
    return heights.min(0), heights.max(0)


def estimate_trees(shapes: Shapes, p: float = SHARE, *, confidence: float = 0.95) -> TreeEstimates:
    """The complete tree behind each reconstructed one, with intervals.

    Args:
        shapes: Of the reconstructed cascades.
        p: Share of groups that is seen, in (0, 1]. Published: 0.05. It is not in the data: see `sweep_trees`.
        confidence: Coverage of the intervals.

    Raises:
        UsageError: If `p` or the confidence is out of range.
    """
    checked_share(p)
    z = normal_quantile(confidence)
    triples = np.stack([shapes.size, shapes.size - shapes.roots, shapes.out_degree], 1).astype(np.float64)
    triples = triples[triples[:, 1] > 0]
    distinct, back = np.unique(triples, axis=0, return_inverse=True)
    blocks = [
        _estimate(distinct[start : start + _ROWS], p, z) for start in range(0, len(distinct), _ROWS)
    ]  # fmt: skip
    table = np.full((len(shapes.size), 10), np.nan)
    if blocks:
        table[shapes.size > shapes.roots] = np.concatenate(blocks)[back.ravel()]
    b, h, error, b_low, b_high, h_low, h_high, size, size_low, size_high = table.T
    reachable = np.isfinite(h_low)
    return TreeEstimates(
        p, confidence, b, h, error, b_low, b_high, h_low, h_high, size, size_low, size_high,
        reachable, reachable & (h_high <= WIDEST * h_low),
    )  # fmt: skip


def sweep_trees(
    shapes: Shapes, shares: Sequence[float] = SHARES, *, confidence: float = 0.95
) -> list[TreeEstimates]:
    """`estimate_trees` at several shares p, since no share is known and the published code uses two."""
    if not shares:
        message = "expected one share p or more to sweep over, got none."
        raise UsageError(message)
    return [estimate_trees(shapes, p, confidence=confidence) for p in shares]


def _estimate(triples: Floats, p: float, z: float) -> Floats:
    """The ten columns of `TreeEstimates` for rows of size, edges and out-degree."""
    n, edges, o = triples.T
    found = solve(n, o, p)
    # Score interval of S from N ~ Binomial(S, p). What was seen is a lower bound.
    spread = z * np.sqrt(z**2 * (1 - p) ** 2 + 4 * n * (1 - p))
    size_low = np.maximum((2 * n + z**2 * (1 - p) - spread) / (2 * p), n)
    size_high = (2 * n + z**2 * (1 - p) + spread) / (2 * p)

    grid = np.broadcast_to(np.geomspace(*B_BOUNDS, _GRID), (len(n), _GRID))
    # Where the error of o is small the grid could miss the interval, which the best b cannot.
    b = np.concatenate([found.b[:, None], grid], 1)
    parents = edges / o
    error = np.abs(_expected_out(b, p) - o[:, None])
    possible = error <= z * _deviation_out(b, p) / np.sqrt(parents)[:, None] + 1e-9
    top = height_of(size_high[:, None], b)
    bottom = height_of(size_low[:, None], b)
    possible &= (top >= H_BOUNDS[0]) & (bottom <= H_BOUNDS[1])
    some = possible.any(1)

    def lowest(values: Floats) -> Floats:
        return np.where(some, np.where(possible, values, np.inf).min(1), np.nan)

    def highest(values: Floats) -> Floats:
        return np.where(some, np.where(possible, values, -np.inf).max(1), np.nan)

    h_low, h_high = lowest(np.maximum(bottom, H_BOUNDS[0])), highest(np.minimum(top, H_BOUNDS[1]))
    return np.stack(
        [found.b, found.h, found.error, lowest(b), highest(b), h_low, h_high, n / p, size_low, size_high], 1
    )


def _expected_out(b: Floats, p: float) -> Floats:
    """Mean number of seen children of those that have one: a binomial without its zero."""
    return np.asarray(p * b / -np.expm1(b * np.log1p(-p)) if p < 1 else b * 1.0)


def _deviation_out(b: Floats, p: float) -> Floats:
    """Standard deviation of the same."""
    some = -np.expm1(b * np.log1p(-p)) if p < 1 else 1.0
    mean = p * b / some
    return np.asarray(np.sqrt(np.maximum((b * p * (1 - p) + (b * p) ** 2) / some - mean**2, 0)))


def _error(b: Floats, h: Floats, n: Floats | float, o: Floats | float, p: float) -> Floats:
    size, out = expected(b, h, p)
    return np.asarray(np.abs(size - n) + np.abs(out - o))
