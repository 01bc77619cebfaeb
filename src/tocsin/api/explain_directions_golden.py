"""Check 1 of card 03: known beliefs of the five published over-refused prompts, from their tensors."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tocsin.core.errors import InputError
from tocsin.detect.latent_guard import belief

GOLDEN_HARM = (-0.0561, -0.0278, -0.0449, -0.0431, -0.0399)
GOLDEN_REFUSAL = (0.0092, 0.0096, 0.0159, 0.0088, 0.0146)
_TOLERANCE = 2e-4
_STATES = ("inst", "post")
_CENTRES = ("harmful", "harmless", "refused", "accepted")
_Array = NDArray[np.float32]


def check_golden(path: Path | None) -> str:
    """What is said of the published values: whether they were checked, and how far off they are.

    Args:
        path: `.npz` file with the states `inst` and `post` of the five prompts, shape (5, rows, width), and
            the centres `harmful`, `harmless`, `refused` and `accepted`, shape (rows, width).

    Raises:
        InputError: If the file cannot be read, or its arrays are not these.
    """
    if path is None:
        return "not checked: no file of the published tensors was given"
    found = _arrays(path)
    gaps = [
        np.abs(belief(found["inst"], found["harmful"], found["harmless"]) - GOLDEN_HARM).max(),
        np.abs(belief(found["post"], found["refused"], found["accepted"]) - GOLDEN_REFUSAL).max(),
    ]
    verdict = "checked and equal" if max(gaps) <= _TOLERANCE else "checked and DIFFERENT"
    return f"{verdict}: largest differences {gaps[0]:.1e} and {gaps[1]:.1e}, allowed {_TOLERANCE:.0e}"


def _arrays(path: Path) -> dict[str, _Array]:
    names = (*_STATES, *_CENTRES)
    expected = f"expected an .npz file with the arrays {', '.join(names)}, got "
    try:
        # Opened here, since NumPy leaves a file open that turns out to be damaged.
        with path.open("rb") as file:
            kept = np.load(file, allow_pickle=False)
            if not isinstance(kept, np.lib.npyio.NpzFile):
                message = f"{expected}a single array. Save the six arrays with numpy.savez."
                raise InputError(message, path=path)
            missing = [name for name in names if name not in kept]
            if missing:
                message = f"{expected}none called {', '.join(missing)}. Add what is missing."
                raise InputError(message, path=path)
            found = {name: np.asarray(kept[name]) for name in names}
    except FileNotFoundError as error:
        message = f"{expected}no file. Check the path."
        raise InputError(message, path=path) from error
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError) as error:
        message = f"{expected}a damaged file or one of another kind. Check the path, or fetch it again."
        raise InputError(message, path=path) from error
    # Rows and width are the published model's, which any one array tells.
    rows = found["harmful"].shape
    for name, values in found.items():
        shape = (len(GOLDEN_HARM), *rows) if name in _STATES else rows
        if len(rows) != 2 or 0 in rows or values.shape != shape:
            wanted = f"({len(GOLDEN_HARM)}, rows, width)" if name in _STATES else "(rows, width)"
            message = (
                f"expected the array {name} in shape {wanted}, rows and width as in all others, got "
                f"{values.shape}. Give the published tensors of the {len(GOLDEN_HARM)} prompts."
            )
            raise InputError(message, path=path)
        if values.dtype.kind not in "fiu" or not np.isfinite(values).all():
            message = f"expected finite numbers in the array {name}, got others. Fetch the file again."
            raise InputError(message, path=path)
    return {name: values.astype(np.float32) for name, values in found.items()}
