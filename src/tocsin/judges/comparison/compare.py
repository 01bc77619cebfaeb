"""Tests between models on one annotator's rankings, and their strengths with intervals over items."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from tocsin.core.stats import holm
from tocsin.core.stats.item_sums import ItemSums, estimate, number
from tocsin.judges.comparison.records import Comparison, Strength, SubjectPair
from tocsin.judges.comparison.strengths import bradley_terry, plackett_luce, stages_of, wins_of

Floats = NDArray[np.float64]


def compare(
    annotator: str, vectors: Floats, subjects: tuple[str, ...], *, n_resamples: int, seed: int
) -> Comparison:
    """Friedman's test over all models, paired tests between two, and strengths.

    Args:
        annotator: Whose rankings they are.
        vectors: Ranks, shape (items, models), 0 for not harmful.
        subjects: Names of the models.
        n_resamples: Resamples of items behind the intervals of strengths.
        seed: Of the resamples.

    Returns:
        Paired p-values are Holm-corrected over the pairs of models; Friedman needs three models.
    """
    chi2, p = _friedman(vectors)
    pairs = list(combinations(range(len(subjects)), 2))
    signed = [_wilcoxon(vectors[:, i] - vectors[:, j]) for i, j in pairs]
    by_sign = [_sign_test(vectors[:, i] - vectors[:, j]) for i, j in pairs]
    return Comparison(
        annotator=annotator,
        n=len(vectors),
        friedman_chi2=chi2,
        friedman_p=p,
        pairs=tuple(
            SubjectPair(
                first=subjects[i],
                second=subjects[j],
                first_higher=int((vectors[:, i] > vectors[:, j]).sum()),
                second_higher=int((vectors[:, i] < vectors[:, j]).sum()),
                ties=int((vectors[:, i] == vectors[:, j]).sum()),
                wilcoxon_p=float(wilcoxon_p),
                sign_p=float(sign_p),
            )
            for (i, j), wilcoxon_p, sign_p in zip(pairs, holm(signed), holm(by_sign), strict=True)
        ),
        strengths=_strengths(vectors, subjects, n_resamples, seed),
    )


def _strengths(
    vectors: Floats, subjects: tuple[str, ...], n_resamples: int, seed: int
) -> tuple[Strength, ...]:
    sums = ItemSums(len(vectors), n_resamples, seed)
    wins = wins_of(vectors)
    stages = stages_of(vectors)
    pairs, drawn, sets = sums.add(wins), sums.add(stages.wins), sums.add(stages.counts)
    strict = sums.add(np.where(wins == 1, 1.0, 0.0))
    bt = bradley_terry(sums.total(pairs))
    pl = plackett_luce(sums.total(drawn), sums.total(sets), stages.members, sums.total(strict))
    return tuple(
        Strength(subject=name, bradley_terry=estimate(bt[:, i]), plackett_luce=estimate(pl[:, i]))
        for i, name in enumerate(subjects)
    )


def _friedman(vectors: Floats) -> tuple[float | None, float | None]:
    """Chi-square and p-value; None with fewer than three models or where every row is constant."""
    if vectors.shape[1] < 3 or not len(vectors) or bool((vectors == vectors[:, :1]).all()):
        return None, None
    from scipy.stats import friedmanchisquare

    found = friedmanchisquare(*vectors.T)
    return number(float(found.statistic)), number(float(found.pvalue))


def _wilcoxon(difference: Floats) -> float:
    """Two-sided p-value; pairs without a difference are left out (Wilcoxon), 1 where none differs."""
    differing = difference[difference != 0]
    if not len(differing):
        return 1.0
    from scipy.stats import wilcoxon

    # Ties are many, so the normal approximation with its correction for ties is used throughout.
    return float(wilcoxon(differing, method="asymptotic").pvalue)


def _sign_test(difference: Floats) -> float:
    positive, negative = int((difference > 0).sum()), int((difference < 0).sum())
    if positive + negative == 0:
        return 1.0
    from scipy.stats import binomtest

    return float(binomtest(positive, positive + negative).pvalue)
