"""Which clips are mostly made of the same frames. A picture is a clip of one frame.

Where a crowd of frames look alike, they only propose pairs of clips: for such frames `search` gives a sample,
and the frames of the clips that it proposes are then compared one by one.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tocsin.trace.link.hamming import MAX_DISTANCE, distances, search
from tocsin.trace.link.minhash import Pairs, batches, distinct

MIN_SHARE = 0.8
"""Of the frames of the shorter clip (vPDQ)."""
GUARD_BITS = 2 * MAX_DISTANCE
"""Farthest nearest frame of a medium from the medium of its item that has the most links."""
MAX_HOLDERS = 500
"""A frame that looks like more frames of clips than this, such as a title card, proposes only some clips."""
_NEXT = 4
"""Clips of a common frame that each of them is proposed to, and that near frames propose to each other."""
_RECOUNTED = 16
"""Pairs of clips to be recounted that each clip is in at least, if it has as many."""
_BATCH = 1 << 20
"""Matches or distances at a time: some 100 MB."""

Numbers = NDArray[np.int64]


class Clips:
    """Frames of media of one modality.

    Args:
        hashes: Shape (distinct frames, 32).
        frame: Shape (frames of all media,): place in `hashes` of each, medium after medium. The frames of one
            medium are all different.
        sizes: Frames of each medium, at least one.
    """

    def __init__(self, hashes: NDArray[np.uint8], frame: Numbers, sizes: Numbers) -> None:
        self.hashes = hashes
        self.frame = frame
        self.sizes = sizes
        self.starts = np.cumsum(sizes) - sizes
        self.clip = np.repeat(np.arange(len(sizes)), sizes)

    def alike(self) -> Pairs:
        """Pairs of media of which the shorter is mostly in the longer, all or enough of them to group by.

        A frame has at most `MAX_HOLDERS` matches; one that looks like more has those of its first clips and
        the next clips only. What they leave open is recounted, for some 2 * `_RECOUNTED` pairs for each clip
        at most, chosen by their matches. So all is linear in the frames of the log, but for the recount of
        two clips, which takes the product of their lengths in time, though not in memory.
        """
        matches = _Matches(self)
        linked = [np.empty(0, np.int64)]
        doubtful = np.empty((0, 3), np.int64)
        for begin, end in batches(np.add.reduceat(matches.weights, self.starts), _BATCH):
            some, left = self._judged(matches, begin, end)
            linked.append(some)
            doubtful = _foremost(np.concatenate((doubtful, left)), len(self.sizes))
        pairs = doubtful[:, :2]
        sure = self.matched(pairs) / self.sizes[pairs[:, 0]] >= MIN_SHARE
        linked.append(pairs[sure].min(axis=1) * len(self.sizes) + pairs[sure].max(axis=1))
        codes = distinct(np.concatenate(linked))
        return np.stack(np.divmod(codes, max(len(self.sizes), 1)), axis=1).astype(np.int64)

    def _judged(self, matches: _Matches, begin: int, end: int) -> tuple[Numbers, Numbers]:
        """Links of the clips from `begin` to `end` with longer ones, and what must be recounted.

        Returns:
            `lower * clips + higher` of the links; rows of shorter clip, longer clip, frames matched so far.
        """
        n = len(self.sizes)
        last = self.starts[end - 1] + self.sizes[end - 1]
        mine, other = matches.of(np.arange(self.starts[begin], last))
        a, b = self.clip[mine], self.clip[other]
        fits = (a != b) & (self.sizes[a] <= self.sizes[b])
        # A frame that looks like several of the other clip counts once.
        mine, b = np.divmod(distinct(mine[fits] * n + b[fits]), n)
        codes = np.sort((self.clip[mine] * n + b) * 2 + matches.is_open[mine])
        starts = np.flatnonzero(np.diff(codes >> 1, prepend=-1))
        counts = np.diff(starts, append=len(codes))
        open_matched = np.add.reduceat(codes & 1, starts) if len(codes) else codes
        a, b = np.divmod(codes[starts] >> 1, n)
        at_most = counts + matches.open_frames[a] - open_matched
        is_linked = counts / self.sizes[a] >= MIN_SHARE
        in_doubt = ~is_linked & (at_most / self.sizes[a] >= MIN_SHARE)
        links = np.minimum(a, b)[is_linked] * n + np.maximum(a, b)[is_linked]
        return distinct(links), np.stack((a, b, counts), axis=1)[in_doubt]

    def matched(self, pairs: Pairs) -> Numbers:
        """Frames of the first medium of each pair that look like one of the second."""
        sizes = self.sizes[pairs[:, 0]]
        starts = np.cumsum(sizes) - sizes
        hit = np.zeros(int(sizes.sum()), np.int64)
        for owner, row, apart in self._compared(pairs):
            hit[(starts[owner] + row)[apart <= MAX_DISTANCE]] = 1
        return np.add.reduceat(hit, starts) if len(pairs) else np.empty(0, np.int64)

    def are_far(self, pairs: Pairs) -> NDArray[np.bool_]:
        """Whether not even the nearest frames of the two media of a pair look alike."""
        return self.nearest(pairs) > GUARD_BITS

    def nearest(self, pairs: Pairs) -> Numbers:
        """Least distance of a frame of the one medium to a frame of the other, for each pair."""
        found = np.full(len(pairs), np.iinfo(np.int64).max)
        for owner, _, apart in self._compared(pairs):
            np.minimum.at(found, owner, apart)
        return found

    def _compared(self, pairs: Pairs) -> Iterator[tuple[Numbers, Numbers, Numbers]]:
        """Pair, frame of its first medium, and distance to one of its second: all of them, in batches."""
        ends = np.cumsum(self.sizes[pairs].prod(axis=1))
        total = int(ends[-1]) if len(ends) else 0
        for begin in range(0, total, _BATCH):
            step = np.arange(begin, min(begin + _BATCH, total))
            owner = np.searchsorted(ends, step, side="right")
            width = self.sizes[pairs[owner, 1]]
            row, column = np.divmod(step - (ends[owner] - self.sizes[pairs[owner, 0]] * width), width)
            left = self.frame[self.starts[pairs[owner, 0]] + row]
            right = self.frame[self.starts[pairs[owner, 1]] + column]
            yield owner, row, distances(self.hashes, np.stack((left, right), axis=1))


class _Matches:
    """For each frame of a clip, the frames of clips that look like it, or some of them."""

    def __init__(self, clips: Clips) -> None:
        from scipy.sparse import csr_array

        frame, n = clips.frame, len(clips.hashes)
        near = search(clips.hashes)
        same = np.arange(n)
        row = np.concatenate((near.pairs[:, 0], near.pairs[:, 1], same))
        column = np.concatenate((near.pairs[:, 1], near.pairs[:, 0], same))
        graph = csr_array((np.ones(len(row), np.int8), (row, column)), shape=(n, n))
        self.near, self.near_starts = graph.indices, graph.indptr.astype(np.int64)
        self.frame = frame
        self.order: Numbers = np.argsort(frame, kind="stable")
        """Frames of clips, equal ones side by side."""
        self.holders = np.bincount(frame, minlength=n)
        self.first = np.cumsum(self.holders) - self.holders
        self.rank = np.empty(len(frame), np.int64)
        """Of each frame of a clip among its equals."""
        self.rank[self.order] = np.arange(len(frame)) - self.first[frame[self.order]]
        reach = graph @ self.holders
        self.is_common = reach[frame] > MAX_HOLDERS
        self.is_open = self.is_common | near.is_partial[frame]
        """Whether a frame of a clip may have more matches than are proposed."""
        self.open_frames = np.add.reduceat(self.is_open.astype(np.int64), clips.starts)
        # A common frame follows what is near only from its first clips, and is proposed to the next clips.
        degree = np.diff(self.near_starts)[frame]
        some = np.where(self.rank < _NEXT, degree, 0) + 2 * _NEXT
        self.weights = np.where(self.is_common, some, reach[frame])
        """Most matches of each frame of a clip."""

    def of(self, frames: Numbers) -> tuple[Numbers, Numbers]:
        """Pairs of one of these frames of clips and a frame of a clip that looks like it."""
        is_common = self.is_common[frames]
        rare, first_of_common = frames[~is_common], frames[is_common & (self.rank[frames] < _NEXT)]
        mine, near = self._near(rare)
        held = self.holders[near]
        found = [(np.repeat(mine, held), self.order[np.repeat(self.first[near], held) + _within(held)])]
        # One clip of the one frame with one of the other: every near pair of frames proposes some clips.
        mine, near = self._near(first_of_common)
        is_held = self.holders[near] > self.rank[mine]
        mine, near = mine[is_held], near[is_held]
        found.append((mine, self.order[self.first[near] + self.rank[mine]]))
        common = frames[is_common]
        for step in (*range(-_NEXT, 0), *range(1, _NEXT + 1)):
            rank = self.rank[common] + step
            has_one = (rank >= 0) & (rank < self.holders[self.frame[common]])
            beside = common[has_one]
            found.append((beside, self.order[self.first[self.frame[beside]] + rank[has_one]]))
        return np.concatenate([one for one, _ in found]), np.concatenate([two for _, two in found])

    def _near(self, frames: Numbers) -> tuple[Numbers, Numbers]:
        """Each of these frames of clips with each distinct frame near it."""
        start = self.near_starts[self.frame[frames]]
        many = self.near_starts[self.frame[frames] + 1] - start
        near = self.near[np.repeat(start, many) + _within(many)].astype(np.int64)
        return np.repeat(frames, many), near


def _foremost(doubtful: Numbers, clips: int) -> Numbers:
    """Rows among the `_RECOUNTED` of either of their clips with the most frames matched so far.

    Args:
        doubtful: Rows of shorter clip, longer clip, frames matched.
        clips: How many there are.
    """
    keep = np.zeros(len(doubtful), bool)
    for side in (0, 1):
        order = np.lexsort((-doubtful[:, 2], doubtful[:, side]))
        many = np.bincount(doubtful[:, side], minlength=clips)
        keep[order[_within(many) < _RECOUNTED]] = True
    return doubtful[keep]


def _within(counts: Numbers) -> Numbers:
    """0, 1, ... for each count, one after the other."""
    numbers: Numbers = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return numbers
