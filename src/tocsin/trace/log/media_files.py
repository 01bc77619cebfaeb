"""Hashes of picture and clip files that a log names.

Files are untrusted: a path must lie inside the named folder, decoding is bounded in pixels and frames, only
common formats are read, and a file that cannot be read as a picture is known by the hash of its bytes.
"""

from __future__ import annotations

import hashlib
import struct
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tocsin.core.errors import MissingExtraError
from tocsin.trace.link.pdq import pdq_hash

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
MAX_PIXELS = 50_000_000
MAX_FRAMES = 600
"""Of a moving picture; later ones are not read."""
MAX_FILE_PIXELS = 500_000_000
"""Of all frames of a file together."""
FRAME_MS = 1000.0
"""One frame a second is hashed, as vPDQ does."""
SIDE = 512
"""Larger pictures are scaled down to this, as the reference program does."""
_CHUNK = 1 << 20


def media_forms(
    values: Iterable[str], folder: Path, *, progress: Callable[[int], None] = lambda _done: None
) -> tuple[dict[str, str], dict[str, int]]:
    """What stands for each value of the media column that names a file, and counts.

    A picture gets its PDQ hash with its quality, a moving picture the hashes of its frames, any other file
    `file:` and the hash of its bytes; so does a picture that cannot be decoded, and it is counted. Values
    that name no file inside the folder are left as they are.

    Args:
        values: Distinct values.
        folder: What paths are relative to.
        progress: Told how many are done.

    Raises:
        MissingExtraError: Without Pillow.
    """
    try:
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(extra="vision", purpose="Hashing pictures") from error
    root = folder.resolve()
    forms: dict[str, str] = {}
    counts = {
        "pictures": 0,
        "moving pictures": 0,
        "other files": 0,
        "broken pictures": 0,
        "values without a file": 0,
    }
    for done, value in enumerate(values, start=1):
        progress(done)
        path = _inside(root, value)
        if path is None:
            counts["values without a file"] += 1
            continue
        try:
            hashes = _picture(path)
        except _BrokenPictureError:
            hashes, kind = [], "broken pictures"
        else:
            kind = "other files"
        if hashes:
            forms[value] = " ".join(hashes)
            counts["pictures" if len(hashes) == 1 else "moving pictures"] += 1
        else:
            digest = _digest(path)
            if digest is None:
                counts["values without a file"] += 1
                continue
            forms[value] = f"file:{digest}"
            counts[kind] += 1
    return forms, counts


def _inside(root: Path, value: str) -> Path | None:
    try:
        path = (root / value).resolve()
        return path if path.is_file() and path.is_relative_to(root) else None
    except (OSError, ValueError):
        return None


def _digest(path: Path) -> str | None:
    """Hash of a file's bytes; None if it cannot be read."""
    digest = hashlib.blake2b(digest_size=16)
    try:
        with path.open("rb") as file:
            while block := file.read(_CHUNK):
                digest.update(block)
    except OSError:
        return None
    return digest.hexdigest()


class _BrokenPictureError(Exception):
    """A file that is a picture, and cannot be decoded within the bounds."""


def _picture(path: Path) -> list[str]:
    """Hash of a picture, or of one frame a second of a moving one; empty if the file is no picture.

    Raises:
        _BrokenPictureError: If it is one and cannot be decoded.
    """
    from PIL import Image, UnidentifiedImageError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = Image.open(path, formats=FORMATS)
        except UnidentifiedImageError:
            return []
        except _broken() as error:
            raise _BrokenPictureError from error
        with image:
            if image.width * image.height > MAX_PIXELS:
                raise _BrokenPictureError
            return [_hash(brightness) for brightness in _frames(image)]


def _broken() -> tuple[type[Exception], ...]:
    """What Pillow raises on damaged files of the formats that are read."""
    from PIL.Image import DecompressionBombError

    return (OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, OverflowError, MemoryError,
            struct.error, zlib.error, DecompressionBombError)  # fmt: skip


def _frames(image: Image) -> Iterator[NDArray[np.float32]]:
    """Brightness of a frame a second, shape (rows, columns); decoding alone stands inside the try."""
    due = now = 0.0
    most = max(1, MAX_FILE_PIXELS // max(1, image.width * image.height))
    for number in range(min(getattr(image, "n_frames", 1), MAX_FRAMES, most)):
        try:
            image.seek(number)
            shown = image.convert("RGB") if now >= due else None
        except _broken() as error:
            raise _BrokenPictureError from error
        if shown is not None:
            if max(shown.size) > SIDE:
                shown = shown.resize((SIDE, SIDE))
            yield np.asarray(shown, np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
            due = now + FRAME_MS
        now += float(image.info.get("duration") or 0)


def _hash(brightness: NDArray[np.float32]) -> str:
    digits, quality = pdq_hash(brightness)
    return f"{digits.tobytes().hex()}@{quality}"
