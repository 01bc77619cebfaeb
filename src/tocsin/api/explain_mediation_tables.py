"""Tables and curves of effects, for the page of a causal mediation analysis."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tocsin.core.stats.item_sums import Estimate
from tocsin.explain.mediation import Effect, Level
from tocsin.report.curves import Curve
from tocsin.report.study import Ranged, Table

LEVELS = {
    "layer": "Residual stream after each block",
    "layer_at_content": "Residual stream at the prompt's content",
    "module": "Attention and MLP of each block",
    "window": "Attention or MLP of neighbouring blocks together",
    "head": "Attention heads",
    "group": "Windows of neighbouring neurons",
    "neuron": "Single neurons",
    "region": "Token regions",
    "place": "Single places of the prompt",
}
TOP = 15


def effect_table(level: Level) -> Table:
    """The effects of a level; curves show all blocks in order, others the largest first."""
    is_curve = level.name in {"layer", "region"}
    effects = list(level.effects)
    if not is_curve:
        effects = sorted(effects, key=lambda e: -abs(estimate_value(e.nie)))[:TOP]
    note = "" if is_curve else f"The {len(effects)} largest of {len(level.effects)} by absolute NIE. "
    note += "p: Holm's correction. Control: a patch of the same size in a random direction."
    if level.is_estimated:
        note += " First-order estimates."
    return Table(
        title=LEVELS[level.name],
        columns=("part", "NIE", "rNIE", "NDE", "interaction", "NIE / TE", "mean of ratios", "control", "p"),
        rows=[
            (
                e.name,
                estimate_cell(e.nie),
                estimate_cell(e.rnie),
                e.nde.value,
                estimate_cell(e.interaction),
                estimate_cell(e.nie_share),
                e.nie_mean_share.value,
                None if e.control is None else estimate_cell(e.control),
                e.p_holm,
            )
            for e in effects
        ],
        note=note,
    )


def depth_curves(level: Level, suffix: str) -> list[Curve]:
    """NIE and rNIE by block."""
    return [
        effect_curve(level.effects, key, name + suffix) for key, name in (("nie", "NIE"), ("rnie", "rNIE"))
    ]


def effect_curve(effects: Sequence[Effect], key: str, name: str) -> Curve:
    """One effect by block, with its interval."""
    found: list[tuple[int, Estimate]] = [(e.block or 0, getattr(e, key)) for e in effects]
    return Curve(
        name, [(float(b), estimate_value(v)) for b, v in found], [estimate_ends(v) for _, v in found]
    )


def estimate_cell(estimate: Estimate) -> Ranged | float | None:
    """An estimate as a cell of a table."""
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return estimate.value
    return Ranged(estimate.value, estimate.low, estimate.high)


def estimate_value(estimate: Estimate) -> float:
    """The value, NaN where there is none."""
    return math.nan if estimate.value is None else estimate.value


def estimate_ends(estimate: Estimate) -> tuple[float, float]:
    """Both ends of the interval; the value where there is none."""
    value = estimate_value(estimate)
    return (
        value if estimate.low is None else estimate.low,
        value if estimate.high is None else estimate.high,
    )


def estimate_text(estimate: Estimate) -> str:
    """An estimate in a sentence."""
    cell = estimate_cell(estimate)
    if cell is None:
        return "unknown"
    return str(cell) if isinstance(cell, Ranged) else f"{cell:.3f}"
