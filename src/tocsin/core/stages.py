"""Finished parts of a long study, kept as arrays, so that an interrupted one goes on where it stopped."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tocsin.core.errors import RunError

Arrays = dict[str, NDArray[np.generic]]


class Stages:
    """Named parts, each made once.

    Args:
        folder: Where they are kept, created when first needed; None keeps nothing, and every part is made.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def arrays(self, name: str, make: Callable[[], Mapping[str, NDArray[np.generic]]]) -> Arrays:
        """The arrays of a part: those kept before, or made now and kept.

        Args:
            name: Of the part; the same name must always stand for the same computation of this study.
            make: Computes it. Arrays of objects are refused.

        Raises:
            RunError: If a part cannot be written.
        """
        if self._folder is None:
            return dict(make())
        path = self._folder / f"{name}.npz"
        kept = _read(path)
        if kept is not None:
            return kept
        made = dict(make())
        # Another process may be making the same part.
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as file:
                np.savez(file, allow_pickle=False, **made)
            part.replace(path)
        except FileNotFoundError:
            # Another process has finished the same study and forgotten its parts meanwhile.
            return made
        except OSError as error:
            part.unlink(missing_ok=True)
            message = f"expected to keep a finished part, got: {(error.strerror or 'an error').lower()}. "
            raise RunError(
                message + "Make room, then repeat the command: it goes on here.", path=path
            ) from error
        return made

    def clear(self) -> None:
        """Forget all parts."""
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def _read(path: Path) -> Arrays | None:
    """A kept part; None when there is none, or a damaged one, which is made again."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        return None
