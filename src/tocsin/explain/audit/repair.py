"""Repairs of a suspect, tried in memory and taken back (card 02, section 3.7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from tocsin.explain.audit.behaviour import Outcomes, direct
from tocsin.explain.audit.data import AuditData, AuditSettings, ReplyJudge
from tocsin.explain.audit.deltas import MatrixDelta
from tocsin.explain.audit.drift import capability
from tocsin.explain.audit.speaking import Speaker
from tocsin.explain.audit.tuning import TuningSettings, lora_tuned
from tocsin.internals.steering import Steering
from tocsin.internals.weight_swap import swapped
from tocsin.models.local.blocks import find_blocks

if TYPE_CHECKING:
    from torch import Tensor

RepairKind = Literal["none", "addition", "write-back", "patch-back", "fine-tune"]
ALPHAS = (0.25, 0.5, 1.0, 1.5)
SHARES = (0.125, 0.25, 0.5)
"""Of the matrices that changed, those with the highest scores are written back."""
WIDTHS = (0.25, 0.5)
"""Of the depth, contiguous blocks that are patched back."""
SAMPLES = (16, 64, 256)
"""Refusals of a safety fine-tune, beside as many harmless replies."""


class Plan(NamedTuple):
    """A repair before it is tried."""

    kind: RepairKind
    name: str
    steering: Steering | None = None
    matrices: tuple[str, ...] = ()
    """Whose base values are restored."""
    samples: tuple[tuple[str, str], ...] = ()
    """For a fine-tune."""


def plans(
    suspect: Speaker,
    deltas: Sequence[MatrixDelta],
    addition: tuple[int, np.ndarray] | None,
    refusals: Sequence[tuple[str, str]],
    harmless: Sequence[tuple[str, str]],
    *,
    can_tune: bool,
) -> list[Plan]:
    """All repairs that are tried.

    Args:
        suspect: The model to be repaired.
        deltas: What changed in its matrices; empty where that is unknown.
        addition: Block at whose input the base's refusal direction is added, and the direction; None leaves
            it out.
        refusals: The base's own refusals.
        harmless: The base's own replies to harmless prompts.
        can_tune: Whether low-rank updates are installed.
    """
    found = [Plan("none", "no repair")]
    if addition is not None:
        row, vector = addition
        found += [
            Plan("addition", f"{alpha:g} x refusal direction", Steering(row, vector, alpha))
            for alpha in ALPHAS
        ]
    found += _write_backs(deltas) + _patch_backs(suspect, deltas)
    if can_tune:
        sizes = sorted({min(n, len(refusals)) for n in SAMPLES} - {0})
        found += [Plan("fine-tune", f"{n} refusals", samples=(*refusals[:n], *harmless[:n])) for n in sizes]
    return found


def try_repair(
    plan: Plan,
    base: Mapping[str, Tensor],
    suspect: Speaker,
    judge: ReplyJudge,
    data: AuditData,
    settings: AuditSettings,
    tuning: TuningSettings,
) -> Outcomes:
    """Behaviour under one repair; the suspect has its old bits afterwards.

    Returns:
        `harmful` and `refused` as of `direct`, on the first prompts; `exact` and `tokens` as of `capability`.
    """
    n = settings.n_repair
    harmful = [prompt.text for prompt in data.harmful[:n]]
    harmless = list(data.harmless[:n])
    tasks = data.capability[: settings.n_tasks]
    if plan.kind == "fine-tune":
        speaker = Speaker(lora_tuned(suspect.model, plan.samples, tuning, name=plan.name))
        return _measured(speaker, judge, harmful, harmless, tasks, settings.max_new_tokens)
    values = {name: base[name] for name in plan.matrices}
    with swapped(suspect.model.torch_model, values) if values else nullcontext():
        return _measured(suspect, judge, harmful, harmless, tasks, settings.max_new_tokens, plan.steering)


def _measured(
    speaker: Speaker,
    judge: ReplyJudge,
    harmful: Sequence[str],
    harmless: Sequence[str],
    tasks: Sequence[tuple[str, str]],
    max_new_tokens: int,
    steering: Steering | None = None,
) -> Outcomes:
    able = capability(speaker.model, tasks, steering=steering)
    done = direct(speaker, judge, harmful, harmless, max_new_tokens, steering=steering)
    return {**done, "exact": able["exact"], "tokens": able["tokens"]}


def _write_backs(deltas: Sequence[MatrixDelta]) -> list[Plan]:
    """Matrices by how far one direction explains their change and is the one that writers share."""
    changed = [delta for delta in deltas if delta.relative_norm > 0]
    ordered = sorted(
        changed, key=lambda d: (-(d.first_energy or 0.0) * (d.alignment or 0.0), -d.relative_norm, d.matrix)
    )
    sizes = sorted({max(1, round(share * len(ordered))) for share in SHARES} if ordered else ())
    return [
        Plan(
            "write-back",
            "1 matrix" if n == 1 else f"{n} matrices",
            matrices=tuple(d.matrix for d in ordered[:n]),
        )
        for n in sizes
    ]


def _patch_backs(suspect: Speaker, deltas: Sequence[MatrixDelta]) -> list[Plan]:
    model = suspect.model.torch_model
    blocks = find_blocks(model)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    changed = {delta.matrix for delta in deltas if delta.relative_norm > 0}
    found = []
    for width in sorted({max(1, round(share * len(blocks))) for share in WIDTHS}):
        for first in range(0, len(blocks) - width + 1, width):
            inside = [names[id(p)] for block in blocks[first : first + width] for p in block.parameters()]
            chosen = tuple(name for name in inside if name in changed)
            if chosen:
                where = f"block {first + 1}" if width == 1 else f"blocks {first + 1} to {first + width}"
                found.append(Plan("patch-back", where, matrices=chosen))
    return found
