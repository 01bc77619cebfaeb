"""A regularised linear head on activations: fit, calibration, null distribution and threshold.

Everything that is chosen is chosen from cross-fitted scores: the folds keep the two sides of a matched pair
together,
so that no score comes from a head that saw its twin.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from tocsin.core.errors import FitError

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

FOLDS = 5
STRENGTHS = (1e-3, 3e-3, 1e-2)
"""Values of scikit-learn's C (inverse regularisation); the lowest cross-fitted log loss wins."""
PLAIN_WEIGHT = 3.0
"""Weight of a plain row in the fit: everyday traffic is far more common than twins of harmful requests."""
MIN_PLAIN = 20
"""Plain rows from which their distribution is told; with fewer, all harmless rows stand in."""
MAX_PLAIN_FLAGGED = 0.05
"""Share of plain everyday items that the threshold may flag."""


@dataclass(frozen=True, slots=True)
class LinearHead:
    """`logit = x @ weights + bias`, with what is needed to read it."""

    weights: NDArray[np.float32]
    """Shape (features,); standardisation is folded in."""
    bias: float
    slope: float
    """Platt scaling: probability = sigmoid(slope * logit + intercept)."""
    intercept: float
    null_mean: float
    """Centre of the logits of plain everyday items (of all harmless ones where those are few)."""
    null_scale: float
    """Their spread, from the upper half (the side that raises false alarms)."""
    threshold: float
    """On the probability scale."""

    def logits(self, features: NDArray[np.float32]) -> Floats:
        """Shape (n,) from features of shape (n, features)."""
        return (features @ self.weights).astype(np.float64) + self.bias

    def probability(self, logit: float) -> float:
        """Calibrated probability of a logit."""
        return float(1.0 / (1.0 + np.exp(-np.clip(self.slope * logit + self.intercept, -60, 60))))

    def for_windows(self, highest: float, windows: int) -> float:
        """The logit of a document whose highest of `windows` window logits is `highest`.

        The maximum of many harmless windows is high by chance. With z the distance of `highest` from the
        harmless centre in units of their spread, the corrected distance z' has Phi(z') = Phi(z)^windows
        (Sidak 1967), so that a document of any length crosses the threshold by chance as often as a single
        window does. The result is below `highest` and rises with it, without ties.
        """
        if windows <= 1:
            return highest
        from scipy.special import log_ndtr, ndtri_exp

        z = (highest - self.null_mean) / self.null_scale
        if z > 35:  # Phi(z) is 1 in double precision; its tail falls as exp(-z^2 / 2)
            return float(highest - self.null_scale * np.log(windows) / z)
        return float(self.null_mean + self.null_scale * ndtri_exp(windows * log_ndtr(z)))

    def numbers(self) -> dict[str, JsonValue]:
        """Everything but the weights, for a profile's manifest."""
        return {name: value for name, value in asdict(self).items() if name != "weights"}

    @classmethod
    def from_parts(cls, weights: NDArray[np.float32], numbers: Mapping[str, float]) -> LinearHead:
        """The head whose `weights` and `numbers` were kept in a profile."""
        return cls(weights=weights, **numbers)


@dataclass(frozen=True, slots=True)
class FitReport:
    """What cross-fitting showed."""

    head: LinearHead
    crossfit: Floats
    """Cross-fitted logits in the order of the rows."""
    facts: dict[str, JsonValue]


def fit_head(
    features: NDArray[np.float32],
    labels: Bools,
    groups: Sequence[str],
    plain: Bools,
    *,
    decide_on: Bools | None = None,
    sensitive: bool = False,
    seed: int = 0,
) -> FitReport:
    """Fit a head and choose its regularisation, calibration and threshold from cross-fitted logits.

    Args:
        features: Shape (n, features).
        labels: True for harmful rows.
        groups: Rows of a group (a matched pair) are never split between folds; at least `FOLDS` groups.
        plain: True for plain everyday rows, whose flagged share is bounded by `MAX_PLAIN_FLAGGED`.
        decide_on: Rows on which calibration, null distribution and threshold are chosen, where only some of
            the rows are of the kind the detector will see; all rows by default.
        sensitive: See `choose_threshold`.
        seed: Order of the folds.

    Raises:
        FitError: If a class is missing or too small, sits in too few groups, a feature is not finite, or
            the activations do not tell the classes apart.
    """
    use = np.ones_like(labels) if decide_on is None else decide_on
    for name, chosen in (("harmful", labels & use), ("harmless", ~labels & use)):
        if (count := int(chosen.sum())) < 2 * FOLDS:
            kind = "" if decide_on is None else " of the kind on which the threshold is chosen"
            message = (
                f"a linear head needs at least {2 * FOLDS} {name} items{kind}; {count} could be read. "
                "Add more."
            )
            raise FitError(message)
    if not np.isfinite(features).all():
        message = (
            "some activations are not finite numbers; the model is damaged or runs in a too small number "
            "format."
        )
        raise FitError(message)
    tried = {strength: _crossfit(features, labels, plain, groups, strength, seed) for strength in STRENGTHS}
    losses = {strength: _log_loss(labels, logits) for strength, logits in tried.items()}
    strength = min(losses, key=lambda strength: losses[strength])
    crossfit = tried[strength]
    weights, bias = _fit_once(features, labels, plain, strength)
    slope, intercept = _platt(crossfit[use], labels[use])
    # Long texts are mostly everyday text, so plain rows say how high its windows come by chance.
    null = use & (plain if (plain & use).sum() >= MIN_PLAIN else ~labels)
    harmless = crossfit[null]
    centre = float(np.median(harmless))
    spread = float((np.quantile(harmless, 0.95) - centre) / 1.6449)
    if slope <= 0 or spread <= 0:
        message = (
            "the activations do not tell harmful from harmless items better than chance: held-out harmful "
            "items score no higher. Check that the labels are not swapped, or add items."
        )
        raise FitError(message)
    cut, facts = choose_threshold(crossfit[use], labels[use], plain[use], sensitive=sensitive)
    head = LinearHead(weights, bias, slope, intercept, centre, spread, _sigmoid(slope * cut + intercept))
    return FitReport(head, crossfit, {"regularisation_C": strength, **facts})


