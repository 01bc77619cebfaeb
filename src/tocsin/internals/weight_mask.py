"""Sparse masks over the weight matrices of a model: found, applied for a while, saved, applied again.

A mask names single scalar weights. It is applied inside a `with` block and every weight has its old bits
afterwards, also when the block raises or is interrupted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tocsin.core.errors import InputError, ModelError, RunError
from tocsin.models.local.blocks import find_blocks

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel

Indices = NDArray[np.int64]
_FORMAT = "tocsin-weight-mask-1"


@dataclass(frozen=True, slots=True)
class WeightMask:
    """Single weights of named matrices."""

    indices: Mapping[str, Indices]
    """Flat row-major positions in each matrix, sorted, each once; matrices without any are left out."""
    shapes: Mapping[str, tuple[int, int]]
    """Shape of every matrix that was considered."""

    def __post_init__(self) -> None:
        for name, chosen in self.indices.items():
            rows, columns = self.shapes[name]
            is_sorted = bool((np.diff(chosen) > 0).all())
            if chosen.ndim != 1 or not is_sorted or (len(chosen) and not _inside(chosen, rows * columns)):
                message = (
                    f"the mask of {name} holds positions outside {rows} x {columns}, unsorted or doubled. "
                    "Expected sorted flat positions, each once."
                )
                raise InputError(message)

    @property
    def size(self) -> int:
        """Number of weights."""
        return sum(len(chosen) for chosen in self.indices.values())

    @property
    def share(self) -> float:
        """Part of the considered matrices' weights, from 0 to 1."""
        return self.size / sum(rows * columns for rows, columns in self.shapes.values())

    def overlap(self, other: WeightMask) -> float:
        """Jaccard index of two masks, from 0 to 1; NaN when both are empty."""
        both = sum(
            len(np.intersect1d(chosen, other.indices[name], assume_unique=True))
            for name, chosen in self.indices.items()
            if name in other.indices
        )
        either = self.size + other.size - both
        return both / either if either else float("nan")


def block_matrices(model: PreTrainedModel) -> dict[str, nn.Parameter]:
    """The weight matrices of every block's linear layers, by their full names, in the order of the blocks.

    Embeddings, norms, biases and the output head are left out (arXiv 2604.09544, section 3.2).

    Raises:
        ModelError: If the model has no blocks of linear layers, its weights are quantised, two blocks share a
            matrix, or a block holds matrices outside of linear layers.
    """
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found: dict[str, nn.Parameter] = {}
    for block in find_blocks(model):
        for module in block.modules():
            if not isinstance(module, nn.Linear | Conv1D):
                continue
            weight: nn.Parameter = module.weight  # type: ignore[assignment]
            if not weight.is_floating_point() or id(weight) not in names:
                message = (
                    f"the weights of {type(model).__name__} are quantised or packed, so single ones cannot "
                    "be set. Load the model in full precision."
                )
                raise ModelError(message)
            name = names[id(weight)]
            if name in found:
                message = f"the matrix {name} is shared between blocks, so it has no place of its own."
                raise ModelError(message)
            found[name] = weight
        apart = [p for p in block.parameters() if p.ndim > 1 and names.get(id(p)) not in found]
        if apart:
            message = (
                f"the blocks of {type(model).__name__} hold {names.get(id(apart[0]), 'weights')} outside of "
                "linear layers, such as a mixture of experts, so most weights would be left out. Use a "
                "dense decoder."
            )
            raise ModelError(message)
    if not found:
        message = f"the blocks of {type(model).__name__} hold no linear layers; expected a dense decoder."
        raise ModelError(message)
    return found


