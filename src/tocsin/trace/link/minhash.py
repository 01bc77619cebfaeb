"""Near-duplicate texts by one-permutation MinHash, banding and exact Jaccard.

Every shingle is hashed once and falls into one of `BINS` bins, of which the least hash is kept (Li, Owen and
Zhang, NIPS 2012, arXiv 1208.1259); empty bins borrow from a bin drawn by a hash of their own number, the same
for every text (Shrivastava, ICML 2017, arXiv 1703.04664). That costs one hash a shingle in place of 128, and
keeps the property that two texts agree in a bin with about the probability of their Jaccard similarity.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

SHINGLE = 5
"""Characters in a shingle."""
BAND_ROWS = 4
BANDS = 20
BINS = BANDS * BAND_ROWS
EMPTY = np.uint32(0xFFFFFFFF)
_MIX = np.uint64(0x9E3779B97F4A7C15)
_PAIR_BATCH = 50_000
_CHARACTERS = 6_000_000
"""Of a batch: some 300 MB of shingles in each thread."""
_MIN_AGREEING = 0.25

_Whole = TypeVar("_Whole", bound=np.integer)

Codes = NDArray[np.uint32]
Offsets = NDArray[np.int64]
Pairs = NDArray[np.int64]
"""Shape (n, 2): two text numbers in a row, the lower one first."""


def shingle_hashes(codes: Codes, offsets: Offsets) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Hash of every shingle of the texts `codes[offsets[i]:offsets[i + 1]]`, and the text that each is of.

    A text shorter than a shingle has none.
    """
    if len(codes) < SHINGLE:
        return np.empty(0, np.uint32), np.empty(0, np.int64)
    count = len(codes) - SHINGLE + 1
    rolled = np.zeros(count, np.uint64)
    wide = codes.astype(np.uint64)
    for place in range(SHINGLE):
        rolled *= np.uint64(0x100000001B3)
        rolled += wide[place : place + count]
    rolled ^= rolled >> np.uint64(31)
    rolled *= _MIX
    hashes = (rolled >> np.uint64(32)).astype(np.uint32)
    lengths = np.diff(offsets)
    owner = np.repeat(np.arange(len(lengths)), lengths)
    within = owner[:count] == owner[SHINGLE - 1 :]
    return hashes[within], owner[:count][within]


@cache
def _donors() -> NDArray[np.int64]:
    return np.random.default_rng(20).integers(0, BINS, size=(64, BINS))


def signatures(codes: Codes, offsets: Offsets) -> NDArray[np.uint32]:
    """Shape (texts, BINS). A row of a text without shingles holds `EMPTY` throughout."""
    hashes, owner = shingle_hashes(codes, offsets)
    texts = len(offsets) - 1
    flat = np.full(texts * BINS, EMPTY)
    bins = ((hashes.astype(np.uint64) * np.uint64(BINS)) >> np.uint64(32)).astype(np.int64)
    # A second mixing, so that the value kept does not tell the bin.
    values = hashes * np.uint32(2654435761)
    np.minimum.at(flat, owner * BINS + bins, values)
    full = flat.reshape(texts, BINS)
    found = full.copy()
    for donors in _donors():
        empty = full == EMPTY
        if not empty.any():
            break
        full = np.where(empty, found[:, donors], full)
    return full


