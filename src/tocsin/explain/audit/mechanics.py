"""Stage F as a whole: hidden states of both models, the base's refusal direction, and the weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tocsin.core.errors import ModelError
from tocsin.core.stages import Arrays, Stages
from tocsin.core.stats.item_sums import number
from tocsin.explain.audit.data import MIN_PROMPTS, AuditData
from tocsin.explain.audit.deltas import MatrixDelta, Sides, matrix_deltas, residual_sides
from tocsin.explain.audit.direction import (
    N_VALIDATION,
    Choice,
    choose_by_ablation,
    refusal_openers,
    refusal_scores,
)
from tocsin.explain.audit.geometry import Floats
from tocsin.explain.audit.mechanism import (
    MEASURES,
    POSITIONS,
    Seen,
    best_row,
    compare_layers,
    directions,
    nearest,
    rows_of,
    see,
    shared_direction,
    weight_matrices,
)
from tocsin.explain.audit.records import DirectionChoice, LayerMeasures
from tocsin.explain.audit.speaking import Speaker
from tocsin.explain.audit.verdict import SIGNATURE_ALIGNMENT
from tocsin.internals.steering import next_token_logs

if TYPE_CHECKING:
    from torch import Tensor

Pairs = list[tuple[str, str]]
Texts = tuple[list[str], list[str]]
"""Harmful and harmless prompts."""
_DELTAS = ("writes", "relative_norm", "stable_rank", "first_energy", "alignment", "projection_ratio")


class Mechanics:
    """Measures of the inside of two models.

    Args:
        base: The reference.
        suspect: Of the same architecture.
        data: Prompts.
        refusals: Gives the base's own refusals; none where it does not refuse.
        seed: Of split halves.
    """

    def __init__(
        self,
        base: Speaker,
        suspect: Speaker,
        data: AuditData,
        refusals: Callable[[], Pairs],
        seed: int,
    ) -> None:
        self._base, self._suspect = base, suspect
        self._data = data
        self._refusals = refusals
        self._seed = seed
        self.notes: list[str] = []
        self.deltas: tuple[MatrixDelta, ...] = ()
        self.addition: tuple[int, NDArray[np.float32]] | None = None
        """Block at whose input the base's direction can be added, and the direction."""

    @cached_property
    def sides(self) -> Sides:
        """Matrices that write to the residual stream; empty where the base's blocks are built otherwise."""
        try:
            return residual_sides(self._base.model.torch_model)
        except ModelError as error:
            self.notes.append(
                f"F5 and repairs of weights were left out, and the direction is the best probe's: {error}"
            )
            return {}

    @cached_property
    def matrices(self) -> Mapping[str, Tensor]:
        """The base's matrices; empty where the weights of a model cannot be compared."""
        if not self.sides:
            return {}
        try:
            weight_matrices(self._suspect.model)
            return weight_matrices(self._base.model)
        except ModelError as error:
            self.notes.append(f"F5 and repairs of weights were left out: {error}")
            return {}

    def measure(
        self, stages: Stages
    ) -> tuple[tuple[LayerMeasures, ...], DirectionChoice, tuple[MatrixDelta, ...]]:
        """All of stage F, from `stages` where it was made before."""
        names = list(self.matrices)
        kept = stages.arrays("mechanism", self._make)
        row, position, by_ablation, n_dropped = (int(value) for value in kept["choice"])
        shared = [float(value) for value in kept["shared"]]
        is_shared = not np.isnan(shared[0])
        choice = DirectionChoice(
            row=row,
            position=POSITIONS[position].value,
            by_ablation=bool(by_ablation),
            n_dropped=n_dropped,
            shared_share=number(shared[0]),
            shared_cosine=number(shared[1]) if is_shared else None,
            shared_row=rows_of(self._base.model)[int(shared[2])] if is_shared else None,
            shared_position=POSITIONS[int(shared[3])].value if is_shared else None,
            measured_along_shared=is_shared and shared[1] >= SIGNATURE_ALIGNMENT,
        )
        self.deltas = tuple(
            MatrixDelta(
                matrix=name,
                writes=bool(kept["writes"][i]),
                relative_norm=float(kept["relative_norm"][i]),
                **{key: number(float(kept[key][i])) for key in _DELTAS[2:]},
            )
            for i, name in enumerate(names)
        )
        if row < self._base.model.n_blocks:
            self.addition = row, kept["direction"].astype(np.float32)
        layers = tuple(
            LayerMeasures(
                row=each,
                position=place.value,
                **{name: number(float(kept[name][i, p])) for name in MEASURES},
            )
            for i, each in enumerate(rows_of(self._base.model))
            for p, place in enumerate(POSITIONS)
        )
        return layers, choice, self.deltas

    def _make(self) -> Arrays:
        refusals = self._refusals()
        firsts = refusal_openers(self._base, [reply for _, reply in refusals])
        sides, held = self._parts(choosing=bool(firsts))
        fit = self._usable(sides, firsts)
        n_dropped = sum(map(len, sides)) - sum(map(len, fit))
        base, suspect = (self._seen(speaker, fit) for speaker in (self._base, self._suspect))
        candidates = directions(base)
        chosen = None
        rows = rows_of(self._base.model)
        if firsts and self.sides:
            chosen = choose_by_ablation(self._base, candidates, rows, *held, firsts)
        if chosen is None:
            chosen = Choice(rows[best_row(base)], 0, by_ablation=False)
        direction = candidates[rows.index(chosen.row), chosen.position]
        layers = compare_layers(base, suspect, direction, seed=self._seed)
        made: Arrays = {
            **layers,
            "choice": np.array([chosen.row, chosen.position, chosen.by_ablation, n_dropped]),
            "direction": direction,
        }
        return made | self._weights(candidates, direction)

    def _weights(self, candidates: Floats, direction: Floats) -> Arrays:
        """F5, along the direction that all changes share where it is one of the base's."""
        if not self.matrices:
            return {"shared": np.full(4, np.nan)} | {name: np.empty(0) for name in _DELTAS}
        suspect = weight_matrices(self._suspect.model)
        shared = shared_direction(self.matrices, suspect, self._base.model.width, self.sides)
        found = nearest(shared.unit, candidates)
        along = shared.unit if found[0] >= SIGNATURE_ALIGNMENT else direction
        deltas = matrix_deltas(self.matrices, suspect, along, self.sides)
        columns = {
            name: np.array([_nan(getattr(delta, name)) for delta in deltas], dtype=np.float64)
            for name in _DELTAS
        }
        return {"shared": np.array([shared.share, *found])} | columns

    def _seen(self, speaker: Speaker, fit: tuple[Sequence[str], Sequence[str]]) -> Seen:
        harmful = [prompt.text for prompt in self._data.harmful]
        sides = (*fit, harmful, self._data.harmless)
        return Seen(*(see(speaker.model, side) for side in sides))

    def _parts(self, *, choosing: bool) -> tuple[Texts, Texts]:
        """Prompts that means and probes are fitted on, and those that a direction is chosen by.

        The second are at most a quarter, and none where nothing is chosen. Neither are measured on.
        """
        sides = list(self._data.fit_harmful), list(self._data.fit_harmless)
        cuts = [len(side) - min(N_VALIDATION, len(side) // 4) if choosing else len(side) for side in sides]
        return (sides[0][: cuts[0]], sides[1][: cuts[1]]), (sides[0][cuts[0] :], sides[1][cuts[1] :])

    def _usable(self, sides: Texts, firsts: Sequence[int]) -> Texts:
        """Prompts for fitting on which the base's refusal score has the right sign."""
        if not firsts:
            return sides
        kept = []
        for side, sign in zip(sides, (1, -1), strict=True):
            ids = [self._base.ids(prompt) for prompt in side]
            scores = refusal_scores(next_token_logs(self._base.model, ids), firsts)
            kept.append([prompt for prompt, score in zip(side, scores, strict=True) if sign * score > 0])
        return sides if min(map(len, kept)) < MIN_PROMPTS else (kept[0], kept[1])


def _nan(value: float | bool | None) -> float:  # noqa: FBT001 - a column may hold flags
    return float("nan") if value is None else float(value)
