"""PDQ, the perceptual hash of pictures (Meta's hashing.pdf in the ThreatExchange repository, section "PDQ").

Brightness is blurred and sampled down to 64 x 64, and the sign of 16 x 16 cosine coefficients against their
median gives 256 bits. Written here with numpy, because the known binding has to be compiled on each machine;
tests compare it with hashes that the binding gave.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

Hash = NDArray[np.uint8]
"""Shape (32,), the most significant byte first, as the 64 hexadecimal digits are written."""
BITS = 256
MIN_QUALITY = 50
"""Below it a picture has too little structure for its hash to mean anything (the publisher's advice)."""
_SIDE = 64
_FREQUENCIES = 16


def pdq_hash(brightness: NDArray[np.floating]) -> tuple[Hash, int]:
    """Hash and quality, from 0 to 100, of a picture.

    Args:
        brightness: Shape (rows, columns), from 0 to 255: 0.299 red + 0.587 green + 0.114 blue.

    Raises:
        ValueError: If the picture has no pixel.
    """
    if brightness.ndim != 2 or not brightness.size:
        message = f"expected rows and columns of a picture, got an array of shape {brightness.shape}"
        raise ValueError(message)
    field = brightness.astype(np.float32)
    for axis in (0, 1):
        width = -(-field.shape[1 - axis] // (2 * _SIDE))
        for _ in range(2):
            field = _box(field, 1 - axis, width)
    rows, columns = (((np.arange(_SIDE) + 0.5) * size / _SIDE).astype(int) for size in field.shape)
    small = field[np.ix_(rows, columns)]
    transform = _cosines()
    coefficients = transform @ small @ transform.T
    # The reference takes the lower of the two middle values.
    median = np.partition(coefficients.ravel(), BITS // 2 - 1)[BITS // 2 - 1]
    bits = (coefficients > median).ravel()
    return np.packbits(bits[::-1]), _quality(small)


def _box(field: NDArray[np.float32], axis: int, width: int) -> NDArray[np.float32]:
    """Mean over a window of `width` places, which is cut off at the borders."""
    after = (width + 2) // 2
    before = width - after
    size = field.shape[axis]
    sums = np.cumsum(field, axis=axis, dtype=np.float64)
    sums = np.concatenate((np.zeros_like(np.take(sums, [0], axis)), sums), axis=axis)
    places = np.arange(size)
    first, last = np.maximum(places - before, 0), np.minimum(places + after, size)
    shape = [1, 1]
    shape[axis] = size
    totals: NDArray[np.float64] = np.take(sums, last, axis) - np.take(sums, first, axis)
    return np.asarray(totals / (last - first).reshape(shape), np.float32)


@cache
def _cosines() -> NDArray[np.float32]:
    frequency = np.arange(1, _FREQUENCIES + 1)[:, None]
    place = 2 * np.arange(_SIDE)[None, :] + 1
    cosines: NDArray[np.float64] = np.cos(np.pi / 2 / _SIDE * frequency * place)
    return np.asarray(np.sqrt(2 / _SIDE) * cosines, np.float32)


def _quality(small: NDArray[np.float32]) -> int:
    """A hundredth of the whole steps of brightness between neighbours, by the reference's own scale."""
    steps = sum(int(np.abs(np.trunc(np.diff(small, axis=axis) * 100 / 255)).sum()) for axis in (0, 1))
    return min(100, steps // 90)


def from_hex(words: list[str]) -> NDArray[np.uint8]:
    """Shape (hashes, 32): hashes written as 64 hexadecimal digits."""
    return np.frombuffer(bytes.fromhex("".join(words)), np.uint8).reshape(-1, BITS // 8)
