"""How common something is, corrected for the errors of the detector that counted it."""

from __future__ import annotations

import math

from tocsin.core.errors import UsageError
from tocsin.core.stats.intervals import Rate, normal_quantile

METHOD = "Rogan-Gladen, Lang-Reiczigel interval"


def rogan_gladen(k: int, n: int, sensitivity: Rate, specificity: Rate, confidence: float = 0.95) -> Rate:
    """Prevalence behind k flagged of n items, for a detector of measured sensitivity and specificity.

    Estimate: (k/n + Sp - 1) / (Se + Sp - 1) (Rogan and Gladen 1978). Interval: Lang and Reiczigel (2014),
    which carries the uncertainty of all three shares: each is first drawn towards the middle (k/n as in
    Wilson's interval, Se and Sp with one added hit and one added miss), then the delta method is used around
    a shifted centre.

    Args:
        k: Flagged items.
        n: Items judged.
        sensitivity: Share of positives that are flagged; its `n` is the number of positives it was measured
            on.
        specificity: Share of negatives that are not flagged; its `n` is the number of negatives.
        confidence: Coverage of the interval; the method was tested for 0.90 to 0.99.

    Returns:
        From 0 to 1. An estimate or bound outside is clipped and `note` says so: fewer (or more) items were
        flagged than the detector's errors alone explain.

    Raises:
        UsageError: If a share was measured on nothing, counts do not fit, or Se + Sp <= 1, where flags say
            nothing about prevalence.

    Example:
        >>> rate = rogan_gladen(30, 100, Rate(0.9, 0, 1, 200), Rate(0.8, 0, 1, 200))
        >>> round(rate.value, 4)
        0.1429
    """
    if n <= 0 or not 0 <= k <= n:
        message = (
            f"expected 0 <= k <= n and n > 0, got k={k} and n={n}. Count flagged items among those judged."
        )
        raise UsageError(message)
    for name, rate in (("sensitivity", sensitivity), ("specificity", specificity)):
        if rate.n <= 0 or not 0 <= rate.value <= 1:
            message = f"expected a {name} from 0 to 1 measured on items, got {rate.value} on {rate.n}."
            raise UsageError(message)
    se, sp = sensitivity.value, specificity.value
    z2 = normal_quantile(confidence) ** 2
    n_se, n_sp, n_all = sensitivity.n + 2, specificity.n + 2, n + z2
    se_shrunk = (sensitivity.n * se + 1) / n_se
    sp_shrunk = (specificity.n * sp + 1) / n_sp
    apparent = (k + z2 / 2) / n_all
    slope = se_shrunk + sp_shrunk - 1
    if se + sp <= 1:
        message = (
            "expected a detector better than chance (sensitivity + specificity > 1), "
            f"got {se:.3f} + {sp:.3f}. Prevalence cannot be corrected with it."
        )
        raise UsageError(message)
    estimate = (k / n + sp - 1) / (se + sp - 1)
    value = _clip(estimate)
    if slope <= 0:
        return Rate(value, 0.0, 1.0, n, METHOD, "too few controls to bound the detector's errors")
    centre = (apparent + sp_shrunk - 1) / slope
    from_se = se_shrunk * (1 - se_shrunk) / n_se
    from_sp = sp_shrunk * (1 - sp_shrunk) / n_sp
    shift = 2 * z2 * (centre * from_se - (1 - centre) * from_sp)
    variance = apparent * (1 - apparent) / n_all + centre**2 * from_se + (1 - centre) ** 2 * from_sp
    half = math.sqrt(z2 * variance) / slope
    low, high = centre + shift - half, centre + shift + half
    # Where the estimate lies outside 0..1 the shifted centre may leave it out of its own interval.
    low, high = min(_clip(low), value), max(_clip(high), value)
    note = ""
    if not 0 <= estimate <= 1:
        side = "fewer" if estimate < 0 else "more"
        note = (
            f"clipped from {estimate:.4f}: {side} items were flagged than the detector's errors alone explain"
        )
    return Rate(value, low, high, n, METHOD, note)


def _clip(value: float) -> float:
    return min(1.0, max(0.0, value))
