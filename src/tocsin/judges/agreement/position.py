"""Whether an annotator favours a place in the order in which responses are shown.

Where the order is drawn anew for each item, a ranking that looks at the responses alone has the same chance
under every order, so shuffling the places within items gives the distribution of any statistic without
bias. Where the order is fixed, place and model are one and nothing can be told (arXiv 2502.05291 shows all
in one order).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tocsin.core.stats import holm
from tocsin.judges.agreement.data import Rankings
from tocsin.judges.agreement.records import PositionBias

Floats = NDArray[np.float64]
ALPHA = 0.01
_MIN_ITEMS = 20
_CELLS = 2_000_000


def position_bias(
    rankings: Rankings, annotators: Sequence[str], *, n_permutations: int, seed: int
) -> tuple[PositionBias, ...]:
    """Test each of these annotators; p-values are Holm-corrected over the annotators that can be tested.

    An annotator is called biased below p = 0.01.
    """
    found: list[PositionBias] = []
    for name in annotators:
        vectors = rankings.vectors[name]
        places = rankings.positions.get(name)
        if places is None:
            found.append(PositionBias(annotator=name, verdict="cannot be told", n=0, reason="no order given"))
            continue
        known = ~np.isnan(vectors[:, 0]) & ~np.isnan(places[:, 0])
        found.append(_tested(name, vectors[known], places[known].astype(np.int64), n_permutations, seed))
    tested = [each for each in found if each.p_value is not None]
    adjusted = dict(
        zip(
            (each.annotator for each in tested),
            holm([each.p_value for each in tested if each.p_value is not None]).tolist(),
            strict=True,
        )
    )
    return tuple(
        each
        if each.p_value is None
        else each.model_copy(
            update={
                "p_value": adjusted[each.annotator],
                "verdict": "biased" if adjusted[each.annotator] < ALPHA else "not shown",
            }
        )
        for each in found
    )


def _tested(
    name: str, vectors: Floats, places: NDArray[np.int64], n_permutations: int, seed: int
) -> PositionBias:
    reason = why_untestable(places)
    # Row i, column q: the rank of the response at place q of item i.
    at_place = np.take_along_axis(vectors, np.argsort(places, axis=1), axis=1)
    means = tuple(at_place.mean(0).tolist()) if len(at_place) else ()
    if reason:
        return PositionBias(
            annotator=name, verdict="cannot be told", n=len(vectors), mean_rank=means, reason=reason
        )
    return PositionBias(
        annotator=name,
        verdict="not shown",
        n=len(vectors),
        p_value=permutation_p(at_place, n_permutations=n_permutations, seed=seed),
        mean_rank=means,
    )


def why_untestable(places: NDArray[np.int64]) -> str:
    """Why an order tells nothing about bias; empty when it does.

    Args:
        places: Place of each model, shape (items, models).
    """
    n, k = places.shape
    if n < _MIN_ITEMS:
        return f"fewer than {_MIN_ITEMS} items with a known order"
    if (places == places[0]).all():
        return "the order is the same on every item, so place and model cannot be told apart"
    held = np.stack([np.bincount(column, minlength=k) for column in places.T])
    # If the order is drawn anew, every model is at every place n / k times; (k - 1)^2 degrees of freedom.
    from scipy.stats import chi2

    statistic = ((held - n / k) ** 2 / (n / k)).sum() * (k - 1) / k
    if chi2.sf(statistic, (k - 1) ** 2) < 1e-4:
        return "models are not spread evenly over the places, so the order was not drawn at random"
    return ""


def permutation_p(at_place: Floats, *, n_permutations: int, seed: int) -> float:
    """P-value of the spread of mean ranks over places, when places are shuffled within items.

    Args:
        at_place: Rank of the response at each place, shape (items, places).
        n_permutations: Shuffles.
        seed: Of the shuffles.
    """
    generator = np.random.default_rng(seed)
    observed = at_place.mean(0).var()
    size = max(1, _CELLS // at_place.size)
    reached = 0
    for start in range(0, n_permutations, size):
        block = np.broadcast_to(at_place, (min(size, n_permutations - start), *at_place.shape))
        spread = generator.permuted(block, axis=2).mean(1).var(axis=1)
        reached += int((spread >= observed * (1 - 1e-12)).sum())
    return (reached + 1) / (n_permutations + 1)