@contextmanager
def masked(model: PreTrainedModel, mask: WeightMask, *, scale: float = 0.0) -> Iterator[None]:
    """Multiply the mask's weights by `scale` inside the block, and give them back their bits after it.

    Args:
        model: Not to be used by another thread meanwhile.
        mask: Made for this model.
        scale: 0 removes the weights.

    Raises:
        ModelError: If the mask's matrices are not those of the model.
    """
    import torch

    matrices = block_matrices(model)
    check_fits(mask, matrices)
    kept: list[tuple[Tensor, Tensor, Tensor]] = []

    def undo() -> None:
        for flat, where, values in kept:
            flat[where] = values

    try:
        with torch.no_grad():
            for name, chosen in mask.indices.items():
                flat = matrices[name].data.view(-1)
                where = torch.from_numpy(chosen).to(flat.device)
                kept.append((flat, where, flat[where].clone()))
                flat[where] *= scale
        yield
    finally:
        # Also when the interrupt comes in the middle of this. Written out, since a helper could be
        # interrupted before it begins to try.
        try:
            undo()
        except KeyboardInterrupt:
            undo()
            raise


def check_fits(mask: WeightMask, matrices: Mapping[str, Tensor]) -> None:
    """Refuse a mask of another model.

    Raises:
        ModelError: Naming the first matrix that is missing or has another shape.
    """
    for name, shape in mask.shapes.items():
        there = tuple(matrices[name].shape) if name in matrices else None
        if there != tuple(shape):
            got = "no such matrix" if there is None else f"shape {there}"
            message = f"the mask expects {name} of shape {tuple(shape)}, the model has {got}."
            raise ModelError(message + " Use the model the mask was made with.")


def count_zeros(matrices: Mapping[str, Tensor], mask: WeightMask) -> int:
    """How many of the mask's weights are zero already, so that removing them changes nothing."""
    import torch

    return sum(
        int((matrices[name].detach().view(-1)[torch.from_numpy(chosen).to(matrices[name].device)] == 0).sum())
        for name, chosen in mask.indices.items()
    )


def save_mask(path: Path, mask: WeightMask, *, model: str, revision: str, made_by: str) -> None:
    """Write a mask as safetensors, with the model it belongs to.

    Args:
        path: File; replaced when it exists.
        mask: What to write. No weights are written, only positions.
        model: Name of the model.
        revision: Hash of its weights.
        made_by: What the mask is for, in a few words.

    Raises:
        RunError: If the file cannot be written.
    """
    from safetensors.numpy import save

    facts = {
        "format": _FORMAT,
        "model": model,
        "revision": revision,
        "made_by": made_by,
        "shapes": json.dumps({name: list(shape) for name, shape in mask.shapes.items()}),
    }
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(save(dict(mask.indices), metadata=facts))
        part.replace(path)
    except OSError as error:
        message = f"expected to write a mask, got: {(error.strerror or 'an error').lower()}."
        raise RunError(message + " Choose another place.", path=path) from error


def load_mask(path: Path, *, revision: str) -> WeightMask:
    """Read a mask for a model.

    Args:
        path: As written by `save_mask`.
        revision: Hash of the weights of the model that it is wanted for.

    Raises:
        InputError: If the file is no mask.
        ModelError: If the mask belongs to other weights.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            facts = file.metadata() or {}
            names = list(file.keys())
            indices = {name: file.get_tensor(name).astype(np.int64, copy=False) for name in names}
        if facts.get("format") != _FORMAT:
            raise ValueError(facts.get("format"))
        shapes = {name: (int(a), int(b)) for name, (a, b) in json.loads(facts["shapes"]).items()}
        mask = WeightMask(indices, shapes)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
        message = "expected a weight mask written by this program, got another or a damaged file."
        raise InputError(message, path=path) from error
    if facts.get("revision") != revision:
        message = (
            f"the mask {path} was made for {facts.get('model')} at revision {facts.get('revision')}, the "
            f"model is at {revision}. Use that model, or find the weights again."
        )
        raise ModelError(message)
    return mask


def _inside(chosen: Indices, size: int) -> bool:
    return bool(chosen[0] >= 0 and chosen[-1] < size)
