"""P-values corrected for the number of tests made."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tocsin.core.errors import UsageError


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Holm's step-down correction (1979): reject where the result is below alpha; bounds any false rejection.

    Args:
        p: Shape (m,), each from 0 to 1.

    Returns:
        Adjusted p-values in the order given, from 0 to 1, never below the originals.

    Raises:
        UsageError: If a value is outside 0 to 1 or NaN.

    Example:
        >>> holm([0.01, 0.04, 0.03]).round(2).tolist()
        [0.03, 0.06, 0.06]
    """
    values = _checked(p)
    order = np.argsort(values, kind="stable")
    m = len(values)
    adjusted = np.empty(m)
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * np.arange(m, 0, -1)), 1.0)
    return adjusted


def benjamini_hochberg(p: ArrayLike) -> NDArray[np.float64]:
    """Benjamini and Hochberg's correction (1995): bounds the expected share of false rejections.

    Arguments, result and errors as for `holm`.
    """
    from scipy.stats import false_discovery_control

    values = _checked(p)
    if len(values) == 0:
        return values
    return np.asarray(false_discovery_control(values, method="bh"), dtype=np.float64)


def _checked(p: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(p, dtype=np.float64)
    if values.ndim != 1 or not bool(np.all((values >= 0) & (values <= 1))):
        message = f"expected a list of p-values from 0 to 1, got shape {values.shape} or values outside."
        raise UsageError(message)
    return values
