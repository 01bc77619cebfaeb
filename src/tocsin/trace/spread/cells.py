"""Which figures are too few to show. Everything that leaves the private part passes through here.

Rare labels and modalities are pooled before anything is counted, so that no figure is hidden alone and could
be had back by subtracting the others from a total.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tocsin.trace.compare.attributes import Attributes

POOLED = "pooled"
"""Stands for all labels, or modalities, of fewer cascades than the smallest cell."""


def cell(count: int, least: int) -> int | None:
    """A count that may be shown: none, or at least the smallest cell."""
    return count if count == 0 or count >= least else None


def share(value: float, n: int, least: int) -> float | None:
    """A share of n that may be shown: neither it nor the rest stands for few."""
    few = [count for count in (round(value * n), n - round(value * n)) if 0 < count < least]
    return None if few or not math.isfinite(value) else float(value)


def pooled(attributes: Attributes, least: int) -> Attributes:
    """Attributes in which every label and every modality stands for at least the smallest cell.

    If the rare ones together are still too few, the next rarest joins them.
    """
    return replace(
        attributes,
        labels=_pooled(attributes.labels, least),
        modalities=_pooled(attributes.modalities, least),
    )


def _pooled(values: NDArray[np.str_], least: int) -> NDArray[np.str_]:
    names, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    order = np.argsort(counts, kind="stable")
    rare = counts < least
    for place in order:
        if not rare.any() or counts[rare].sum() >= least:
            break
        rare[place] = True
    chosen = np.where(rare, POOLED, names) if rare.any() else names
    return np.asarray(chosen[places.ravel()], str)


def stage_cells(counts: Mapping[str, int], least: int) -> dict[str, int | None]:
    """Counts of one stage. Where one alone would be hidden, the next smallest is hidden too."""
    hidden = [name for name, value in counts.items() if 0 < value < least]
    rest = sorted((value, name) for name, value in counts.items() if value >= least)
    if len(hidden) == 1 and rest:
        hidden.append(rest[0][1])
    return {name: None if name in hidden else value for name, value in counts.items()}


def spaced(shares: NDArray[np.float64], n: int, least: int) -> NDArray[np.bool_]:
    """Which steps of a falling distribution function to keep, so that neighbours are the smallest cell apart.

    Args:
        shares: P(X >= x) at ascending x, from 1.
        n: Values behind it.
        least: Smallest cell.
    """
    counts = np.rint(shares * n).astype(np.int64)
    kept = np.zeros(len(counts), bool)
    last = None
    for place, count in enumerate(counts.tolist()):
        if count >= least and (last is None or last - count >= least):
            kept[place] = True
            last = count
    return kept
