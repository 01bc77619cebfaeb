"""Agreement between annotators: kappas, Krippendorff's alpha, Gwet's AC1 and AC2, exact match.

Measures of two annotators are functions of their confusion matrix, alpha is one of the coincidence matrix.
Both add up over items, so a bootstrap over items sums small matrices instead of going back to the ratings;
therefore each measure also exists for a whole stack of matrices (`*_of`), shape (..., c, c).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tocsin.core.errors import UsageError

Floats = NDArray[np.float64]
Weights = Literal["none", "linear", "quadratic"]
Level = Literal["nominal", "ordinal", "interval", "ratio"]


def exact_match(a: ArrayLike, b: ArrayLike) -> NDArray[np.bool_]:
    """Whether whole vectors are equal. Shapes (..., k) in, (...) out."""
    return np.asarray(np.all(np.asarray(a) == np.asarray(b), axis=-1))


def confusion(a: ArrayLike, b: ArrayLike, n_values: int) -> Floats:
    """How often each pair of values occurs.

    Args:
        a: Values from 0 to `n_values` - 1, shape (..., k): the last axis is counted.
        b: The same shape.
        n_values: Number of values.

    Returns:
        Shape (..., n_values, n_values), rows by `a`.
    """
    left, right = np.asarray(a, dtype=np.int64), np.asarray(b, dtype=np.int64)
    eye = np.eye(n_values)
    return np.asarray(np.einsum("...ki,...kj->...ij", eye[left], eye[right]))


def disagreement_weights(n_values: int, weights: Weights) -> Floats:
    """Weight of each pair of equally spaced categories: 0 where equal, 1 at most."""
    if n_values < 2 or weights == "none":
        return 1.0 - np.eye(n_values)
    distance = np.abs(np.subtract.outer(np.arange(n_values), np.arange(n_values))) / (n_values - 1)
    return np.asarray(distance if weights == "linear" else distance**2)


def cohen_kappa(a: Sequence[object], b: Sequence[object], *, weights: Weights = "none") -> float:
    """Cohen's kappa (1960), and its weighted forms (1968), of two annotators.

    Args:
        a: One label for each unit. With weights, categories are taken in sorted order and equally spaced.
        b: As long as `a`.
        weights: What a disagreement costs: all the same, its distance, or the square of it.

    Returns:
        1 for perfect agreement, 0 for that of chance, down to -1; NaN where both use one and the same label.

    Raises:
        UsageError: If the lists are empty or differ in length.
    """
    left, right, n_values = _codes(a, b)
    return float(kappa_of(confusion(left, right, n_values), weights=weights))


def kappa_of(matrix: ArrayLike, *, weights: Weights = "none") -> Floats:
    """Cohen's kappa of confusion matrices, shape (..., c, c); NaN where chance cannot disagree."""
    m = np.asarray(matrix, dtype=np.float64)
    n = m.sum((-2, -1))
    cost = disagreement_weights(m.shape[-1], weights)
    expected = m.sum(-1)[..., :, None] * m.sum(-2)[..., None, :]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(1 - n * (m * cost).sum((-2, -1)) / (expected * cost).sum((-2, -1)))


def gwet_ac(a: Sequence[object], b: Sequence[object], *, weights: Weights = "none") -> float:
    """Gwet's AC1 (2008; `weights` none) or AC2 of two annotators: steady where one category is rare.

    Arguments and errors as for `cohen_kappa`. NaN where only one category occurs, as chance agreement is then
    not defined by the data.
    """
    left, right, n_values = _codes(a, b)
    return float(gwet_of(confusion(left, right, n_values), weights=weights))


def gwet_of(matrix: ArrayLike, *, weights: Weights = "none") -> Floats:
    """Gwet's AC1 or AC2 of confusion matrices, shape (..., c, c).

    Every category of the matrix counts, also one that does not occur: q is the size of the scale.
    """
    m = np.asarray(matrix, dtype=np.float64)
    q = m.shape[-1]
    agree = 1 - disagreement_weights(q, weights)
    with np.errstate(invalid="ignore", divide="ignore"):
        p = m / m.sum((-2, -1), keepdims=True)
        share = (p.sum(-1) + p.sum(-2)) / 2
        observed = (p * agree).sum((-2, -1))
        by_chance = agree.sum() / (q * (q - 1)) * (share * (1 - share)).sum(-1)
        return np.asarray((observed - by_chance) / (1 - by_chance))


def fleiss_kappa(counts: ArrayLike) -> float:
    """Fleiss's kappa (1971).

    Args:
        counts: Shape (units, categories): how many annotators chose each category; rows have one sum, >= 2.

    Returns:
        1 for perfect agreement, 0 for that of chance; NaN where only one category occurs.

    Raises:
        UsageError: If rows differ in their number of annotators, or hold fewer than two.
    """
    table = np.asarray(counts, dtype=np.float64)
    raters = np.unique(table.sum(-1)) if table.ndim == 2 and len(table) else np.zeros(0)
    if len(raters) != 1 or raters[0] < 2:
        message = "expected the same number of annotators, at least 2, for every unit, got others. "
        message += "Use krippendorff_alpha where ratings are missing."
        raise UsageError(message)
    m = float(raters[0])
    observed = float(((table**2).sum(-1) - m).mean() / (m * (m - 1)))
    chance = float(((table.sum(0) / table.sum()) ** 2).sum())
    return (observed - chance) / (1 - chance) if chance < 1 else float("nan")


