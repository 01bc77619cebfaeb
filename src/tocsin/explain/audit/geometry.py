"""How alike two models see the same prompts: directions, projections, probes, CKA (card 02, section 3.6).

Activations are arrays of shape (prompts, width), the same prompts in the same order for both models.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tocsin.core.errors import UsageError
from tocsin.core.stats.ranking import auroc

Floats = NDArray[np.float64]
N_SPLITS = 20


def mean_difference(harmful: NDArray[np.floating], harmless: NDArray[np.floating]) -> Floats:
    """Mean of harmful less mean of harmless activations, in float64 (arXiv 2406.11717); shape (width,)."""
    means = [np.asarray(side, np.float64).mean(axis=0) for side in (harmful, harmless)]
    difference: Floats = means[0] - means[1]
    return difference


def cosine(a: Floats, b: Floats) -> float:
    """Cosine of two vectors; NaN where one has no length."""
    size = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(a @ b) / size if size > 0 else float("nan")


def split_half_cosines(
    harmful: NDArray[np.floating], harmless: NDArray[np.floating], *, seed: int, n_splits: int = N_SPLITS
) -> Floats:
    """Cosines between directions from two random halves of one model's prompts.

    Without them a cosine between two models tells nothing: halves of the same model agree only this well.

    Returns:
        Shape (n_splits,).

    Raises:
        UsageError: If a side has fewer than four prompts.
    """
    if min(len(harmful), len(harmless)) < 4:
        message = f"expected at least 4 prompts a side, got {len(harmful)} and {len(harmless)}. Give more."
        raise UsageError(message)
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(n_splits):
        halves = []
        orders = [generator.permutation(len(side)) for side in (harmful, harmless)]
        for part in (0, 1):
            chosen = [side[order[part::2]] for side, order in zip((harmful, harmless), orders, strict=True)]
            halves.append(mean_difference(*chosen))
        found.append(cosine(*halves))
    return np.array(found)


def gap_ratio(
    harmful: NDArray[np.floating],
    harmless: NDArray[np.floating],
    base_harmful: NDArray[np.floating],
    base_harmless: NDArray[np.floating],
    direction: Floats,
) -> float:
    """Distance of harmful from harmless prompts along the base's direction, relative to the base's own (F2).

    1 for the base itself, 0 where the suspect no longer tells them apart along it. The direction comes from
    other prompts: along the difference of these, chance would make the base's own distance too large.
    """
    own = float(mean_difference(base_harmful, base_harmless) @ direction)
    return float(mean_difference(harmful, harmless) @ direction) / own if own > 0 else float("nan")


def fitted_probe(
    harmful: NDArray[np.floating], harmless: NDArray[np.floating], *, without: Floats | None = None
) -> Callable[[NDArray[np.floating], NDArray[np.floating]], float]:
    """A linear probe fitted on one model, to be read on another (F3).

    Args:
        harmful: Activations the probe is fitted on.
        harmless: Likewise.
        without: Direction taken out of all activations first, to see what is readable beside it.

    Returns:
        Gives the AUROC on harmful and harmless activations of any model, best of other prompts.
    """
    from sklearn.linear_model import LogisticRegression

    sides = [_without(np.asarray(s, np.float64), without) for s in (harmless, harmful)]
    train = np.vstack(sides)
    centre, spread = train.mean(axis=0), train.std(axis=0)
    spread[spread < 1e-8] = 1.0
    labels = np.repeat([0, 1], [len(side) for side in sides])
    probe = LogisticRegression(C=0.01, max_iter=2_000).fit((train - centre) / spread, labels)

    def read(bad: NDArray[np.floating], good: NDArray[np.floating]) -> float:
        test = [_without(np.asarray(s, np.float64), without) for s in (good, bad)]
        scores = probe.decision_function((np.vstack(test) - centre) / spread)
        return auroc(scores, np.repeat([0, 1], [len(side) for side in test]))

    return read


def linear_cka(x: NDArray[np.floating], y: NDArray[np.floating], *, debiased: bool = True) -> float:
    """Linear centred kernel alignment of two sets of activations of the same prompts (F4).

    Args:
        x: Shape (prompts, width of one model).
        y: Shape (prompts, width of the other).
        debiased: With the unbiased estimator of Song et al. (2012), which is near 0 for independent data also
            when there are fewer prompts than five times the width. The plain one is then far too high.

    Returns:
        1 for equal geometry, whatever rotation and scale; NaN without any spread.

    Raises:
        UsageError: If the numbers of prompts differ, or are below four.
    """
    if len(x) != len(y) or len(x) < 4:
        message = f"expected the same 4 or more prompts on both sides, got {len(x)} and {len(y)}."
        raise UsageError(message)
    grams = [np.asarray(s, np.float64) - np.asarray(s, np.float64).mean(axis=0) for s in (x, y)]
    kernels = [side @ side.T for side in grams]
    measure = _unbiased_hsic if debiased else _hsic
    both, first, second = (
        measure(kernels[0], kernels[1]),
        measure(kernels[0], kernels[0]),
        measure(kernels[1], kernels[1]),
    )
    size = first * second
    return both / float(np.sqrt(size)) if size > 0 else float("nan")


def _hsic(k: Floats, m: Floats) -> float:
    return float(np.sum(k * m))


def _unbiased_hsic(k: Floats, m: Floats) -> float:
    """Up to a constant factor."""
    n = len(k)
    k, m = k - np.diag(np.diag(k)), m - np.diag(np.diag(m))
    first = float(np.sum(k * m))
    second = float(k.sum()) * float(m.sum()) / ((n - 1) * (n - 2))
    third = 2.0 * float(k.sum(axis=0) @ m.sum(axis=0)) / (n - 2)
    return first + second - third


def _without(values: Floats, direction: Floats | None) -> Floats:
    if direction is None:
        return values
    unit = direction / np.linalg.norm(direction)
    return values - np.outer(values @ unit, unit)
