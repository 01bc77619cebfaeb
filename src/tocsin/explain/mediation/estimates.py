"""Effects over pairs with intervals: paired bootstrap, all components of a level at once.

Every quantity is a function of sums over pairs, so a resample is one row of counts, and all resamples of all
components are one matrix product. Pairs are drawn whole: total effect, both directions and the control of a
pair stay together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tocsin.core.stats import benjamini_hochberg, holm
from tocsin.core.stats.bootstrap import draw_groups
from tocsin.core.stats.item_sums import Estimate, number
from tocsin.explain.mediation.components import Component
from tocsin.explain.mediation.records import Effect, NeuronSpread, Summary

Floats = NDArray[np.float64]
FLOOR = 0.1
"""Times the median absolute total effect (card 05, section 3.1)."""
_CHUNK = 64


class Measured(NamedTuple):
    """Effects of components on pairs, each of shape (pairs, components) but `te`, of shape (pairs,)."""

    te: Floats
    nie: Floats
    rnie: Floats
    control: Floats | None


class Resamples:
    """Counts of pairs in bootstrap resamples, drawn once for each number of pairs."""

    def __init__(self, n_resamples: int, seed: int) -> None:
        self._n = n_resamples
        self._seed = seed
        self._kept: dict[int, Floats] = {}

    def counts(self, n_pairs: int) -> Floats:
        """How often each pair was drawn, shape (resamples, pairs)."""
        if n_pairs not in self._kept:
            drawn = draw_groups(np.zeros(n_pairs, dtype=np.int64), self._n, self._seed, n_pairs)
            self._kept[n_pairs] = np.vstack(list(drawn))
        return self._kept[n_pairs]

    def mean(self, values: Floats) -> Estimate:
        """Mean of one value for each pair; NaN pairs are left out of it."""
        values = values[~np.isnan(values)]
        if len(values) == 0:
            return Estimate(value=None)
        return interval(values.mean(), self.counts(len(values)) @ values / len(values))

    def ratio(self, top: Floats, bottom: Floats) -> Estimate:
        """Ratio of the means of two values of each pair; pairs with a NaN are left out."""
        kept = ~(np.isnan(top) | np.isnan(bottom))
        if not kept.any():
            return Estimate(value=None)
        counts = self.counts(int(kept.sum()))
        with np.errstate(invalid="ignore", divide="ignore"):
            value = top[kept].sum() / bottom[kept].sum()
            return interval(value, (counts @ top[kept]) / (counts @ bottom[kept]))

    def p_values(self, values: Floats) -> Floats:
        """Is the mean over pairs 0? Studentised bootstrap, two-sided; shape (components,).

        A percentile test rejects too often with few pairs; dividing by each resample's own standard error
        repairs that (Efron and Tibshirani 1993, chapter 16).
        """
        n = len(values)
        centre = values.mean(axis=0)
        counts = self.counts(n)
        found = np.ones(values.shape[1])
        spread = values.std(axis=0, ddof=1) if n > 1 else np.zeros_like(centre)
        # A component that changes every pair by the same amount, but for rounding, has no t to speak of.
        tiny = 1e-9 + 1e-6 * np.abs(centre)
        found[(spread <= tiny) & (np.abs(centre) > 1e-6)] = 1.0 / (len(counts) + 1)
        for start in range(0, values.shape[1], _CHUNK):
            some = np.flatnonzero(spread[start : start + _CHUNK] > tiny[start : start + _CHUNK]) + start
            if len(some) == 0:
                continue
            centred = values[:, some] - centre[some]
            means = counts @ centred / n
            squares = counts @ centred**2 / n - means**2
            errors = np.sqrt(np.clip(squares, 0.0, None) / (n - 1))
            observed = np.abs(centre[some]) / (values[:, some].std(axis=0) / np.sqrt(n - 1))
            with np.errstate(invalid="ignore", divide="ignore"):
                drawn = np.abs(means) / errors
            beyond = (np.isnan(drawn) | (drawn >= observed)).sum(axis=0)
            found[some] = (beyond + 1) / (len(counts) + 1)
        return found


def interval(value: float, resampled: Floats) -> Estimate:
    """An estimate with the middle 95 % of its resamples."""
    resampled = resampled[np.isfinite(resampled)]
    if len(resampled) < 100:
        return Estimate(value=number(float(value)))
    low, high = np.quantile(resampled, [0.025, 0.975])
    return Estimate(value=number(float(value)), low=float(low), high=float(high))


def te_floor(te: Floats) -> float:
    """Below this absolute total effect a pair's own ratio says nothing."""
    return FLOOR * float(np.median(np.abs(te)))


