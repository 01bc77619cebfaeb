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

from tocsin.trace.link.clips import Clips
from tocsin.trace.link.clusters import guarded
from tocsin.trace.link.pdq import MIN_QUALITY, from_hex

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
            clips = _clips(list(media.values()))
            near = clips.alike()
            found, lost = guarded(near, len(numbers), clips.are_far)
            items[numbers] = numbers[found]
            pairs += len(near)
            cut += lost
        return LinkedMedia(items, pairs, cut)


def _clips(media: list[list[str]]) -> Clips:
    """Clips of the hashes of the frames of each medium, which are all different."""
    words = [word for frames in media for word in frames]
    names, frame = np.unique(np.array(words), return_inverse=True)
    sizes = np.array([len(frames) for frames in media])
    return Clips(from_hex([str(name) for name in names]), frame, sizes)
