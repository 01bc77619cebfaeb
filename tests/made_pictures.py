"""Made pictures: waves of colour, and clouds whose detail fades as in photographs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def made(seed: int, rows: int, columns: int) -> NDArray[np.uint8]:
    """Shape (rows, columns, 3)."""
    y, x = np.mgrid[0:rows, 0:columns] / max(rows, columns)
    random = np.random.default_rng(seed)
    image = np.zeros((rows, columns, 3))
    for colour in range(3):
        for _ in range(6):
            a, b, phase = random.uniform(-20, 20, 3)
            image[..., colour] += np.sin(a * x + b * y + phase)
    low, high = image.min(), image.max()
    return np.asarray((image - low) / (high - low) * 255, np.uint8)


def clouds(seed: int, side: int) -> NDArray[np.uint8]:
    """Shape (side, side, 3)."""
    random = np.random.default_rng(seed)
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    fading = 1 / np.maximum(frequency, 1 / side) ** 1.2
    field = np.fft.ifft2(np.fft.fft2(random.normal(size=(side, side))) * fading).real
    scaled = np.clip((field - field.mean()) / field.std() * 50 + 128, 0, 255)
    return np.repeat(np.asarray(scaled, np.uint8)[..., None], 3, axis=2)
