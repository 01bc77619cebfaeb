"""What a reader should see of a study of harm weights."""

from __future__ import annotations

import math
import re

from tocsin.core.stats.item_sums import Estimate
from tocsin.explain.weights import Change, Condition, WeightStudy
from tocsin.report import Figure, Ranged, Section, StudyPage, Table
from tocsin.report.charts import Interval, intervals
from tocsin.report.curves import Curve, curves, heat_map
from tocsin.report.study import Cell

_LIMITS = (
    (
        "Scores are first-order predictions, one weight at a time; weights act together, so what a mask "
        "does is measured, not predicted."
    ),
    (
        "Less likely is not unable: fine-tuning on harmful samples mostly brings the behaviour back "
        "(arXiv 2604.09544). A mask is a probe, not a lock."
    ),
    "Likelihood of given responses stands for the ability to write them; no text was generated.",
)
_WHAT = {
    "harm": "the mask of the study",
    "dose": "another size of it",
    "next": "the ranks that follow",
    "random": "control: random weights",
    "magnitude": "control: weights of equal size",
    "category": "found on one category",
    "refusal": "found on refusals",
}
_ROLES = {
    "harm": "harmful",
    "opener": "harmful after a given first token",
    "benign": "harmless",
    "refusal": "refusal",
}
_LARGE = 1_000
_MATRIX = re.compile(r"\.(\d+)\.(.+?)\.weight$")


def weights_page(study: WeightStudy) -> StudyPage:
    """The page of a study."""
    found = study.n_find
    sections = [_main(study), _dose(study), _all(study)]
    if any(condition.kind == "category" for condition in study.conditions):
        sections.append(_transfer(study))
    if study.refusal_rate is not None:
        sections.append(_dissociation(study))
    sections.append(_where(study))
    return StudyPage(
        title=_headline(study),
        lead=(
            f"Of {study.n_weights:,} weights in {study.n_matrices} matrices of {study.model}, those were "
            f"found that support harmful responses most ({found['harm']} samples) and matter little to "
            f"harmless ones ({found['benign']}). They were removed for a while, and the likelihood of "
            "held-out responses was measured. Intervals hold 95 %, from resampling samples."
        ),
        sections=sections,
        limits=(*_LIMITS, *study.notes),
    )


def _headline(study: WeightStudy) -> str:
    harm = study.condition("harm")
    value = study.specificity.value
    times = "" if value is None else f", {_times(value)} times as much as harmless ones"
    return f"Removing {harm.n_weights:,} weights makes harmful responses {_rise(harm)} less likely{times}"


def _rise(condition: Condition) -> str:
    change = condition.of("harm")
    value = None if change is None else change.change.value
    return "no" if value is None else f"{value:.2f} nats per token"


def _main(study: WeightStudy) -> Section:
    harm = study.condition("harm")
    marks = [
        Interval(_ROLES[change.role], change.change.value, change.change.low, change.change.high)
        for change in harm.changes
        if change.category is None
        and change.change.value is not None
        and change.change.low is not None
        and change.change.high is not None
    ]
    low = min([0.0, *(mark.low for mark in marks)])
    high = max([0.1, *(mark.high for mark in marks)])
    unchanged = "were bit for bit the same" if study.weights_unchanged else "WERE NOT THE SAME"
    return Section(
        title="What the mask does",
        paragraphs=[
            (
                f"The mask holds {harm.n_weights:,} weights, {harm.share:.2g} of those considered "
                f"({harm.n_zero:,} were zero already). Harmful responses lose "
                f"{_shown(study.specificity)} times as much likelihood as harmless ones. After the study "
                f"all weights {unchanged} as before."
            )
        ],
        parts=[
            Figure(
                title="Loss of likelihood on held-out responses, nats per token",
                markup=intervals("mask", "Loss of likelihood", marks, low=low, high=high),
                note="Above 0 the responses became less likely.",
            )
        ],
    )


def _dose(study: WeightStudy) -> Section:
    doses = sorted((c for c in study.conditions if c.kind in {"harm", "dose"}), key=lambda c: c.n_weights)
    lines = []
    for role in ("harm", "benign", "refusal"):
        points, band = [], []
        for condition in doses:
            change = condition.of(role)
            if change is None or change.change.value is None:
                continue
            value = change.change.value
            points.append((float(max(condition.n_weights, 1)), value))
            band.append((_or(change.change.low, value), _or(change.change.high, value)))
        if points:
            lines.append(Curve(_ROLES[role], points, band))
    return Section(
        title="Dose and response",
        parts=[
            Figure(
                title="Loss of likelihood by the number of weights removed",
                markup=curves(
                    "dose",
                    "Loss of likelihood by size of the mask",
                    lines,
                    x_label="weights removed",
                    y_label="nats per token",
                    log_x=True,
                    reference=0.0,
                ),
            )
        ],
    )