def choose_threshold(
    logits: Floats, labels: Bools, plain: Bools, *, sensitive: bool = False
) -> tuple[float, dict[str, JsonValue]]:
    """The cut with the best balanced accuracy that flags at most `MAX_PLAIN_FLAGGED` of the plain rows.

    Balanced accuracy is taken over the rows that are not plain (pairs and look-alikes). Its curve is flat
    near the top, so that the highest point is decided by noise: of all cuts within one standard error of it
    the one with the most equal shares of missed harm and flagged twins is taken, or with `sensitive` the
    lowest, for where plain rows lie far away and a missed harm costs more than a flagged twin.
    """
    lowest = (
        float(np.quantile(logits[plain], 1 - MAX_PLAIN_FLAGGED, method="higher")) if plain.any() else -np.inf
    )
    paired = ~plain if (~plain & ~labels).any() else np.ones_like(plain)
    candidates = np.unique(logits[paired])
    cuts = (candidates[:-1] + candidates[1:]) / 2
    cuts = np.append(cuts[cuts >= lowest], max(lowest, float(candidates[0])))
    harmful, harmless = np.sort(logits[paired & labels]), np.sort(logits[paired & ~labels])
    caught = 1 - np.searchsorted(harmful, cuts, side="right") / len(harmful)
    passed = np.searchsorted(harmless, cuts, side="right") / len(harmless)
    balanced = (caught + passed) / 2
    best = int(np.argmax(balanced))
    variance = caught[best] * (1 - caught[best]) / len(harmful) + passed[best] * (1 - passed[best]) / len(
        harmless
    )
    close = np.flatnonzero(balanced >= balanced[best] - np.sqrt(variance) / 2)
    close = close[np.argsort(cuts[close])]
    most_equal = close[int(np.argmin(np.abs(caught[close] - passed[close])))]
    place = int(close[0] if sensitive else most_equal)
    cut = float(cuts[place])
    facts: dict[str, JsonValue] = {
        "threshold_rule": (
            f"{'lowest' if sensitive else 'most equal in its errors'} of the cuts within one standard "
            f"error of the best balanced accuracy on pairs, at most {MAX_PLAIN_FLAGGED:.0%} of plain items "
            "flagged"
        ),
        "crossfit_sensitivity": float(caught[place]),
        "crossfit_specificity_on_twins": float(passed[place]),
        "crossfit_plain_flagged": float((logits[plain] > cut).mean()) if plain.any() else None,
    }
    return cut, facts


def _fit_once(
    features: NDArray[np.float32], labels: Bools, plain: Bools, strength: float
) -> tuple[NDArray[np.float32], float]:
    from sklearn.linear_model import LogisticRegression

    mean = features.mean(axis=0, dtype=np.float64)
    scale = features.std(axis=0, dtype=np.float64)
    scale[scale < 1e-12] = 1.0
    model = LogisticRegression(C=strength, class_weight="balanced", max_iter=500, tol=1e-5)
    model.fit((features - mean) / scale, labels, sample_weight=np.where(plain, PLAIN_WEIGHT, 1.0))
    weights = model.coef_[0] / scale
    return weights.astype(np.float32), float(model.intercept_[0] - mean @ weights)


def _crossfit(
    features: NDArray[np.float32],
    labels: Bools,
    plain: Bools,
    groups: Sequence[str],
    strength: float,
    seed: int,
) -> Floats:
    from sklearn.model_selection import GroupKFold

    if len(set(groups)) < FOLDS:
        message = f"expected items of at least {FOLDS} groups (matched pairs), got {len(set(groups))}."
        raise FitError(message)
    out = np.empty(len(labels))
    for train, test in GroupKFold(FOLDS, shuffle=True, random_state=seed).split(features, labels, groups):
        if labels[train].all() or not labels[train].any():
            message = (
                "expected both classes to come from many groups (matched pairs), got one that sits in few."
            )
            raise FitError(message)
        weights, bias = _fit_once(features[train], labels[train], plain[train], strength)
        out[test] = features[test] @ weights + bias
    return out


def _log_loss(labels: Bools, logits: Floats) -> float:
    return float(np.logaddexp(0, np.where(labels, -logits, logits)).mean())


def _platt(logits: Floats, labels: Bools) -> tuple[float, float]:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=1e6, class_weight="balanced").fit(logits[:, None], labels)
    return float(model.coef_[0, 0]), float(model.intercept_[0])


def _sigmoid(value: float) -> float:
    return float(1.0 / (1.0 + np.exp(-value)))
