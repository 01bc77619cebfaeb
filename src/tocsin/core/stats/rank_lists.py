"""Agreement of ranked lists: rank-biased overlap, Kendall's tau-b and the first place.

Everything takes rank vectors: row i holds, for each of k subjects in a fixed order, a number that is higher
the further up the subject stands, and 0 where the subject is not in the list at all. Entries above 0
differ. All functions work on whole arrays of vectors at once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tocsin.core.errors import UsageError

Floats = NDArray[np.float64]


def rbo_ext(a: ArrayLike, b: ArrayLike, p: float = 0.9) -> Floats:
    """Extrapolated rank-biased overlap of lists (Webber, Moffat, Zobel 2010, equation 32).

    Two empty lists agree fully (1); an empty list and one with entries do not agree at all (0). A shorter
    list is taken to go on as it began, so [A] and [A, B] score 1: read it beside a measure that counts cells.

    Args:
        a: Rank vectors, shape (..., k).
        b: The same shape, or one that broadcasts to it.
        p: Persistence, above 0 and below 1; the higher, the more depth counts.

    Returns:
        Shape (...), each from 0 to 1.

    Raises:
        UsageError: If `p` is not between 0 and 1, or the shapes do not fit.

    Example:
        >>> rbo_ext([3, 2, 1], [1, 2, 3], p=0.9).round(3).item()
        0.855
    """
    overlap, size_a, size_b, depth = _overlaps(a, b, p)
    short, long = np.minimum(size_a, size_b), np.maximum(size_a, size_b)
    at_short, at_long = _at(overlap, short), _at(overlap, long)
    weight = p**depth
    inside = depth <= long[..., None]
    beyond = inside & (depth > short[..., None])
    s = np.maximum(short, 1)[..., None]
    total = (np.where(inside, overlap / depth, 0.0) * weight).sum(-1)
    total += (np.where(beyond, at_short[..., None] * (depth - s) / (s * depth), 0.0) * weight).sum(-1)
    rest = (at_long - at_short) / np.maximum(long, 1) + at_short / np.maximum(short, 1)
    value = (1 - p) / p * total + rest * p**long
    # The sum of the weights falls short of 1 by rounding only.
    return np.where(long == 0, 1.0, np.where(short == 0, 0.0, np.clip(value, 0.0, 1.0)))


def rbo_truncated(a: ArrayLike, b: ArrayLike, p: float = 0.9) -> Floats:
    """Rank-biased overlap summed to the end of the longer list, without extrapolation.

    Of short lists it is low even where they are equal (0.271 for three entries at p = 0.9), so it serves to
    compare with published figures only. Arguments, conventions for empty lists and errors as for `rbo_ext`.
    """
    overlap, size_a, size_b, depth = _overlaps(a, b, p)
    short, long = np.minimum(size_a, size_b), np.maximum(size_a, size_b)
    inside = depth <= long[..., None]
    value = (1 - p) / p * (np.where(inside, overlap / depth, 0.0) * p**depth).sum(-1)
    return np.where(long == 0, 1.0, np.where(short == 0, 0.0, value))


def kendall_tau_b(a: ArrayLike, b: ArrayLike) -> Floats:
    """Kendall's tau-b between the entries of two vectors; ties (several zeros) are allowed for.

    Args:
        a: Vectors, shape (..., k).
        b: The same shape.

    Returns:
        Shape (...), each from -1 to 1; NaN where one of the vectors is constant.
    """
    left, right = _pair_signs(a), _pair_signs(b)
    scale = np.sqrt((left**2).sum(-1) * (right**2).sum(-1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(scale > 0, (left * right).sum(-1) / scale, np.nan)


def top_one(a: ArrayLike, b: ArrayLike) -> NDArray[np.bool_]:
    """Whether two vectors put the same subject first; two vectors of zeros, which put none first, agree.

    Arguments as for `kendall_tau_b`.
    """
    return np.asarray(_first(a) == _first(b))


def _first(ranks: ArrayLike) -> NDArray[np.int64]:
    """Index of the highest entry; -1 where all are 0."""
    v = np.asarray(ranks, dtype=np.float64)
    return np.where(v.max(-1) > 0, v.argmax(-1), -1)


def _overlaps(a: ArrayLike, b: ArrayLike, p: float) -> tuple[Floats, Floats, Floats, Floats]:
    """Overlap at depths 1..k, the two lengths, and the depths."""
    if not 0 < p < 1:
        message = f"expected a persistence between 0 and 1, got {p}. The usual choice is 0.9."
        raise UsageError(message)
    left, right = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if left.shape[-1:] != right.shape[-1:]:
        message = f"expected vectors over the same subjects, got shapes {left.shape} and {right.shape}."
        raise UsageError(message)
    depth = np.arange(1, left.shape[-1] + 1, dtype=np.float64)
    within = (_places(left)[..., None] <= depth) & (_places(right)[..., None] <= depth)
    overlap = within.sum(-2).astype(np.float64)
    shape = overlap.shape[:-1]
    sizes = [np.broadcast_to((v > 0).sum(-1), shape).astype(np.float64) for v in (left, right)]
    return overlap, sizes[0], sizes[1], depth


def _places(v: Floats) -> Floats:
    """Place of each subject in its list, from 1; infinite where it is not in the list."""
    above = (v[..., None, :] > v[..., :, None]).sum(-1)
    return np.where(v > 0, above + 1.0, np.inf)


def _at(overlap: Floats, depth: Floats) -> Floats:
    """Overlap at one depth for each pair; 0 at depth 0."""
    index = np.maximum(depth.astype(np.int64) - 1, 0)
    found = np.take_along_axis(overlap, index[..., None], axis=-1)[..., 0]
    return np.where(depth > 0, found, 0.0)


def _pair_signs(ranks: ArrayLike) -> Floats:
    v = np.asarray(ranks, dtype=np.float64)
    first, second = np.triu_indices(v.shape[-1], 1)
    return np.sign(v[..., first] - v[..., second])
