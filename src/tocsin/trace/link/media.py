"""Which pictures and clips are copies of one item.

A value of the media column is one PDQ hash (64 hexadecimal digits), several of them for the frames of a clip,
or anything else, such as the hash of a file, that links only to its equal. `@QUALITY` may follow a hash. Two
media are linked when frames that look alike (at most 31 of 256 bits apart) make up four fifths of the shorter
one, as in vPDQ; for pictures that is the distance alone.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tocsin.trace.link.clusters import guarded
from tocsin.trace.link.hamming import MAX_DISTANCE, distances, near_hashes
from tocsin.trace.link.minhash import Pairs, batches
from tocsin.trace.link.pdq import MIN_QUALITY, from_hex

MIN_SHARE = 0.8
"""Of the frames of the shorter clip (vPDQ)."""
GUARD_BITS = 2 * MAX_DISTANCE
"""Farthest nearest frame of a medium from the medium of its item that has the most links."""
MAX_HOLDERS = 500
"""Media that hold a frame of more media than this, such as a title card, are not all compared by it."""
_HASH = re.compile(r"(?P<hash>[0-9a-fA-F]{64})(?:@(?P<quality>\d{1,3}))?")
_GAP = re.compile(r"[\s,;]+")


def frame_hashes(value: str) -> list[str] | None:
    """Distinct hashes of good quality that a value names, in order; None if it names anything else.

    A medium whose frames are all of low quality is known by its value alone.
    """
    found = [_HASH.fullmatch(word) for word in _GAP.split(value.strip())]
    good = []
    for match in found:
        if match is None:
            return None
        if int(match["quality"] or 100) >= MIN_QUALITY:
            good.append(match["hash"].lower())
    return list(dict.fromkeys(good)) or None


class LinkedMedia(NamedTuple):
    """Item of each distinct medium, and what linking did."""

    items: NDArray[np.int64]
    pairs: int
    cut: int


class MediaStore:
    """Distinct media by modality."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, str], int] = {}
        self._frames: dict[str, dict[int, list[str]]] = {}

    def add(self, modality: str, value: str | None, caption: str | None) -> int:
        """Number of the distinct medium; one without a value is known by its caption."""
        key = (modality, value or f"caption\0{caption}")
        number = self._numbers.setdefault(key, len(self._numbers))
        if value and number == len(self._numbers) - 1:
            hashes = frame_hashes(value)
            if hashes is not None:
                self._frames.setdefault(modality, {}).setdefault(number, hashes)
        return number

    def link(self) -> LinkedMedia:
        """Items of all media, each the lowest number of its own."""
        items = np.arange(len(self._numbers))
        pairs = cut = 0
        for media in self._frames.values():
            numbers = np.array(list(media), np.int64)
            clips = _Clips(list(media.values()))
            near = clips.alike()
            found, lost = guarded(near, len(numbers), clips.are_far)
            items[numbers] = numbers[found]
            pairs += len(near)
            cut += lost
        return LinkedMedia(items, pairs, cut)


class _Clips:
    """Frames of media of one modality."""

    def __init__(self, media: list[list[str]]) -> None:
        words = [word for frames in media for word in frames]
        names, frame = np.unique(np.array(words), return_inverse=True)
        self.hashes = from_hex([str(name) for name in names])
        self.frame = frame
        self.sizes = np.array([len(frames) for frames in media])
        self.starts = np.cumsum(self.sizes) - self.sizes
        self.clip = np.repeat(np.arange(len(media)), self.sizes)

    def alike(self) -> Pairs:
        """Pairs of media of which the shorter is mostly in the longer."""
        near = near_hashes(self.hashes)
        same = np.arange(len(self.hashes))
        both = np.concatenate((near, near[:, ::-1], np.stack((same, same), axis=1)))
        order = np.argsort(self.frame, kind="stable")
        holders = np.bincount(self.frame, minlength=len(self.hashes))
        first = np.cumsum(holders) - holders
        # Holders of a common frame are compared with their neighbours only, or their pairs would be squared.
        common = holders[self.frame[order]] > MAX_HOLDERS
        beside = common[:-1] & (self.frame[order][1:] == self.frame[order][:-1])
        one, two = order[:-1][beside], order[1:][beside]
        both = both[(holders[both] <= MAX_HOLDERS).all(axis=1)]
        # Every holder of the one frame with every holder of the other.
        left = np.repeat(np.arange(len(both)), holders[both[:, 0]])
        place = first[both[left, 0]] + _within(holders[both[:, 0]])
        right = np.repeat(np.arange(len(left)), holders[both[left, 1]])
        other = first[both[left[right], 1]] + _within(holders[both[left, 1]])
        mine, theirs = order[place[right]], order[other]
        mine, theirs = np.concatenate((mine, one, two)), np.concatenate((theirs, two, one))
        a, b = self.clip[mine], self.clip[theirs]
        matches = np.unique(np.stack((a, b, mine), axis=1)[a != b], axis=0)
        found, counts = np.unique(matches[:, :2], axis=0, return_counts=True)
        share = counts / self.sizes[found[:, 0]]
        is_shorter = self.sizes[found[:, 0]] <= self.sizes[found[:, 1]]
        linked = np.sort(found[is_shorter & (share >= MIN_SHARE)], axis=1)
        return np.unique(linked, axis=0).astype(np.int64)

    def are_far(self, pairs: Pairs) -> NDArray[np.bool_]:
        """Whether not even the nearest frames of the two media of a pair look alike."""
        return self.nearest(pairs) > GUARD_BITS

    def nearest(self, pairs: Pairs) -> NDArray[np.int64]:
        """Least distance of a frame of the one medium to a frame of the other, for each pair."""
        many = self.sizes[pairs].prod(axis=1)
        found = [self._nearest(pairs[begin:end], many[begin:end]) for begin, end in batches(many)]
        return np.concatenate(found) if found else np.empty(0, np.int64)

    def _nearest(self, pairs: Pairs, many: NDArray[np.int64]) -> NDArray[np.int64]:
        found = np.full(len(pairs), np.iinfo(np.int64).max)
        owner = np.repeat(np.arange(len(pairs)), many)
        step = _within(many)
        width = self.sizes[pairs[owner, 1]]
        left = self.frame[self.starts[pairs[owner, 0]] + step // width]
        right = self.frame[self.starts[pairs[owner, 1]] + step % width]
        np.minimum.at(found, owner, distances(self.hashes, np.stack((left, right), axis=1)))
        return found


def _within(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """0, 1, ... for each count, one after the other."""
    numbers: NDArray[np.int64] = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    return numbers
