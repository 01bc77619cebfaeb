"""What two annotators would agree on by chance: the rankings of one are shuffled among the items.

The mean over all shuffles needs none: each ranking of one annotator meets each of the other equally often.
Means over items are exact (up to 300,000 pairs of different rankings); ratios (kappa, alpha) are those of
the expected matrices, which differ from the mean over shuffles by a term that falls with the number of
items.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tocsin.core.stats.agreement import alpha_of, exact_match, gwet_of, kappa_of
from tocsin.core.stats.item_sums import number
from tocsin.core.stats.rank_lists import kendall_tau_b, rbo_ext, top_one

Floats = NDArray[np.float64]
_MOST_PAIRS = 300_000
"""Pairs of different rankings; where there are more, as many random ones stand for them."""
_BLOCK = 20_000


def chance_agreement(a: Floats, b: Floats) -> dict[str, float | None]:
    """Expected measures under shuffling, by the names of `PairAgreement`.

    Args:
        a: Rank vectors, shape (items, k).
        b: The same shape.
    """
    k = a.shape[1]
    names = ("exact", "binary_accuracy", "top_one", "rbo_90", "rbo_50", "tau_b", "tau_n")
    sums = dict.fromkeys(names, 0.0)
    for x, y, share in _meetings(a, b):
        tau = kendall_tau_b(x, y)
        sums["exact"] += float((exact_match(x, y) * share).sum())
        sums["binary_accuracy"] += float((((x > 0) == (y > 0)).mean(-1) * share).sum())
        sums["top_one"] += float((top_one(x, y) * share).sum())
        sums["rbo_90"] += float((rbo_ext(x, y, 0.9) * share).sum())
        sums["rbo_50"] += float((rbo_ext(x, y, 0.5) * share).sum())
        sums["tau_b"] += float(np.nansum(tau * share))
        sums["tau_n"] += float((~np.isnan(tau) * share).sum())
    eye = np.eye(k + 1)
    # Shuffling whole rankings keeps every mark with its model.
    expected = np.einsum("ki,kj->ij", eye[a.astype(int)].mean(0), eye[b.astype(int)].mean(0)) * len(a)
    binary = np.array(
        [[expected[0, 0], expected[0, 1:].sum()], [expected[1:, 0].sum(), expected[1:, 1:].sum()]]
    )
    tau_n = sums.pop("tau_n")
    found = {name: number(value) for name, value in sums.items()}
    found["tau_b"] = number(sums["tau_b"] / tau_n) if tau_n else None
    return found | {
        "binary_kappa": number(float(kappa_of(binary))),
        "alpha": number(float(alpha_of(expected + expected.T))),
        "quadratic_kappa": number(float(kappa_of(expected, weights="quadratic"))),
        "ac1": number(float(gwet_of(binary))),
        "ac2": number(float(gwet_of(expected, weights="quadratic"))),
    }


def _meetings(a: Floats, b: Floats) -> Iterator[tuple[Floats, Floats, Floats]]:
    """Blocks of pairs of rankings, shape (pairs, k) each, with the share of all that each has."""
    left, left_count = np.unique(a, axis=0, return_counts=True)
    right, right_count = np.unique(b, axis=0, return_counts=True)
    if len(left) * len(right) <= _MOST_PAIRS:
        first, second = (each.ravel() for each in np.indices((len(left), len(right))))
        share = np.outer(left_count / len(a), right_count / len(b)).ravel()
    else:
        generator = np.random.default_rng(0)
        left, right = a, b
        first, second = generator.integers(0, len(a), (2, _MOST_PAIRS))
        share = np.full(_MOST_PAIRS, 1 / _MOST_PAIRS)
    for start in range(0, len(first), _BLOCK):
        held = slice(start, start + _BLOCK)
        yield left[first[held]], right[second[held]], share[held]
