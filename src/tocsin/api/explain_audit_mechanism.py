"""The part of an audit's page that shows the inside of both models."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from tocsin.explain.audit import AuditStudy
from tocsin.explain.audit.deltas import MatrixDelta
from tocsin.explain.audit.records import LayerMeasures
from tocsin.report import Figure, Ranged, Section, Table
from tocsin.report.charts import Series, scatter
from tocsin.report.curves import Curve, curves, heat_map
from tocsin.report.study import Cell

if TYPE_CHECKING:
    from markupsafe import Markup

_BLOCK = re.compile(r"\.(\d+)\.(.+?)\.weight$")
_MOST = 24
"""Matrices in the table."""
_WHERE = {"post": "last token of the prompt", "inst": "last token of the instruction"}


def mechanism_sections(study: AuditStudy) -> list[Section]:
    """F1 to F4 by depth, and F5 by matrix."""
    return [_layers(study), *([_weights(study)] if study.matrices else [])]


def _layers(study: AuditStudy) -> Section:
    d = study.direction
    how = (
        "chosen because the base refuses least without it"
        if d.by_ablation
        else "chosen by the base's probe, since ablation chose none"
    )
    parts: list[Figure | Table] = []
    for position in ("post", "inst"):
        found = [each for each in study.layers if each.position == position]
        if found:
            parts += _curves(position, found)
    rows: list[list[Cell | Ranged]] = [
        [
            each.row, each.position, each.cosine, each.floor, each.gap, each.auroc_base, each.auroc,
            each.auroc_beside, each.cka_harmful, each.cka_harmless,
        ]
        for each in study.layers
    ]  # fmt: skip
    parts.append(
        Table(
            title="All layers",
            columns=(
                "block", "at", "F1 cosine", "halves of base", "F2 gap", "F3 base", "F3 suspect",
                "F3 beside", "F4 harmful", "F4 harmless",
            ),
            rows=rows,
            note=(
                "'Beside' takes the base's chosen direction out first; where that was read it is at "
                "chance by construction."
            ),
        )
    )  # fmt: skip
    dropped = (
        f" {d.n_dropped} prompts on which the base's own refusal score has the wrong sign were left out."
        if d.n_dropped
        else ""
    )
    return Section(
        title="F. Inside: geometry",
        paragraphs=[
            (
                "Directions are differences of mean hidden states of harmful and harmless prompts. A cosine "
                "between two models means something only below what halves of the base's own prompts reach. "
                f"The base's direction was read after block {d.row} at the {_WHERE[d.position]} "
                f"({how}).{dropped}"
            )
        ],
        parts=parts,
    )


def _curves(position: str, found: list[LayerMeasures]) -> list[Figure | Table]:
    def line(name: str, key: str) -> Curve:
        return Curve(name, [(each.row, _float(getattr(each, key))) for each in found])

    floor = Curve(
        "F1 floor: halves of the base, from 5 %",
        [(each.row, _float(each.floor)) for each in found],
        [(_float(each.floor_low), 1.0) for each in found],
    )
    place = _WHERE[position]
    return [
        Figure(
            title=f"F1, F2: directions and gaps, {place}",
            markup=curves(
                f"geometry-{position}",
                "Directions by depth",
                [line("F1 cosine of directions", "cosine"), floor, line("F2 gap along the base's", "gap")],
                x_label="block",
                y_label="cosine, or share of the base's gap",
            ),
        ),
        Figure(
            title=f"F3, F4: what a probe reads, and likeness, {place}",
            markup=curves(
                f"probe-{position}",
                "Probes and likeness by depth",
                [
                    line("F3 AUROC on the base", "auroc_base"),
                    line("F3 AUROC of the base's probe on the suspect", "auroc"),
                    line("F3 beside the base's direction", "auroc_beside"),
                    line("F4 CKA, harmful prompts", "cka_harmful"),
                    line("F4 CKA, harmless prompts", "cka_harmless"),
                ],
                x_label="block",
                y_label="AUROC, CKA",
                reference=0.5,
            ),
        ),
    ]


def _weights(study: AuditStudy) -> Section:
    d = study.direction
    changed = [each for each in study.matrices if each.relative_norm > 0]
    if not changed:
        return Section(
            title="F. Inside: weights",
            paragraphs=[f"All {len(study.matrices)} matrices are equal bit for bit in the two models."],
        )
    shared = (
        f"One direction in common carries {d.shared_share:.2f} of the changes of matrices that write to the "
        f"residual stream (each counted alike); its |cosine| with the nearest direction of the base is "
        f"{_float(d.shared_cosine):.2f} (block {d.shared_row}, {d.shared_position}). "
        if d.shared_share is not None
        else ""
    )
    along = "that common direction" if d.measured_along_shared else "the base's chosen direction"
    largest = sorted(changed, key=lambda each: -each.relative_norm)[:_MOST]
    rows: list[list[Cell | Ranged]] = [
        [
            _short(each.matrix), "yes" if each.writes else "", each.relative_norm, each.stable_rank,
            each.first_energy, each.alignment, each.projection_ratio,
        ]
        for each in largest
    ]  # fmt: skip
    return Section(
        title="F. Inside: weights",
        paragraphs=[
            (
                f"{len(changed)} of {len(study.matrices)} matrices changed. {shared}Alignment and what is "
                f"left along the direction are measured along {along}."
            )
        ],
        parts=[
            Figure(
                title="F5: relative size of the change, in per cent, by block and matrix",
                markup=_heat(study.matrices),
            ),
            Figure(
                title="F5: how far a change has one direction, and how far it is the refusal direction's",
                markup=scatter(
                    "rank-one",
                    "Rank-one energy and alignment",
                    [
                        Series(
                            "writing matrices",
                            "accent",
                            [
                                (each.first_energy or 0.0, each.alignment or 0.0)
                                for each in changed
                                if each.writes
                            ],
                        )
                    ],
                    x_label="energy in the first singular direction",
                    y_label="alignment with the direction",
                ),
                note="A deleted direction lies in the upper right corner. Matrices that write only.",
            ),
            Table(
                title=f"The {len(largest)} matrices that changed most; all are in result.json",
                columns=(
                    "matrix", "writes", "relative change", "stable rank", "first energy", "alignment",
                    "left along it",
                ),
                rows=rows,
            ),
        ],
    )  # fmt: skip


def _heat(matrices: tuple[MatrixDelta, ...]) -> Markup:
    found: dict[tuple[int, str], float] = {}
    for each in matrices:
        place = _BLOCK.search(each.matrix)
        if place:
            found[int(place[1]), place[2]] = 100 * each.relative_norm
    blocks = sorted({block for block, _ in found})
    kinds = sorted({kind for _, kind in found})
    values = [[found.get((block, kind), math.nan) for kind in kinds] for block in blocks]
    return heat_map(
        "change", "Relative change", [f"block {block + 1}" for block in blocks], kinds, values, digits=1
    )


def _short(matrix: str) -> str:
    place = _BLOCK.search(matrix)
    return f"{int(place[1]) + 1} {place[2]}" if place else matrix.removesuffix(".weight").rpartition(".")[2]


def _float(value: float | None) -> float:
    return math.nan if value is None else value
