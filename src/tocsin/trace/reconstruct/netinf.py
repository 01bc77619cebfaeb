"""NETINF: one network for all cascades, and the trees it gives (Gomez-Rodriguez, Leskovec, Krause, KDD 2010).

Follows the R package NetworkInference, which arXiv 2505.18099 used: exponential delays of density
rate * exp(-rate * delay), a factor of 0.5 for a pass along an edge of the network and of 1e-10 for any other,
edges added greedily by how much they raise the log-likelihood of the best trees, and a test of every edge.

In logarithms only the lead of a parent counts, that is how far its score lies above that of the nearest
earlier event without an edge: ln(0.5 / 1e-10) - rate * (delay - delay of the nearest) along an edge. The
density itself cancels, so it cannot underflow.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from tocsin.core.errors import UsageError
from tocsin.trace.cascades import Cascades, Parents
from tocsin.trace.reconstruct.earlier import Floats, Ints, checked_rate, earlier_end
from tocsin.trace.reconstruct.pair_table import EDGE_LEAD, pair_table
from tocsin.trace.reconstruct.rules import nearest

CUTOFF = 0.05
_FIRST_LEAST = 3
"""Pairs met in fewer cascades are left out until the best gain comes down to what they may have."""
_DIGITS = 9
"""Gains equal to this many decimals are ties, so that the order of summing decides nothing."""

Stop = Literal["test", "limit", "no gain"]


@dataclass(frozen=True, slots=True)
class Network:
    """The edges in the order in which they were added, and the trees.

    Args:
        source: Shape (edges,). Places in `Cascades.names`.
        target: Shape (edges,). Places in `Cascades.names`.
        gain: Shape (edges,). Rise of the log-likelihood of all trees, in nats.
        support: Shape (edges,). Cascades whose tree an edge improved.
        p_value: Shape (edges,). Of the test of the rise; 1 where a single cascade leaves no spread to test.
        rate: Of the exponential delay, in 1 over the unit of the times; NaN where nothing has a delay.
        stopped: `test`: the last edge failed the test, and stands last unless failing edges were left out.
            `limit`: as many edges as asked for. `no gain`: no edge improves any tree.
        parents: Parents of the events in the best trees over the network.
    """

    source: Ints
    target: Ints
    gain: Floats
    support: Ints
    p_value: Floats
    rate: float
    stopped: Stop
    parents: Parents


class _Edge(NamedTuple):
    source: int
    target: int
    gain: float
    support: int
    p_value: float


def netinf(
    cascades: Cascades,
    *,
    rate: float | None = None,
    cutoff: float = CUTOFF,
    edges: int | None = None,
    keep_failing: bool = True,
) -> Network:
    """Infer the network of nodes and the parents of all events.

    Without a network every event hangs from the nearest earlier one. An event takes another parent where an
    edge leads from it and its delay is not much longer.

    Args:
        cascades: What is reconstructed. Cascades of one event are no evidence and are not counted.
        rate: 1 over the mean delay; None takes `default_rate`.
        cutoff: Largest p-value, not included, with which the search goes on.
        edges: Stop after so many edges instead of testing.
        keep_failing: Whether the edge that fails the test stays, as it does in the published code.

    Memory grows with the pairs of nodes that meet in three cascades or more, or in fewer where the search
    comes down to them. Of equal gains the pair comes first that improves the first tree in the data.

    Raises:
        UsageError: If the rate is not above 0, the cutoff not in (0, 1) or the number of edges under 1.
    """
    rate = checked_rate(cascades, rate)
    if not 0 < cutoff < 1:
        message = f"expected a cutoff between 0 and 1, got {cutoff}."
        raise UsageError(message)
    if edges is not None and edges < 1:
        message = f"expected 1 edge or more, got {edges}."
        raise UsageError(message)
    search = _Search(cascades, rate)
    found: list[_Edge] = []
    stopped: Stop = "no gain"
    while (pair := search.best()) is not None:
        edge = search.tested(pair)
        failed = edges is None and edge.p_value >= cutoff
        if not failed or keep_failing:
            search.add(pair)
            found.append(edge)
        if failed or len(found) == edges:
            stopped = "test" if failed else "limit"
            break
    return Network(
        np.array([edge.source for edge in found], np.int64),
        np.array([edge.target for edge in found], np.int64),
        np.array([edge.gain for edge in found], np.float64),
        np.array([edge.support for edge in found], np.int64),
        np.array([edge.p_value for edge in found], np.float64),
        rate,
        stopped,
        search.parents,
    )


def netinf_parents(cascades: Cascades) -> Parents:
    """`netinf` with the published settings, as a rule."""
    return netinf(cascades).parents


class _Search:
    """The greedy search.

    An edge changes the parents of its target alone, so only pairs with that target are scored anew, and a
    heap holds the best pair of every target.
    """

    def __init__(self, cascades: Cascades, rate: float) -> None:
        self._cascades = cascades
        self._rate = rate
        self._ends = earlier_end(cascades)
        self._informed = int((cascades.sizes > 1).sum())
        self.parents = nearest(cascades)
        # Lead of the present parent of every event.
        self._lead = np.zeros(len(cascades.nodes))
        self._least = _FIRST_LEAST
        self._load()

    def best(self) -> int | None:
        """The pair that gains most, None where none gains anything."""
        # Pairs outside the table are met in fewer than `least` cascades, so they gain no more than this.
        while not self._heap or -self._heap[0][0] <= (self._least - 1) * EDGE_LEAD + 10.0**-_DIGITS:
            if self._least == 1:
                return None
            self._least -= 1
            self._load()
        return self._heap[0][-1]

    def tested(self, pair: int) -> _Edge:
        """The pair as an edge, with its gain and test."""
        _, rise = self._rise(pair)
        gain = float(rise.sum())
        return _Edge(
            int(self._table.source[pair]),
            int(self._table.target[pair]),
            gain,
            len(rise),
            _p_value(gain, float(rise @ rise), self._informed),
        )

    def add(self, pair: int) -> None:
        """Hang events from their new parents; `pair` is the one that `best` gave."""
        better, _ = self._rise(pair)
        child = self._table.child[better]
        self.parents[child] = self._table.parent[better]
        self._lead[child] = self._table.lead[better]
        heapq.heappop(self._heap)
        self._push(int(self._table.target[pair]))

    def _rise(self, pair: int) -> tuple[Ints, Floats]:
        """Incidences of a pair in which it is better than the present parent, and by how much."""
        low, high = self._table.bounds[pair], self._table.bounds[pair + 1]
        rise = self._table.lead[low:high] - self._lead[self._table.child[low:high]]
        better = np.flatnonzero(rise > 0)
        return low + better, rise[better]

    def _load(self) -> None:
        """Build the table for the present `least` and fill the heap."""
        table = pair_table(self._cascades, self._rate, self._ends, self._lead, self._least)
        self._table = table
        pairs = len(table.source)
        self._pairs_of = np.searchsorted(table.target, np.arange(len(self._cascades.names) + 1))
        gains = self._gains(0, pairs)
        # Every incidence in a new table improves a tree, so the first of a pair is the first that does.
        child, parent = table.child[table.bounds[:-1]], table.parent[table.bounds[:-1]]
        order = np.lexsort((parent, child, -gains, table.target))
        order = order[np.append(True, table.target[order][1:] != table.target[order][:-1])[:pairs]]
        # Gain, event and parent of the first tree improved, pair.
        self._heap: list[tuple[float, int, int, int]] = list(
            zip(
                (-gains[order]).tolist(), child[order].tolist(), parent[order].tolist(), order.tolist(),
                strict=True,
            )
        )  # fmt: skip
        heapq.heapify(self._heap)

    def _gains(self, low: int, high: int) -> Floats:
        """Rounded gains of the pairs from `low` to `high`."""
        if low == high:
            return np.empty(0)
        bounds = self._table.bounds[low : high + 1]
        part = slice(bounds[0], bounds[-1])
        rise = np.maximum(self._table.lead[part] - self._lead[self._table.child[part]], 0)
        gains: Floats = np.add.reduceat(rise, bounds[:-1] - bounds[0])
        return gains.round(_DIGITS)

    def _push(self, target: int) -> None:
        low, high = int(self._pairs_of[target]), int(self._pairs_of[target + 1])
        gains = self._gains(low, high)
        best = float(gains.max())
        if best > 0:
            equal = []
            for pair in (low + np.flatnonzero(gains == best)).tolist():
                first = self._rise(pair)[0][0]
                equal.append((int(self._table.child[first]), int(self._table.parent[first]), pair))
            heapq.heappush(self._heap, (-best, *min(equal)))


def _p_value(gain: float, squares: float, cascades: int) -> float:
    """One-sided p-value of the mean rise over all cascades, less 1 over their number, being above 0.

    Args:
        gain: Sum of the rises.
        squares: Sum of their squares.
        cascades: Number of cascades, of which all others rise by 0.
    """
    if cascades < 2:
        return 1.0
    spread = (squares - gain * gain / cascades) / (cascades - 1)
    if spread <= 0:
        return 0.0 if gain > 1 else 1.0
    return 0.5 * math.erfc((gain - 1) / math.sqrt(2 * cascades * spread))
