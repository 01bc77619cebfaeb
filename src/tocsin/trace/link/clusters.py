"""From pairs of copies to items: union of pairs, and a guard against chaining."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tocsin.trace.link.minhash import Pairs

_ROUNDS = 8


def components(pairs: Pairs, texts: int) -> NDArray[np.int64]:
    """Item of each text (or medium): the lowest number that its pairs reach."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    ones = np.ones(len(pairs), np.int8)
    graph = coo_matrix((ones, (pairs[:, 0], pairs[:, 1])), shape=(texts, texts))
    count, labels = connected_components(graph, directed=False)
    lowest = np.full(count, texts, np.int64)
    np.minimum.at(lowest, labels, np.arange(texts))
    item: NDArray[np.int64] = lowest[labels]
    return item


def guarded(
    pairs: Pairs, texts: int, is_far: Callable[[Pairs], NDArray[np.bool_]]
) -> tuple[NDArray[np.int64], int]:
    """Items, and how many texts (or media) were cut from an item whose centre they do not resemble.

    Two texts that share nothing can be joined by a chain of edits. The centre of an item is its text with
    most links; texts that are far from it lose their links to those that stay, and are joined anew.

    Args:
        pairs: Links.
        texts: How many there are.
        is_far: Whether the two of each pair do not resemble each other at all.
    """
    cut = 0
    for _ in range(_ROUNDS if len(pairs) else 0):
        items = components(pairs, texts)
        degree = np.bincount(pairs.ravel(), minlength=texts)
        order = np.lexsort((np.arange(texts), -degree, items))
        first = np.concatenate(([True], items[order][1:] != items[order][:-1]))
        centre = np.empty(texts, np.int64)
        centre[items[order[first]]] = order[first]
        mine = centre[items]
        member = np.flatnonzero((degree > 0) & (mine != np.arange(texts)))
        against = np.stack((np.minimum(member, mine[member]), np.maximum(member, mine[member])), axis=1)
        far = np.zeros(texts, bool)
        far[member[is_far(against)]] = True
        if not far.any():
            break
        cut += int(far.sum())
        pairs = pairs[far[pairs[:, 0]] == far[pairs[:, 1]]]
    return components(pairs, texts), cut
