"""Pairs of 256-bit hashes within a Hamming distance: all of them, or a sample of the crowded ones.

A hash is 16 pieces of 16 bits. Two hashes that differ in at most 31 bits differ in at most one bit in some
piece, so looking up each piece as it stands and with each of its bits turned finds every pair.

Thousands of re-encodings of one picture would give the square of their number in pairs, although a few for
each hash join them just as well. So buckets of a piece that hold more than `CROWD` hashes are compared with a
few of their members only, and two hashes that both have `CROWD` near ones are not compared again. A log can
hold anything: what it can make this return stays under 800 pairs for each hash, and mostly far under that.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tocsin.trace.link.minhash import Pairs, batches, distinct

MAX_DISTANCE = 31
"""Meta's rule for PDQ: at most 31 of 256 bits."""
CROWD = 256
"""Hashes in a bucket, or near ones of a hash, beyond which some stand for all."""
NEXT = 4
"""Members of its own crowded bucket that a hash is compared with, the next ones in the order of all bits."""
_VOTERS = 1024
"""Members of a crowded bucket by whose majority its hub is chosen."""
_PIECES = 16
_PIECE_BITS = 16
_BATCH = 1 << 18
"""Candidates at a time: some 50 MB."""

Numbers = NDArray[np.int64]


class NearHashes(NamedTuple):
    """What a search found."""

    pairs: Pairs
    is_partial: NDArray[np.bool_]
    """Shape (hashes,): whether some pairs of the hash may be missing. A pair of two others never is."""


def distances(hashes: NDArray[np.uint8], pairs: Pairs) -> Numbers:
    """Bits in which the two hashes of each pair differ."""
    return _distances(np.ascontiguousarray(hashes).view(np.uint64), pairs[:, 0], pairs[:, 1])


def _distances(wide: NDArray[np.uint64], left: Numbers, right: Numbers) -> Numbers:
    differing: Numbers = np.bitwise_count(wide[left] ^ wide[right]).sum(axis=1).astype(np.int64)
    return differing


def search(hashes: NDArray[np.uint8]) -> NearHashes:
    """Near pairs, and of which hashes they are a sample only.

    At most 17 * 16 * CROWD / 2 comparisons for each hash, and at most 2 * CROWD + 17 * 16 pairs: all but
    those with a hub have a hash that had under `CROWD` near ones before the step that found them.

    Args:
        hashes: Shape (n, 32), all different.
    """
    pieces = np.ascontiguousarray(hashes).view(np.uint16)
    found = _Found(hashes)
    for piece in range(_PIECES):
        buckets = _Buckets(hashes, np.roll(pieces, -piece, axis=1))
        found.is_hub[buckets.hubs[buckets.hubs >= 0]] = True
        for turn in [0, *(1 << bit for bit in range(_PIECE_BITS))]:
            first, counts = buckets.exact(turn)
            found.compare_runs(buckets.order, first, counts)
            if buckets.is_crowded:
                some, sampled = buckets.sample(turn)
                found.compare(*some)
                found.is_partial |= sampled
        found.end_piece()
    return found.result()


class _Found:
    """Near pairs found so far."""

    def __init__(self, hashes: NDArray[np.uint8]) -> None:
        self.n = len(hashes)
        self.wide = np.ascontiguousarray(hashes).view(np.uint64)
        self.known: Numbers = np.empty(0, np.int64)
        """`lower * n + higher` of the pairs of earlier pieces, sorted."""
        self.fresh: list[Numbers] = []
        """Those of this piece, which are different from each other and from the known ones."""
        self.degree = np.zeros(self.n, np.int64)
        self.is_hub = np.zeros(self.n, bool)
        """Hubs of this piece, which are always compared: they hold a crowd together."""
        self.is_partial = np.zeros(self.n, bool)

    def compare_runs(self, order: Numbers, first: Numbers, counts: Numbers) -> None:
        """Compare each `order[i]` with `order[first[i]:first[i] + counts[i]]`."""
        ends = np.cumsum(counts)
        for start, stop in batches(counts, _BATCH) if counts.any() else ():
            before = ends[start - 1] if start else 0
            part = counts[start:stop]
            left = np.repeat(np.arange(start, stop), part)
            shift = first[start:stop] - (ends[start:stop] - part - before)
            right = np.arange(len(left)) + np.repeat(shift, part)
            self._keep(order[left], order[right])

    def compare(self, left: Numbers, right: Numbers) -> None:
        """Compare the pairs of places, of which some may be the same."""
        codes = distinct(np.minimum(left, right) * self.n + np.maximum(left, right))
        for begin in range(0, len(codes), _BATCH):
            lower, higher = np.divmod(codes[begin : begin + _BATCH], max(self.n, 1))
            self._keep(lower, higher)

    def _keep(self, left: Numbers, right: Numbers) -> None:
        is_full = (self.degree >= CROWD) & ~self.is_hub
        if is_full.any():
            is_open = ~(is_full[left] & is_full[right])
            left, right = left[is_open], right[is_open]
        near = _distances(self.wide, left, right) <= MAX_DISTANCE
        if not near.any():
            return
        left, right = left[near], right[near]
        codes = np.minimum(left, right) * self.n + np.maximum(left, right)
        if len(self.known):
            place = np.minimum(np.searchsorted(self.known, codes), len(self.known) - 1)
            codes = codes[self.known[place] != codes]
        for side in np.divmod(codes, self.n):
            self.degree += np.bincount(side, minlength=self.n)
        self.fresh.append(codes)

    def end_piece(self) -> None:
        """Take what the piece has added to what is known."""
        self.known = np.concatenate((self.known, *self.fresh))
        # The known ones are sorted already, which a stable sort makes use of.
        self.known.sort(kind="stable")
        self.fresh = []
        self.is_hub[:] = False

    def result(self) -> NearHashes:
        pairs = np.stack(np.divmod(self.known, max(self.n, 1)), axis=1)
        return NearHashes(pairs.astype(np.int64), self.is_partial | (self.degree >= CROWD))


