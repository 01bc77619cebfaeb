"""Rules that give every event of a cascade a parent, from nodes and times alone.

What a platform releases rarely says who passed an item to whom, and how that gap is filled shapes the answer
(DeVerna and others, "The cascade inference problem"). So several rules stand side by side. Every rule obeys
the contract of `Parents`: a parent is strictly earlier, and the first event, with those of equal time, is a
root.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tocsin.core.errors import InputError, UsageError
from tocsin.trace.cascades import ROOT, Cascades, Parents
from tocsin.trace.reconstruct.earlier import (
    Floats,
    Ints,
    checked_rate,
    earlier_end,
    earlier_pairs,
    starts_of,
)

Rule = Callable[[Cascades], Parents]
"""A way to reconstruct; options are bound beforehand, as with `functools.partial`."""


def star(cascades: Cascades) -> Parents:
    """Every event hangs from the first one: of several first events, from the one that stands first."""
    starts = starts_of(cascades)
    return np.where(earlier_end(cascades) > starts, starts, ROOT)


def nearest(cascades: Cascades) -> Parents:
    """Every event hangs from the latest strictly earlier one: of several, from the one that stands first."""
    ends = earlier_end(cascades)
    # An event's end is the place where its own time begins, so the end of the one before is where that began.
    return np.where(ends > starts_of(cascades), ends[ends - 1], ROOT)


@dataclass(frozen=True, slots=True)
class SharedMembers:
    """How many members two nodes share; pairs that are not listed share none.

    Args:
        codes: Sorted. Lower place times `width` plus higher place, both in `Cascades.names`.
        counts: Aligned with `codes`; above 0.
        width: Number of nodes.
    """

    codes: Ints
    counts: Ints
    width: int

    @classmethod
    def of(
        cls, names: tuple[str, ...], first: NDArray[np.str_], second: NDArray[np.str_], counts: Ints
    ) -> SharedMembers:
        """From a table of pairs, in either order and any order of rows.

        A pair that comes twice, also turned round, counts with its largest number; pairs of a node with
        itself, with a node that is not in `names` or of count 0 are left out.

        Raises:
            InputError: If a count is under 0. The message names the row, counted from 1.
        """
        bad = np.flatnonzero(counts < 0)
        if len(bad):
            message = (
                f"row {bad[0] + 1}: expected a count of shared members of 0 or more, got {counts[bad[0]]}."
            )
            raise InputError(message)
        known = np.asarray(names, str)
        width = len(known)
        if not width or not len(first):
            return cls(np.empty(0, np.int64), np.empty(0, np.int64), width)
        left, right = np.asarray(first, str), np.asarray(second, str)
        ends = [np.minimum(np.searchsorted(known, side), width - 1) for side in (left, right)]
        keep = (known[ends[0]] == left) & (known[ends[1]] == right) & (left != right) & (counts > 0)
        low, high = np.minimum(*ends)[keep], np.maximum(*ends)[keep]
        codes, kept = low * width + high, np.asarray(counts, np.int64)[keep]
        order = np.lexsort((-kept, codes))
        distinct, where = np.unique(codes[order], return_index=True)
        return cls(distinct, kept[order][where], width)

    def check(self, cascades: Cascades) -> None:
        """See that this table speaks of the nodes of these cascades.

        Raises:
            UsageError: If it has another number of nodes.
        """
        if self.width != len(cascades.names):
            message = (
                f"expected shared members of {len(cascades.names)} nodes, got those of {self.width}. "
                "Make the table with the names of the same cascades."
            )
            raise UsageError(message)

    def between(self, first: Ints, second: Ints) -> Ints:
        """Members shared by each pair of nodes; 0 where none."""
        if not len(self.codes):
            return np.zeros(len(first), np.int64)
        codes = np.minimum(first, second) * self.width + np.maximum(first, second)
        found = np.minimum(np.searchsorted(self.codes, codes), len(self.codes) - 1)
        return np.where(self.codes[found] == codes, self.counts[found], 0)


Preference = Literal["nearest", "shared"]


def membership(cascades: Cascades, shared: SharedMembers, prefer: Preference = "nearest") -> Parents:
    """Every event hangs from an earlier one whose node shares members with its own; without one it is a root.

    Args:
        cascades: What is reconstructed.
        shared: Members shared by pairs of nodes.
        prefer: `nearest` takes the latest permitted event, then the one that shares most; `shared` the one
            that shares most, then the latest. What is left goes to the event that stands first.

    Work grows with the sum of squared cascade sizes; memory does not.

    Raises:
        UsageError: If `shared` was made for other nodes.
    """
    shared.check(cascades)
    parents = np.full(len(cascades.nodes), ROOT, np.int64)
    children = np.arange(len(cascades.nodes))
    for pairs in earlier_pairs(starts_of(cascades), earlier_end(cascades), children):
        members = shared.between(cascades.nodes[pairs.parent], cascades.nodes[pairs.child])
        permitted = members > 0
        child, parent, members = pairs.child[permitted], pairs.parent[permitted], members[permitted]
        time = cascades.times[parent]
        later, stronger = (time, members) if prefer == "nearest" else (members, time)
        # The best of each child comes last, and the last assignment stays.
        order = np.lexsort((-parent, stronger, later, child))
        last = np.ones(len(order), bool)
        last[:-1] = child[order][1:] != child[order][:-1]
        parents[child[order][last]] = parent[order][last]
    return parents


def sampled(
    cascades: Cascades,
    *,
    seed: int,
    rate: float | None = None,
    shared: SharedMembers | None = None,
) -> Parents:
    """Every event hangs from a strictly earlier one drawn with probability ~ exp(-rate * delay).

    One draw; take several seeds for a range. With `shared` the weight is also multiplied by the number of
    shared members, so that an event without an earlier node that shares members is a root.

    Args:
        cascades: What is reconstructed.
        seed: Equal seeds give equal parents.
        rate: 1 over the mean delay; None takes `default_rate`.
        shared: Members shared by pairs of nodes.

    Work is in proportion to the events times the logarithm of the largest cascade; with `shared` it grows
    with the sum of squared cascade sizes.

    Raises:
        UsageError: If `rate` is not above 0, or `shared` was made for other nodes.
    """
    random = np.random.default_rng(seed)
    rate = checked_rate(cascades, rate)
    if shared is not None:
        shared.check(cascades)
    if np.isnan(rate):
        return np.full(len(cascades.nodes), ROOT, np.int64)
    if shared is None:
        return _sampled_by_time(cascades, rate, random)
    parents = np.full(len(cascades.nodes), ROOT, np.int64)
    children = np.arange(len(cascades.nodes))
    for pairs in earlier_pairs(starts_of(cascades), earlier_end(cascades), children):
        members = shared.between(cascades.nodes[pairs.parent], cascades.nodes[pairs.child])
        permitted = members > 0
        child, parent = pairs.child[permitted], pairs.parent[permitted]
        weight = np.log(members[permitted]) - rate * (cascades.times[child] - cascades.times[parent])
        # The largest of log weights plus Gumbel noise falls on each with its probability.
        order = np.lexsort((weight + random.gumbel(size=len(weight)), child))
        last = np.ones(len(order), bool)
        last[:-1] = child[order][1:] != child[order][:-1]
        parents[child[order][last]] = parent[order][last]
    return parents


def _sampled_by_time(cascades: Cascades, rate: float, random: np.random.Generator) -> Parents:
    """Weights of a cascade differ only by a factor from child to child, so one running sum serves all."""
    starts, ends = starts_of(cascades), earlier_end(cascades)
    total = _running_log_sum(rate * (cascades.times - cascades.times[starts]), starts)
    children = np.flatnonzero(ends > starts)
    low, high = starts[children], ends[children] - 1
    wanted = total[high] + np.log1p(-random.random(len(children)))
    while (open_ := low < high).any():
        middle = (low + high) // 2
        enough = total[middle] >= wanted
        high = np.where(open_ & enough, middle, high)
        low = np.where(open_ & ~enough, middle + 1, low)
    parents = np.full(len(starts), ROOT, np.int64)
    parents[children] = low
    return parents


def _running_log_sum(log_weights: Floats, starts: Ints) -> Floats:
    """Log of the sum of weights up to and with each event, within its cascade, by doubling steps."""
    total = log_weights.copy()
    rank = np.arange(len(starts)) - starts
    step = 1
    while (reach := np.flatnonzero(rank >= step)).size:
        total[reach] = np.logaddexp(total[reach], total[reach - step])
        step *= 2
    return total
