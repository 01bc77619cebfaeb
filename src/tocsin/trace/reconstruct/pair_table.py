"""Pairs of nodes and the events that would make them parent and child: what NETINF scores."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from tocsin.trace.cascades import Cascades
from tocsin.trace.reconstruct.earlier import BLOCK, Floats, Ints, earlier_pairs, starts_of

EDGE_LEAD = math.log(0.5 / 1e-10)
"""What one cascade can gain at most by one edge."""


class PairTable(NamedTuple):
    """Every pair of nodes with the events that would make it a parent and a child.

    Pair `p` goes from `source[p]` to `target[p]` and holds the incidences `bounds[p]` to `bounds[p + 1]`,
    in order of cascades; pairs are sorted by target. `lead` is that of the pair as an edge.
    """

    source: Ints
    target: Ints
    bounds: Ints
    child: Ints
    parent: Ints
    lead: Floats


def pair_table(cascades: Cascades, rate: float, ends: Ints, present: Floats, least: int) -> PairTable:
    """Pairs with at least `least` incidences that can still improve a tree.

    An incidence whose lead is not above that of the present parent never counts again, as the present lead
    only rises.

    Args:
        cascades: What is reconstructed.
        rate: Of the exponential delay.
        ends: What `earlier_end` gives.
        present: Shape (events,). Lead of the present parent of each event.
        least: 1 holds every pair.
    """
    nodes, times, width = cascades.nodes, cascades.times, len(cascades.names)
    # Both ends of a pair take part in `least` cascades, so other events are left out from the start.
    usual = np.bincount(nodes, minlength=width)[nodes] >= least
    places = np.flatnonzero(usual)
    before = np.concatenate(([0], np.cumsum(usual)))
    starts = starts_of(cascades)
    children = np.flatnonzero(usual & (ends > starts))
    children = children[np.argsort(nodes[children], kind="stable")]
    begin, end = before[starts[children]], before[ends[children]]
    parts: list[PairTable] = []
    for low, high in _whole_targets(nodes[children], end - begin):
        for pairs in earlier_pairs(begin[low:high], end[low:high], children[low:high], block=1 << 62):
            child, parent = pairs.child, places[pairs.parent]
            lead = EDGE_LEAD - rate * (times[ends[child] - 1] - times[parent])
            useful = lead > present[child]
            child, parent, lead = child[useful], parent[useful], lead[useful]
            code = nodes[child] * width + nodes[parent]
            order = np.argsort(code, kind="stable")
            code = code[order]
            first = np.flatnonzero(np.append(True, code[1:] != code[:-1])[: len(code)])
            count = np.diff(np.append(first, len(code)))
            enough = count >= least
            order = order[np.repeat(enough, count)]
            code, count = code[first][enough], count[enough]
            parts.append(
                PairTable(code % width, code // width, count, child[order], parent[order], lead[order])
            )
    if not parts:
        none = np.empty(0, np.int64)
        return PairTable(none, none, np.zeros(1, np.int64), none, none, np.empty(0))
    source, target, count, child, parent, lead = (
        np.concatenate(column) for column in zip(*parts, strict=True)
    )
    return PairTable(source, target, np.concatenate(([0], np.cumsum(count))), child, parent, lead)


def _whole_targets(targets: Ints, counts: Ints) -> list[tuple[int, int]]:
    """Ranges of sorted events that keep those of one node together, of `BLOCK` pairs at most or one node."""
    cuts = np.flatnonzero(np.append(targets[1:] != targets[:-1], True)) + 1
    total = np.concatenate(([0], np.cumsum(counts)))
    ranges, low = [], 0
    while low < len(targets):
        full = np.searchsorted(total[cuts], total[low] + BLOCK, side="right") - 1
        high = int(cuts[max(full, np.searchsorted(cuts, low, side="right"))])
        ranges.append((low, high))
        low = high
    return ranges