def krippendorff_alpha(ratings: ArrayLike, *, level: Level = "ordinal") -> float:
    """Krippendorff's alpha (Content Analysis, 3rd edition, section 11.3) with missing ratings.

    Args:
        ratings: Shape (annotators, units), NaN where a rating is missing. Units with one rating are left out.
        level: How far apart two values are: equal or not, by how many ratings lie between them, by their
            difference, or by their difference relative to their sum (values from 0).

    Returns:
        1 for perfect agreement, 0 for that of chance, below 0 for systematic disagreement; NaN where fewer
        than two different values, or no unit with two ratings, is left.

    Raises:
        UsageError: If a value is infinite, or negative at the ratio level.

    Note:
        The sum over pairs of (x - y)^2 among m values is 2 (m sum x^2 - (sum x)^2), so nothing runs over
        pairs at the nominal, ordinal and interval levels: time grows with the number of ratings. The ordinal
        distance is the interval distance of mid-ranks, since the ratings between two categories with half of
        either are their mid-ranks' difference. The ratio distance has no such form: there, time grows with
        the square of the number of different values.
    """
    table = np.atleast_2d(np.asarray(ratings, dtype=np.float64))
    known = ~np.isnan(table)
    if np.isinf(table).any() or (level == "ratio" and bool((table[known] < 0).any())):
        message = f"expected finite ratings{', none below 0' if level == 'ratio' else ''}, got others."
        raise UsageError(message)
    paired = known.sum(0) >= 2
    table, known = table[:, paired], known[:, paired]
    values, flat = np.unique(table[known], return_inverse=True)
    if len(values) < 2:
        return float("nan")
    codes = np.zeros(table.shape, dtype=np.int64)
    codes[known] = flat
    size = known.sum(0).astype(np.float64)
    n = float(size.sum())
    marginal = np.bincount(flat, minlength=len(values)).astype(np.float64)
    if level in ("interval", "ordinal"):
        scale = _scale(values, marginal, level)
        x = np.where(known, scale[codes], 0.0)
        within = 2 * (size * (x**2).sum(0) - x.sum(0) ** 2)
        between = 2 * (n * (marginal * scale**2).sum() - (marginal * scale).sum() ** 2)
        return float(1 - (n - 1) * (within / (size - 1)).sum() / between)
    if level == "nominal":
        units = np.broadcast_to(np.arange(table.shape[1]), table.shape)
        cells, held = np.unique(units[known] * len(values) + flat, return_counts=True)
        same = np.bincount(cells // len(values), weights=held.astype(np.float64) ** 2, minlength=len(size))
        within = size**2 - same
        return float(1 - (n - 1) * (within / (size - 1)).sum() / (n**2 - (marginal**2).sum()))
    weight = _ratio_distance(values)
    observed = 0.0
    for first in range(len(table)):
        for second in range(first + 1, len(table)):
            both = known[first] & known[second]
            cost = weight[codes[first, both], codes[second, both]]
            observed += 2 * float((cost / (size[both] - 1)).sum())
    return float(1 - (n - 1) * observed / float(marginal @ weight @ marginal))


def coincidences(ratings: ArrayLike, n_values: int) -> Floats:
    """Coincidence matrices of units, which add up to that of all of them.

    Args:
        ratings: Shape (annotators, ..., units): codes from 0 to `n_values` - 1, NaN where missing.
        n_values: Number of values.

    Returns:
        Shape (..., n_values, n_values), summed over the last axis; symmetric. A unit of m >= 2 ratings adds
        m.
    """
    table = np.asarray(ratings, dtype=np.float64)
    known = ~np.isnan(table)
    coded = np.eye(n_values)[np.where(known, table, 0).astype(np.int64)] * known[..., None]
    held = coded.sum(0)
    size = held.sum(-1)
    weight = np.where(size >= 2, 1 / np.maximum(size - 1, 1), 0.0)
    pairs = np.einsum("...ui,...uj,...u->...ij", held, held, weight)
    return np.asarray(pairs - np.eye(n_values) * np.einsum("...ui,...u->...i", held, weight)[..., None])


def alpha_of(matrix: ArrayLike, *, level: Level = "ordinal", values: ArrayLike | None = None) -> Floats:
    """Krippendorff's alpha of coincidence matrices, shape (..., c, c).

    Args:
        matrix: See `coincidences`.
        level: As for `krippendorff_alpha`.
        values: The value behind each code, shape (c,); 0, 1, 2... when None.

    Returns:
        Shape (...); NaN where fewer than two values occur.
    """
    m = np.asarray(matrix, dtype=np.float64)
    marginal = m.sum(-1)
    n = marginal.sum(-1)
    given = np.arange(m.shape[-1], dtype=np.float64) if values is None else np.asarray(values, np.float64)
    if level in ("interval", "ordinal"):
        scale = _scale(given, marginal, level)
        distance = (scale[..., :, None] - scale[..., None, :]) ** 2
    else:
        distance = 1 - np.eye(m.shape[-1]) if level == "nominal" else _ratio_distance(given)
    expected = (marginal[..., :, None] * marginal[..., None, :] * distance).sum((-2, -1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(1 - (n - 1) * (m * distance).sum((-2, -1)) / expected)


def _scale(values: Floats, marginal: Floats, level: Level) -> Floats:
    """The values themselves, or their mid-ranks among all ratings."""
    return values if level == "interval" else np.cumsum(marginal, axis=-1) - marginal / 2


def _ratio_distance(values: Floats) -> Floats:
    total = np.add.outer(values, values)
    difference = np.subtract.outer(values, values)
    return np.where(total > 0, difference / np.where(total > 0, total, 1.0), 0.0) ** 2


def _codes(a: Sequence[object], b: Sequence[object]) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    if len(a) == 0 or len(a) != len(b):
        message = f"expected two lists of one length above 0, got lengths {len(a)} and {len(b)}."
        raise UsageError(message)
    values, codes = np.unique(np.asarray([*a, *b]), return_inverse=True)
    return codes[: len(a)], codes[len(a) :], len(values)
