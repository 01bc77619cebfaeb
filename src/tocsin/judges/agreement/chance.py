"""What two annotators would agree on by chance: the rankings of one are shuffled among the items.

The mean over all shuffles needs none: each ranking of one annotator meets each of the other equally often.
Means over items are exact; ratios (kappa, alpha) are those of the expected matrices, which differ from the
mean over shuffles by a term that falls with the number of items.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tocsin.core.stats.agreement import alpha_of, exact_match, gwet_of, kappa_of
from tocsin.core.stats.rank_lists import kendall_tau_b, rbo_ext, top_one
from tocsin.judges.item_sums import number

Floats = NDArray[np.float64]
_CELLS = 200_000


def chance_agreement(a: Floats, b: Floats) -> dict[str, float | None]:
    """Expected measures under shuffling, by the names of `PairAgreement`.

    Args:
        a: Rank vectors, shape (items, k).
        b: The same shape.
    """
    k = a.shape[1]
    left, left_count = np.unique(a, axis=0, return_counts=True)
    right, right_count = np.unique(b, axis=0, return_counts=True)
    weight = np.outer(left_count / len(a), right_count / len(b))
    sums = dict.fromkeys(("exact", "binary_accuracy", "top_one", "rbo_90", "rbo_50", "tau_b", "tau_n"), 0.0)
    step = max(1, _CELLS // (len(right) * k))
    for start in range(0, len(left), step):
        x, y = left[start : start + step, None], right[None]
        share = weight[start : start + step]
        shape = (*share.shape, k)
        tau = kendall_tau_b(np.broadcast_to(x, shape), np.broadcast_to(y, shape))
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
