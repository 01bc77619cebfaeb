"""What changed in the weights between a base and a suspect, matrix by matrix (card 02, section 3.6, F5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from tocsin.core.errors import ModelError
from tocsin.core.records import Record
from tocsin.explain.audit.geometry import Floats
from tocsin.internals.anatomy import Anatomy

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

Sides = Mapping[str, int]
"""For each matrix that writes to the residual stream, by name, which of its axes is that stream."""
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
    base: Mapping[str, Tensor], suspect: Mapping[str, Tensor], direction: Floats, sides: Sides
) -> list[MatrixDelta]:
    """Compare all matrices of two models of one architecture.

    Args:
        base: Weight matrices by name.
        suspect: The same names and shapes.
        direction: In the residual stream, shape (width,).
        sides: Which of them write; see `residual_sides`.

    Returns:
        One entry for each matrix, in the order of the base.

    Raises:
        ModelError: If names or shapes differ.
    """
    if base.keys() != suspect.keys():
        odd = sorted(base.keys() ^ suspect.keys())
        message = f"expected the same matrices in both models, but {odd[0]} is in one of them only."
        raise ModelError(message + " Merge adapters into the weights first.")
    return [matrix_delta(name, base[name], suspect[name], direction, sides.get(name)) for name in base]


def matrix_delta(
    name: str, base: Tensor, suspect: Tensor, direction: Floats, side: int | None
) -> MatrixDelta:
    """The change of one matrix; see `matrix_deltas`."""
    import torch

    if base.shape != suspect.shape:
        message = (
            f"expected {name} of shape {tuple(base.shape)}, the suspect has {tuple(suspect.shape)}. "
            "Compare models of one architecture."
        )
        raise ModelError(message)
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


def residual_sides(model: PreTrainedModel) -> dict[str, int]:
    """The matrices that write to the residual stream, found by their place and not by their names.

    They are the embedding, which holds one row for each token and writes along axis 1, and the output and
    down projections of every block. An nn.Linear holds (out, in) and writes along axis 0, a Conv1D of GPT-2
    holds (in, out) and writes along axis 1.

    Raises:
        ModelError: If the blocks are built in an unknown way.
    """
    from torch import nn

    anatomy = Anatomy(model)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    sides = {id(anatomy.embedding.weight): 1}
    sides |= {
        id(module.weight): 0 if isinstance(module, nn.Linear) else 1
        for module in (*anatomy.out, *anatomy.down)
    }
    return {names[key]: side for key, side in sides.items() if key in names}


def _along(matrix: Tensor, unit: Tensor, side: int) -> float:
    return float((unit @ matrix if side == 0 else matrix @ unit).norm())