def band_keys(signature: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """Shape (BANDS, texts): one 64-bit key a band."""
    keys = np.zeros((BANDS, len(signature)), np.uint64)
    for row in range(BAND_ROWS):
        keys ^= signature[:, row::BAND_ROWS].T
        keys *= _MIX
        keys ^= keys >> np.uint64(29)
    return keys


def distinct(values: NDArray[_Whole]) -> NDArray[_Whole]:
    """Distinct values, sorted. `np.unique` hashes first, which is five times slower on these."""
    ranked = np.sort(values)
    return ranked[np.concatenate(([True], ranked[1:] != ranked[:-1]))] if len(ranked) else ranked


def bucket_pairs(band: NDArray[np.uint64]) -> Pairs:
    """Pairs of places with equal keys: every place with the first and with the previous one of its bucket.

    A bucket of m texts gives fewer than 2 m pairs in place of m * (m - 1) / 2.
    """
    order = np.argsort(band, kind="stable")
    same = band[order][1:] == band[order][:-1]
    fresh = np.concatenate(([True], ~same)) if len(band) else np.empty(0, bool)
    starts = np.maximum.accumulate(np.where(fresh, np.arange(len(band)), 0))
    later = np.flatnonzero(same) + 1
    # The sort is stable, so that the earlier place of a pair is the lower one.
    left = np.concatenate((order[later - 1], order[starts[later]]))
    right = np.concatenate((order[later], order[later]))
    code = distinct(left * len(band) + right)
    return np.stack(np.divmod(code, max(len(band), 1)), axis=1).astype(np.int64)


def resembling(pairs: Pairs, low_bytes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Whether the texts of each pair agree in a quarter of the bins, by the low byte of each bin."""
    result = np.empty(len(pairs), bool)
    for begin in range(0, len(pairs), _PAIR_BATCH):
        part = pairs[begin : begin + _PAIR_BATCH]
        agreeing = np.mean(low_bytes[part[:, 0]] == low_bytes[part[:, 1]], axis=1)
        result[begin : begin + len(part)] = agreeing >= _MIN_AGREEING
    return result


def jaccard(codes: Codes, offsets: Offsets, pairs: Pairs) -> NDArray[np.float64]:
    """Exact Jaccard similarity, from 0 to 1, of the shingle sets of each pair; 0 where both are empty."""
    result = np.zeros(len(pairs))
    lengths = np.diff(offsets)

    def compare(bounds: tuple[int, int]) -> None:
        begin, end = bounds
        part = pairs[begin:end]
        sets = [_set_keys(codes, offsets, part[:, side]) for side in (0, 1)]
        both = np.concatenate(sets)
        both.sort()
        shared = both[1:][both[1:] == both[:-1]] >> np.uint64(32)
        n_shared = np.bincount(shared.astype(np.int64), minlength=len(part))
        n_all = np.bincount((both >> np.uint64(32)).astype(np.int64), minlength=len(part)) - n_shared
        result[begin : begin + len(part)] = n_shared / np.maximum(n_all, 1)

    at_once(compare, batches(lengths[pairs].sum(axis=1)))
    return result


def batches(weights: NDArray[np.int64], most: int = _CHARACTERS) -> list[tuple[int, int]]:
    """Bounds of batches of at most so much weight together, or of one entry that has more.

    Args:
        weights: Of each entry, in order: the characters of a text or a pair of texts.
        most: Weight of a batch.
    """
    ends = np.cumsum(weights)
    found, begin = [], 0
    while begin < len(ends):
        before = int(ends[begin - 1]) if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, before + most, side="right")))
        found.append((begin, end))
        begin = end
    return found


def at_once(work: Callable[[tuple[int, int]], None], bounds: Iterable[tuple[int, int]]) -> None:
    """Do the work of every batch in a few threads: what takes time in it is numpy, which lets others run."""
    with ThreadPoolExecutor(max(1, min(4, os.cpu_count() or 1))) as pool:
        for _ in pool.map(work, bounds):
            pass


def _set_keys(codes: Codes, offsets: Offsets, texts: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Distinct shingles of the texts, with the place of each text in the upper half."""
    lengths = offsets[texts + 1] - offsets[texts]
    ends = np.concatenate(([0], np.cumsum(lengths)))
    places = np.arange(ends[-1]) + np.repeat(offsets[texts] - ends[:-1], lengths)
    hashes, owner = shingle_hashes(codes[places], ends)
    keys: NDArray[np.uint64] = (owner.astype(np.uint64) << np.uint64(32)) | hashes.astype(np.uint64)
    return distinct(keys)
