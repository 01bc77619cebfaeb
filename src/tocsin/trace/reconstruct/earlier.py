"""Which events of a cascade came strictly before which: the ground of every rule of reconstruction."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tocsin.core.errors import UsageError
from tocsin.trace.cascades import Cascades

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

BLOCK = 4_000_000
"""Pairs of events held at a time: about 100 MB with what is computed from them."""


class Pairs(NamedTuple):
    """Places of an event and of an earlier one of its cascade, those of one event side by side."""

    child: Ints
    parent: Ints


def starts_of(cascades: Cascades) -> Ints:
    """Shape (events,). Place of the first event of each event's cascade."""
    return np.repeat(cascades.offsets[:-1], cascades.sizes)


def earlier_end(cascades: Cascades) -> Ints:
    """Shape (events,). End of the strictly earlier events: those of event `e` are `starts_of[e]` up to it.

    Events of equal time have the same end, as neither is earlier than the other.
    """
    places = np.arange(len(cascades.times))
    if not len(places):
        return places
    fresh = np.ones(len(places), bool)
    fresh[1:] = (cascades.times[1:] != cascades.times[:-1]) | (cascades.owner[1:] != cascades.owner[:-1])
    ends: Ints = np.maximum.accumulate(np.where(fresh, places, 0))
    return ends


def earlier_pairs(begin: Ints, end: Ints, children: Ints, block: int = BLOCK) -> Iterator[Pairs]:
    """Pairs of each of `children` and the events from `begin` to `end`, in blocks of bounded size.

    Args:
        begin: Shape (children,). Place of the first earlier event.
        end: Shape (children,). Place after the last one.
        children: Shape (children,). Places of events; one without earlier events gives no pair.
        block: Largest number of pairs of a block. An event with more has a block of its own.
    """
    count = end - begin
    begin, count, children = begin[count > 0], count[count > 0], children[count > 0]
    total = np.cumsum(count)
    low = 0
    while low < len(children):
        done = total[low - 1] if low else 0
        high = max(low + 1, int(np.searchsorted(total, done + block, side="right")))
        sizes = count[low:high]
        starts = total[low:high] - sizes - done
        parent = np.arange(total[high - 1] - done) + np.repeat(begin[low:high] - starts, sizes)
        yield Pairs(np.repeat(children[low:high], sizes), parent)
        low = high


def default_rate(cascades: Cascades) -> float:
    """Rate of the exponential delay: the mean of two estimates, as NETINF's published code takes it.

    One is 1 over the mean time since the first event of the cascade, the other 1 over the mean gap between
    consecutive events; both run over all events but the first of each cascade. In 1 over the unit of the
    times; NaN where no event is later than another.
    """
    starts = starts_of(cascades)
    later = np.flatnonzero(np.arange(len(starts)) > starts)
    if not len(later):
        return float("nan")
    since = float(np.mean(cascades.times[later] - cascades.times[starts[later]]))
    gap = float(np.mean(cascades.times[later] - cascades.times[later - 1]))
    return (1 / since + 1 / gap) / 2 if gap > 0 else float("nan")


def checked_rate(cascades: Cascades, rate: float | None) -> float:
    """The given rate, or the default one.

    Raises:
        UsageError: If the given rate is not above 0.
    """
    if rate is None:
        return default_rate(cascades)
    if not 0 < rate < float("inf"):
        message = (
            f"expected a rate above 0, got {rate}. It is 1 over the mean delay, in the unit of the times."
        )
        raise UsageError(message)
    return rate
