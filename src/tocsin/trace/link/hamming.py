"""All pairs of 256-bit hashes within a Hamming distance, found exactly.

A hash is 16 pieces of 16 bits. Two hashes that differ in at most 31 bits differ in at most one bit in some
piece, so looking up each piece as it stands and with each of its bits turned finds every pair.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tocsin.trace.link.minhash import Pairs

MAX_DISTANCE = 31
"""Meta's rule for PDQ: at most 31 of 256 bits."""
_PIECES = 16
_PIECE_BITS = 16
_BATCH = 1 << 20


def distances(hashes: NDArray[np.uint8], pairs: Pairs) -> NDArray[np.int64]:
    """Bits in which the two hashes of each pair differ."""
    wide = np.ascontiguousarray(hashes).view(np.uint64)
    differing: NDArray[np.int64] = (
        np.bitwise_count(wide[pairs[:, 0]] ^ wide[pairs[:, 1]]).sum(axis=1).astype(np.int64)
    )
    return differing


def near_hashes(hashes: NDArray[np.uint8]) -> Pairs:
    """Pairs of places, the lower one first, of hashes at most `MAX_DISTANCE` bits apart.

    Args:
        hashes: Shape (n, 32), all different.
    """
    pieces = np.ascontiguousarray(hashes).view(np.uint16)
    turns = [0, *(1 << bit for bit in range(_PIECE_BITS))]
    kept = [np.empty((0, 2), np.int64)]
    for piece in range(_PIECES):
        values = pieces[:, piece].astype(np.int64)
        order = np.argsort(values, kind="stable")
        ranked = values[order]
        for turn in turns:
            first = np.searchsorted(ranked, values ^ turn, side="left")
            counts = np.searchsorted(ranked, values ^ turn, side="right") - first
            kept.extend(_verified(hashes, order, first, counts))
    return np.unique(np.concatenate(kept), axis=0)


def _verified(
    hashes: NDArray[np.uint8], order: NDArray[np.int64], first: NDArray[np.int64], counts: NDArray[np.int64]
) -> list[Pairs]:
    """Near pairs among the candidates `order[first[i]:first[i] + counts[i]]` of each place i."""
    found = []
    ends = np.cumsum(counts)
    start = 0
    while start < len(counts):
        # At most a batch of candidates at a time, but always one place.
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + _BATCH, side="right")))
        some = np.arange(start, stop)
        left = np.repeat(some, counts[some])
        within = np.arange(len(left)) - np.repeat(ends[some] - counts[some] - before, counts[some])
        right = order[np.repeat(first[some], counts[some]) + within]
        pairs = np.stack((left, right), axis=1)[left < right]
        found.append(pairs[distances(hashes, pairs) <= MAX_DISTANCE])
        start = stop
    return found