def effects(
    components: Sequence[Component], measured: Measured, resamples: Resamples, *, floor: float
) -> tuple[Effect, ...]:
    """Effects of the components of one level, corrected for their number."""
    te, nie, rnie, control = measured
    n = len(te)
    p = resamples.p_values(nie)
    adjusted, discovery = holm(p), benjamini_hochberg(p)
    counts = resamples.counts(n)
    te_drawn = counts @ te / n
    kept = np.abs(te) >= floor
    kept_counts = counts[:, kept]
    kept_sizes = kept_counts.sum(axis=1)
    found = []
    for c, component in enumerate(components):
        drawn = [counts @ each[:, c] / n for each in (nie, rnie)]
        means = [float(each[:, c].mean()) for each in (nie, rnie)]
        shares = []
        ratios = []
        with np.errstate(invalid="ignore", divide="ignore"):
            for mean, rows, each in zip(means, drawn, (nie, rnie), strict=True):
                ratios.append(interval(np.divide(mean, te.mean()), rows / te_drawn))
                own = each[kept, c] / te[kept]
                if len(own) == 0:
                    shares.append(Estimate(value=None))
                else:
                    shares.append(interval(own.mean(), (kept_counts @ own) / kept_sizes))
        found.append(
            Effect(
                name=component.name,
                block=component.block,
                n=n,
                nie=interval(means[0], drawn[0]),
                rnie=interval(means[1], drawn[1]),
                nde=interval(te.mean() - means[1], te_drawn - drawn[1]),
                interaction=interval(means[1] - means[0], drawn[1] - drawn[0]),
                nie_share=ratios[0],
                rnie_share=ratios[1],
                nie_mean_share=shares[0],
                rnie_mean_share=shares[1],
                control=None if control is None else resamples.mean(control[:, c]),
                p=float(p[c]),
                p_holm=float(adjusted[c]),
                p_bh=float(discovery[c]),
            )
        )
    return tuple(found)


def spearman(a: Floats, b: Floats) -> float | None:
    """Rank correlation; None where it is not defined."""
    from scipy.stats import spearmanr

    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return number(float(spearmanr(a, b).statistic))


def summarise(components: Sequence[Component], nie: Floats, n_blocks: int, resamples: Resamples) -> Summary:
    """Where module effects lie: centre of mass and the MLPs' part, from absolute mean effects."""
    counts = resamples.counts(len(nie))
    means = np.vstack([nie.mean(axis=0)[None], counts @ nie / len(nie)])
    sizes = np.abs(means)
    blocks = np.array([(component.block or 1) - 1 for component in components])
    is_mlp = np.array([component.sites[0].kind == "mlp" for component in components])
    late = blocks >= n_blocks - max(1, round(n_blocks / 3))
    with np.errstate(invalid="ignore", divide="ignore"):
        depth = sizes @ (blocks / max(1, n_blocks - 1)) / sizes.sum(axis=1)
        mlp = sizes[:, is_mlp].sum(axis=1) / sizes.sum(axis=1)
        late_mlp = sizes[:, is_mlp & late].sum(axis=1) / sizes[:, late].sum(axis=1)
    return Summary(
        depth=interval(depth[0], depth[1:]),
        mlp_share=interval(mlp[0], mlp[1:]),
        late_mlp_share=interval(late_mlp[0], late_mlp[1:]),
    )


def spread(block: int, mean_effects: Floats) -> NeuronSpread:
    """How unevenly neurons share the effect.

    Args:
        block: From 0.
        mean_effects: One for each neuron.
    """
    sizes = np.sort(np.abs(mean_effects))
    n, total = len(sizes), float(sizes.sum())
    gini = top = None
    if total > 0:
        ranks = np.arange(1, n + 1)
        gini = float((2 * ranks - n - 1) @ sizes / (n * total))
        top = float(sizes[-max(1, round(n / 100)) :].sum() / total)
    steps = np.unique(np.linspace(0, n - 1, 60).round().astype(int))
    return NeuronSpread(
        block=block + 1,
        n_neurons=n,
        gini=gini,
        top_share=top,
        histogram=tuple((float(sizes[i]), float((n - i) / n)) for i in steps),
    )
