"""What is left of a base's inner geometry in a suspect, layer by layer (card 02, section 3.6, F1 to F5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tocsin.core.errors import ModelError
from tocsin.explain.audit.deltas import Sides
from tocsin.explain.audit.geometry import (
    Floats,
    cosine,
    fitted_probe,
    gap_ratio,
    linear_cka,
    mean_difference,
    split_half_cosines,
)
from tocsin.internals.capture import CaptureEngine, CapturePlan
from tocsin.internals.layout import Position
from tocsin.internals.weight_mask import block_matrices

if TYPE_CHECKING:
    from torch import Tensor

    from tocsin.models.base import Array
    from tocsin.models.local import LocalModel

POSITIONS = (Position.POST, Position.INST)
"""Last token of the template, the primary one; last token of the instruction, where harmfulness is read."""
CHUNK = 256
MEASURES = (
    "cosine", "floor", "floor_low", "gap", "auroc_base", "auroc", "auroc_beside", "cka_harmful",
    "cka_harmless",
)  # fmt: skip


class Seen(NamedTuple):
    """Hidden states of one model, each of shape (prompts, rows, positions, width) or a part of it."""

    fit_harmful: NDArray[np.floating]
    fit_harmless: NDArray[np.floating]
    harmful: NDArray[np.floating]
    harmless: NDArray[np.floating]


def see(model: LocalModel, prompts: Sequence[str]) -> Array:
    """Hidden states after every block, float32 of shape (prompts, blocks, positions, width)."""
    engine = CaptureEngine(model)
    plan = CapturePlan(rows_of(model), POSITIONS)
    return np.concatenate(
        [engine.capture(prompts[i : i + CHUNK], plan).values for i in range(0, len(prompts), CHUNK)]
    )


def rows_of(model: LocalModel) -> tuple[int, ...]:
    """Rows that are compared: the output of every block. Row 0 is the same token's embedding for all."""
    return tuple(range(1, model.n_blocks + 1))


def directions(seen: Seen) -> Floats:
    """Differences of means, shape (rows, positions, width)."""
    return mean_difference(seen.fit_harmful, seen.fit_harmless)


def compare_layers(base: Seen, suspect: Seen, refusal: Floats, *, seed: int) -> dict[str, Floats]:
    """F1 to F4 at every row and position.

    F1 is `cosine`, beside `floor` and `floor_low`, the mean and the 5 % quantile of the cosines between
    halves of the base's own prompts. F2 is `gap`. F3 is `auroc` of the base's probe on the suspect, beside
    `auroc_base` on the base itself and `auroc_beside` with one direction taken out of both. F4 is
    `cka_harmful` and `cka_harmless`. Probes are fitted on the prompts for fitting and read on the others.

    Args:
        base: Its hidden states.
        suspect: The suspect's, of the same prompts.
        refusal: Direction that `auroc_beside` is read without, shape (width,).
        seed: Of the halves.

    Returns:
        `MEASURES`, each of shape (rows, positions).
    """
    n_rows, n_positions = base.harmful.shape[1:3]
    found = {name: np.full((n_rows, n_positions), np.nan) for name in MEASURES}
    for row in range(n_rows):
        for position in range(n_positions):
            old, new = (
                Seen(*(part[:, row, position].astype(np.float64) for part in seen))
                for seen in (base, suspect)
            )
            direction = mean_difference(old.fit_harmful, old.fit_harmless)
            halves = split_half_cosines(old.fit_harmful, old.fit_harmless, seed=seed)
            probe = fitted_probe(old.fit_harmful, old.fit_harmless)
            beside = fitted_probe(old.fit_harmful, old.fit_harmless, without=refusal)
            values = {
                "cosine": cosine(direction, mean_difference(new.fit_harmful, new.fit_harmless)),
                "floor": float(halves.mean()),
                "floor_low": float(np.quantile(halves, 0.05)),
                "gap": gap_ratio(new.harmful, new.harmless, old.harmful, old.harmless, direction),
                "auroc_base": probe(old.harmful, old.harmless),
                "auroc": probe(new.harmful, new.harmless),
                "auroc_beside": beside(new.harmful, new.harmless),
                "cka_harmful": linear_cka(old.harmful, new.harmful),
                "cka_harmless": linear_cka(old.harmless, new.harmless),
            }
            for name, value in values.items():
                found[name][row, position] = value
    return found


def best_row(base: Seen) -> int:
    """Index of the row at whose last token the base's probe reads held-out prompts best, the first such."""
    found = [
        fitted_probe(base.fit_harmful[:, row, 0], base.fit_harmless[:, row, 0])(
            base.harmful[:, row, 0], base.harmless[:, row, 0]
        )
        for row in range(base.harmful.shape[1])
    ]
    return int(np.argmax(found))


def weight_matrices(model: LocalModel) -> dict[str, Tensor]:
    """All matrices: embedding, every block's linear layers, and the output head where it is not tied.

    Raises:
        ModelError: If weights are quantised or packed.
    """
    torch_model = model.torch_model
    names = {id(parameter): name for name, parameter in torch_model.named_parameters()}
    found: dict[str, Tensor] = {}
    for owner in (torch_model.get_input_embeddings(), torch_model.get_output_embeddings()):
        weight = getattr(owner, "weight", None)
        if weight is None:
            continue
        if not weight.is_floating_point() or id(weight) not in names:
            message = "the embeddings are quantised or packed. Load the model in full precision."
            raise ModelError(message)
        found[names[id(weight)]] = weight
    blocks: Mapping[str, Tensor] = block_matrices(torch_model)
    return {**found, **blocks}


class SharedDirection(NamedTuple):
    """The direction in the residual stream that the changes of all writing matrices share."""

    unit: Floats
    """Shape (width,), of length one; zero when nothing changed."""
    share: float
    """Of the changes' squared size, each matrix counted alike; NaN when nothing changed."""


def shared_direction(
    base: Mapping[str, Tensor], suspect: Mapping[str, Tensor], width: int, sides: Sides
) -> SharedDirection:
    """Find it: the first eigenvector of the sum of D D' / ||D||^2 over matrices that write.

    A deleted direction is the same in all of them, whatever layer and prompts it was found with.
    """
    import torch

    total: NDArray[np.float64] = np.zeros((width, width))
    n = 0
    for name, old in base.items():
        side = sides.get(name)
        if side is None:
            continue
        change = (suspect[name].detach() - old.detach()).to(torch.float64)
        squared = float((change * change).sum())
        if squared == 0:
            continue
        product = change @ change.T if side == 0 else change.T @ change
        total += (product / squared).cpu().numpy()
        n += 1
    if n == 0:
        return SharedDirection(np.zeros(width), float("nan"))
    values, vectors = np.linalg.eigh(total)
    return SharedDirection(vectors[:, -1], float(values[-1]) / n)


def nearest(unit: Floats, candidates: Floats) -> tuple[float, int, int]:
    """The candidate direction nearest to a unit vector.

    Args:
        unit: Shape (width,).
        candidates: Shape (rows, positions, width).

    Returns:
        |cosine|, index of its row, index of its position.
    """
    sizes = np.linalg.norm(candidates, axis=-1)
    cosines = np.abs(candidates @ unit) / np.where(sizes > 0, sizes, np.inf)
    row, position = np.unravel_index(int(cosines.argmax()), cosines.shape)
    return float(cosines.max()), int(row), int(position)