class _Buckets:
    """Hashes by the value of one piece, bucket after bucket.

    Args:
        hashes: Shape (n, 32).
        rolled: Shape (n, 16): their pieces, the one in question first.
    """

    def __init__(self, hashes: NDArray[np.uint8], rolled: NDArray[np.uint16]) -> None:
        self.hashes = hashes
        values = rolled[:, 0].astype(np.int64)
        self.order: Numbers = np.argsort(values, kind="stable")
        self.sizes = np.bincount(values, minlength=1 << _PIECE_BITS)
        self.starts = np.cumsum(self.sizes) - self.sizes
        self.ranked = values[self.order]
        self.crowded = np.flatnonzero(self.sizes > CROWD)
        self.is_crowded = len(self.crowded) > 0
        self.hubs = np.full(1 << _PIECE_BITS, -1)
        if self.is_crowded:
            # In the order of the pieces that follow, hashes that share those as well lie side by side.
            words = np.ascontiguousarray(rolled).view(np.uint64)
            places = np.flatnonzero(self.sizes[self.ranked] > CROWD)
            some = self.order[places]
            self.order[places] = some[np.lexsort((words[some, 1], words[some, 0], self.ranked[places]))]
            for value in self.crowded:
                self.hubs[value] = self._hub(self.order[self.starts[value] :][: self.sizes[value]])

    def _hub(self, members: Numbers) -> int:
        """Member nearest to what most members have in each bit: of copies the one most like the others."""
        voters = members[np.linspace(0, len(members) - 1, min(len(members), _VOTERS)).astype(np.int64)]
        bits = np.unpackbits(self.hashes[voters], axis=1).mean(axis=0) > 0.5
        far = np.bitwise_count(self.hashes[members] ^ np.packbits(bits)).sum(axis=1)
        return int(members[np.argmin(far)])

    def exact(self, turn: int) -> tuple[Numbers, Numbers]:
        """For each place of the order, where its candidates begin in it, and how many they are.

        Every two buckets meet once, and both hold at most `CROWD`.
        """
        other = self.ranked ^ turn
        if turn:
            first, counts = self.starts[other], self.sizes[other]
            meets = ((self.ranked & turn) == 0) & (counts <= CROWD)
        else:
            first = np.arange(1, len(self.order) + 1)
            counts = self.starts[other] + self.sizes[other] - first
            meets = np.ones(len(self.order), bool)
        return first, np.where(meets & (self.sizes[self.ranked] <= CROWD), counts, 0)

    def sample(self, turn: int) -> tuple[tuple[Numbers, Numbers], NDArray[np.bool_]]:
        """Candidate pairs of two buckets of which one is crowded, and the hashes of such buckets.

        In its own bucket a hash meets the hub and the next few; from the smaller of two buckets it meets the
        hub of the larger one and a member of the same relative rank.
        """
        mine = self.sizes[self.ranked]
        other = self.ranked ^ turn
        theirs = self.sizes[other]
        meets = (np.maximum(mine, theirs) > CROWD) & (theirs > 0)
        is_sampled = np.zeros(len(self.order), bool)
        is_sampled[self.order[meets]] = True
        place = np.flatnonzero(meets & (mine <= theirs))
        bucket = other[place]
        targets = [self.hubs[bucket]]
        rank = place - self.starts[self.ranked[place]]
        if turn:
            targets.append(self.order[self.starts[bucket] + rank * theirs[place] // mine[place]])
        else:
            # Past the end of the bucket comes its beginning.
            ranks = [(rank + step) % mine[place] for step in range(1, NEXT + 1)]
            targets += [self.order[self.starts[bucket] + after] for after in ranks]
        left, right = np.tile(self.order[place], len(targets)), np.concatenate(targets)
        return (left[left != right], right[left != right]), is_sampled