def _all(study: WeightStudy) -> Section:
    with_refusal = study.refusal_rate is not None
    rows: list[list[Cell | Ranged]] = []
    for c in study.conditions:
        row: list[Cell | Ranged] = [c.name, _WHAT[c.kind], c.n_weights]
        row += [_cell(c.of(role)) for role in ("harm", "opener", "benign")]
        if with_refusal:
            row += [_cell(c.of("refusal")), c.refusal_rate]
        rows.append(row)
    columns = ["removed", "what", "weights", "harmful", "after its opener", "harmless"]
    if with_refusal:
        columns += ["refusals", "refusal rate"]
    return Section(
        title="All conditions",
        parts=[
            Table(
                title="Loss of likelihood on held-out responses, nats per token",
                columns=columns,
                rows=rows,
                note="'After its opener' gives the first token of the response, as a prefilled answer does.",
            )
        ],
    )


def _transfer(study: WeightStudy) -> Section:
    masks = [c for c in study.conditions if c.kind == "category"]
    names = [c.name for c in masks]
    values = [[_value(c.of("harm", name)) for name in names] for c in masks]
    parts: list[Table | Figure] = [
        Figure(
            title="Loss of likelihood, by the category the weights were found on (rows) and measured on",
            markup=heat_map("transfer", "Transfer between categories", names, names, values),
            note="Rows alike mean that the categories share their weights.",
        )
    ]
    if study.overlaps:
        parts.append(
            Table(
                title="Shared weights",
                columns=("category", "category", "Jaccard", "by chance"),
                rows=[(o.a, o.b, o.jaccard, f"{o.by_chance:.1e}") for o in study.overlaps],
            )
        )
    return Section(title="Transfer between categories", parts=parts)


def _dissociation(study: WeightStudy) -> Section:
    chosen = [c for c in study.conditions if c.kind in {"harm", "refusal"}]
    rows: list[list[Cell | Ranged]] = [["none", None, study.refusal_rate]]
    rows += [[c.name, _cell(c.of("opener")), c.refusal_rate] for c in chosen]
    text = (
        "Writing harm and refusing it come apart when removing one leaves the other as it was."
        if any(c.kind == "refusal" for c in chosen)
        else "Only the harm mask was tried: weights that refuse are looked for on the testbed alone."
    )
    return Section(
        title="Refusal",
        paragraphs=[text],
        parts=[
            Table(
                title="Harm under a given opener, and how often a reply would begin with a refusal",
                columns=("removed", "harmful after its opener", "refusal rate"),
                rows=rows,
            )
        ],
    )


def _where(study: WeightStudy) -> Section:
    counts: dict[tuple[int, str], int] = {}
    for each in study.matrices:
        found = _MATRIX.search(each.matrix)
        if found:
            counts[int(found[1]), found[2]] = each.n_weights
    blocks = sorted({block for block, _ in counts})
    kinds = sorted({kind for _, kind in counts})
    values = [[float(counts.get((block, kind), 0)) for kind in kinds] for block in blocks]
    return Section(
        title="Where they are",
        parts=[
            Figure(
                title="Weights of the mask by block and matrix",
                markup=heat_map(
                    "where",
                    "Weights by matrix",
                    [f"block {block + 1}" for block in blocks],
                    kinds,
                    values,
                    digits=0,
                ),
            )
        ],
    )


def _cell(change: Change | None) -> Ranged | float | None:
    if change is None or change.change.value is None:
        return None
    value, low, high = change.change.value, change.change.low, change.change.high
    return value if low is None or high is None else Ranged(value, low, high)


def _value(change: Change | None) -> float:
    return math.nan if change is None else _or(change.change.value, math.nan)


def _or(value: float | None, other: float) -> float:
    return other if value is None else value


def _shown(estimate: Estimate) -> str:
    if estimate.value is None:
        return "an unknown number of"
    if estimate.low is None or estimate.high is None:
        return _times(estimate.value)
    return f"{_times(estimate.value)} ({_times(estimate.low)} to {_times(estimate.high)})"


def _times(ratio: float) -> str:
    """A ratio; where harmless responses hardly change it is large, and its digits say nothing."""
    return f"over {_LARGE:,}" if ratio > _LARGE else f"{ratio:.1f}"
