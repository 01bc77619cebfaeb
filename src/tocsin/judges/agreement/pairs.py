"""Measures of pairs and sets of annotators, with intervals over items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tocsin.core.stats.agreement import (
    alpha_of,
    coincidences,
    confusion,
    exact_match,
    fleiss_kappa,
    gwet_of,
    kappa_of,
)
from tocsin.core.stats.item_sums import ItemSums, estimate, number
from tocsin.core.stats.rank_lists import kendall_tau_b, rbo_ext, top_one
from tocsin.judges.agreement.chance import chance_agreement
from tocsin.judges.agreement.records import PairAgreement, PartAgreement, SetAgreement

Floats = NDArray[np.float64]


class PairSums(NamedTuple):
    """Handles of one pair's features in an `ItemSums`."""

    items: int
    exact: int
    ranks: int
    """Confusion of ranks."""
    top_one: int
    rbo_90: int
    rbo_50: int
    tau: int
    tau_items: int


def add_pair(sums: ItemSums, a: Floats, b: Floats, both: NDArray[np.bool_]) -> PairSums:
    """Register a pair; items that not both ranked count for nothing.

    Args:
        sums: Over all items.
        a: Rank vectors, shape (items, k), NaN where missing.
        b: The same shape.
        both: Items that count.
    """
    left, right = np.where(both[:, None], a, 0), np.where(both[:, None], b, 0)
    held = both.astype(np.float64)
    tau = kendall_tau_b(left, right)
    return PairSums(
        items=sums.add(held),
        exact=sums.add(exact_match(left, right) * held),
        ranks=sums.add(confusion(left, right, a.shape[1] + 1) * held[:, None, None]),
        top_one=sums.add(top_one(left, right) * held),
        rbo_90=sums.add(rbo_ext(left, right, 0.9) * held),
        rbo_50=sums.add(rbo_ext(left, right, 0.5) * held),
        tau=sums.add(tau),
        tau_items=sums.add(~np.isnan(tau)),
    )


def pair_alpha(sums: ItemSums, pair: PairSums) -> Floats:
    """Ordinal alpha of a pair, as it is and resampled; of two ratings, either order is a coincidence."""
    matrix = sums.total(pair.ranks)
    return alpha_of(matrix + np.swapaxes(matrix, -1, -2))


def measured(
    sums: ItemSums, pair: PairSums, a: str, b: str, left: Floats, right: Floats, ceiling: Floats | None
) -> PairAgreement:
    """Every measure of a pair.

    Args:
        sums: With the totals.
        pair: Its handles.
        a: Name of the first annotator.
        b: Name of the second.
        left: The first's rank vectors on the items of both, shape (n, k).
        right: The second's.
        ceiling: Alpha that the pair's is set against, as it is and resampled; None for no comparison.
    """
    ranks = sums.total(pair.ranks)
    binary = np.stack(
        [
            np.stack([ranks[:, 0, 0], ranks[:, 0, 1:].sum(-1)], -1),
            np.stack([ranks[:, 1:, 0].sum(-1), ranks[:, 1:, 1:].sum((-2, -1))], -1),
        ],
        axis=-2,
    )
    alpha = pair_alpha(sums, pair)
    with np.errstate(invalid="ignore", divide="ignore"):
        accuracy = np.trace(binary, axis1=-2, axis2=-1) / binary.sum((-2, -1))
        relative = None if ceiling is None else estimate(alpha / ceiling)
    return PairAgreement(
        a=a,
        b=b,
        n=len(left),
        exact=estimate(sums.ratio(pair.exact, pair.items)),
        binary_accuracy=estimate(accuracy),
        binary_kappa=estimate(kappa_of(binary)),
        alpha=estimate(alpha),
        quadratic_kappa=estimate(kappa_of(ranks, weights="quadratic")),
        ac1=estimate(gwet_of(binary)),
        ac2=estimate(gwet_of(ranks, weights="quadratic")),
        top_one=estimate(sums.ratio(pair.top_one, pair.items)),
        rbo_90=estimate(sums.ratio(pair.rbo_90, pair.items)),
        rbo_50=estimate(sums.ratio(pair.rbo_50, pair.items)),
        tau_b=estimate(sums.ratio(pair.tau, pair.tau_items)),
        tau_n=int(sums.total(pair.tau_items)[0]),
        permuted=chance_agreement(left, right),
        relative_alpha=relative,
    )


def part_agreement(
    part: str, a: str, b: str, left: Floats, right: Floats, *, n_resamples: int, seed: int
) -> PartAgreement:
    """A few measures on a part of the items, resampled within the part; vectors of shape (n, k)."""
    sums = ItemSums(len(left), n_resamples, seed)
    everywhere = np.ones(len(left), dtype=np.bool_)
    pair = add_pair(sums, left, right, everywhere)
    return PartAgreement(
        part=part,
        a=a,
        b=b,
        n=len(left),
        exact=estimate(sums.ratio(pair.exact, pair.items)),
        alpha=estimate(pair_alpha(sums, pair)),
        rbo_90=estimate(sums.ratio(pair.rbo_90, pair.items)),
    )


def set_agreement(
    name: str, annotators: Sequence[str], vectors: Sequence[Floats], *, n_resamples: int, seed: int
) -> SetAgreement:
    """Alpha and Fleiss's kappa of annotators, each with vectors of shape (items, k), NaN if missing."""
    ratings = np.stack(vectors)
    known = ~np.isnan(ratings[:, :, 0])
    enough = known.sum(0) >= 2
    ratings = ratings[:, enough]
    n_values = ratings.shape[2] + 1
    sums = ItemSums(int(enough.sum()), n_resamples, seed)
    handle = sums.add(coincidences(ratings, n_values))
    whole = ratings[:, ~np.isnan(ratings).any((0, 2))]
    fleiss = None
    if whole.shape[1]:
        chosen = np.eye(n_values)[whole.astype(np.int64)].sum(0).reshape(-1, n_values)
        fleiss = number(fleiss_kappa(chosen))
    return SetAgreement(
        name=name,
        annotators=tuple(annotators),
        n=int(enough.sum()),
        alpha=estimate(alpha_of(sums.total(handle))),
        fleiss_kappa=fleiss,
    )
