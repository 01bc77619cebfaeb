"""What changed in the weights between a base and a suspect, matrix by matrix (card 02, section 3.6, F5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from tocsin.core.errors import ModelError
from tocsin.core.records import Record
from tocsin.explain.audit.geometry import Floats

if TYPE_CHECKING:
    from torch import Tensor

WRITERS = ("o_proj", "out_proj", "down_proj", "c_proj", "dense_4h_to_h", "fc2", "w2", "wo", "dense")
"""Names of layers whose output is added to the residual stream, in the architectures in use."""
_SKETCH = 6
"""Singular values looked for; a deleted direction needs one."""


class MatrixDelta(Record):
    """The change of one matrix."""

    matrix: str
    writes: bool
    """Whether its output is added to the residual stream."""
    relative_norm: float
    """Frobenius norm of the change over that of the base's matrix; 0 when the two are equal."""
    stable_rank: float | None
    """Squared Frobenius over squared spectral norm: 1 for a change of rank one. None when nothing changed."""
    first_energy: float | None
    """Share of the squared norm in the largest singular value, from 0 to 1."""
    alignment: float | None
    """|cosine| of the change's first singular vector on the residual side with the direction; None for
    matrices that do not write."""
    projection_ratio: float | None
    """What is left of the matrix along the direction, relative to the base: 0 after deletion."""


def matrix_deltas(
    base: Mapping[str, Tensor], suspect: Mapping[str, Tensor], direction: Floats
) -> list[MatrixDelta]:
    """Compare all matrices of two models of one architecture.

    Args:
        base: Weight matrices by name; see `residual_side` for which count as writing.
        suspect: The same names and shapes.
        direction: In the residual stream, shape (width,).

    Returns:
        One entry for each matrix, in the order of the base.

    Raises:
        ModelError: If names or shapes differ.
    """
    if base.keys() != suspect.keys():
        odd = sorted(base.keys() ^ suspect.keys())
        message = f"expected the same matrices in both models, but {odd[0]} is in one of them only."
        raise ModelError(message + " Merge adapters into the weights first.")
    return [matrix_delta(name, base[name], suspect[name], direction) for name in base]


def matrix_delta(name: str, base: Tensor, suspect: Tensor, direction: Floats) -> MatrixDelta:
    """The change of one matrix; see `matrix_deltas`."""
    import torch

    if base.shape != suspect.shape:
        message = (
            f"expected {name} of shape {tuple(base.shape)}, the suspect has {tuple(suspect.shape)}. "
            "Compare models of one architecture."
        )
        raise ModelError(message)
    side = residual_side(name, base, len(direction))
    # Double precision: the share of a deleted direction is a difference of nearly equal numbers.
    old, new = (each.detach().double() for each in (base, suspect))
    change = new - old
    squared = float((change * change).sum())
    if squared == 0:
        return MatrixDelta(
            matrix=name,
            writes=side is not None,
            relative_norm=0.0,
            stable_rank=None,
            first_energy=None,
            alignment=None,
            projection_ratio=None if side is None else 1.0,
        )
    rows = change if side != 1 else change.T
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        left, values, _ = torch.svd_lowrank(rows, q=min(_SKETCH, *rows.shape), niter=4)
    top = float(values[0]) ** 2
    alignment = ratio = None
    if side is not None:
        unit = torch.from_numpy(direction / np.linalg.norm(direction)).to(rows.device)
        alignment = abs(float(left[:, 0] @ unit))
        ratio = _along(new, unit, side) / max(_along(old, unit, side), 1e-300)
    return MatrixDelta(
        matrix=name,
        writes=side is not None,
        relative_norm=float(np.sqrt(squared)) / max(float(old.norm()), 1e-300),
        stable_rank=squared / top,
        first_energy=min(1.0, top / squared),
        alignment=alignment,
        projection_ratio=ratio,
    )


def residual_side(name: str, matrix: Tensor, width: int) -> int | None:
    """Which axis of a matrix is the residual stream it writes to; None for matrices that do not write.

    Linear layers hold (out, in), so writers write along axis 0; the embedding holds one row for each token
    and writes along axis 1, and so do the writers of GPT-2, whose layers are (in, out).
    """
    parts = name.split(".")
    owner = parts[-2] if parts[-1] == "weight" and len(parts) > 1 else parts[-1]
    if owner in {"embed_tokens", "wte", "embed_in"}:
        return 1
    if owner not in WRITERS:
        return None
    if matrix.shape[0] == width and (owner != "c_proj" or matrix.shape[1] != width):
        return 0
    return 1 if matrix.shape[1] == width else None


def _along(matrix: Tensor, unit: Tensor, side: int) -> float:
    return float((unit @ matrix if side == 0 else matrix @ unit).norm())
