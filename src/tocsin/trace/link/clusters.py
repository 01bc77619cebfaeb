"""From pairs of copies to items: union of pairs, a guard against chaining, one number per message."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tocsin.trace.link.minhash import Codes, Offsets, Pairs, jaccard

GUARD = 0.25
"""Least Jaccard similarity of a text to the text of its item that has the most links."""
_ROUNDS = 8


def components(pairs: Pairs, texts: int) -> NDArray[np.int64]:
    """Item of every text: the lowest text number that its pairs reach."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    ones = np.ones(len(pairs), np.int8)
    graph = coo_matrix((ones, (pairs[:, 0], pairs[:, 1])), shape=(texts, texts))
    count, labels = connected_components(graph, directed=False)
    lowest = np.full(count, texts, np.int64)
    np.minimum.at(lowest, labels, np.arange(texts))
    item: NDArray[np.int64] = lowest[labels]
    return item


def guarded(pairs: Pairs, texts: int, codes: Codes, offsets: Offsets) -> tuple[NDArray[np.int64], int]:
    """Items, and how many texts were cut from an item whose centre they do not resemble.

    Two texts that share nothing can be joined by a chain of edits. The centre of an item is its text with
    most links; texts under `GUARD` to it lose their links to those that stay, and are joined anew.
    """
    cut = 0
    for _ in range(_ROUNDS):
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
        far[member[jaccard(codes, offsets, against) < GUARD]] = True
        if not far.any():
            break
        cut += int(far.sum())
        pairs = pairs[far[pairs[:, 0]] == far[pairs[:, 1]]]
    return components(pairs, texts), cut
