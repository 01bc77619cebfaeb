"""What a reader should see of a study of directions."""

from __future__ import annotations

import math

from tocsin.core.stats.item_sums import Estimate
from tocsin.explain.directions import DirectionStudy
from tocsin.report import Figure, Ranged, Section, StudyPage, Table
from tocsin.report.charts import Series, scatter
from tocsin.report.curves import Curve, curves

_LIMITS = (
    "Adding a vector shows what the model can be made to do, not what it does by itself.",
    (
        "Harmful and harmless prompts of public sets differ in punctuation, length and first words too: read "
        "every AUROC beside the surface baselines."
    ),
    "Refusals and answers to the question are found by phrases; what a reply says is not judged.",
)
_CSS = {
    "refused harmful": "flagged",
    "accepted harmful": "abstained",
    "refused harmless": "partial",
    "accepted harmless": "unflagged",
    "wrapped harmful": "known",
}


def directions_page(study: DirectionStudy) -> StudyPage:
    """The page of a study."""
    sections = [_beliefs(study), _layers(study), _steering(study)]
    if study.tuned:
        sections.append(_tuned(study))
    sections.append(_checks(study))
    fit = study.n_fit
    return StudyPage(
        title=_headline(study),
        lead=(
            f"Centres of {fit['harmful']} harmful and {fit['harmless']} harmless prompts in {study.model} "
            f"({study.n_blocks} blocks), measured on other prompts. Intervals hold 95 %, over prompts."
        ),
        sections=sections,
        limits=(*_LIMITS, *study.notes),
    )


def _headline(study: DirectionStudy) -> str:
    value = study.auroc.value
    shown = "" if value is None else f", AUROC {value:.3f}"
    if study.layers[-1].refusal_norm is None:
        return (
            f"The model tells harmful prompts apart{shown}; it does not refuse, so refusal has no direction"
        )
    angles = [abs(layer.cosine) for layer in study.layers if layer.cosine is not None]
    mean = sum(angles) / len(angles) if angles else math.nan
    return f"Harmfulness and refusal: mean |cosine| {mean:.2f} over the layers{shown}"


def _beliefs(study: DirectionStudy) -> Section:
    table = Table(
        title="Where prompts lie in the plane of beliefs",
        columns=("bucket", "prompts", "harmfulness", "refusal"),
        rows=[[b.name, b.n, _cell(b.harmfulness), _cell(b.refusal)] for b in study.buckets],
        note="Means of Delta over rows 1 to the last, from -2 to 2; above 0: nearer to harmful or refused.",
    )
    series = [
        Series(name, _CSS.get(name, "flagged"), [(x, y) for x, y in points if y is not None])
        for name, points in study.planes.items()
    ]
    parts: list[Table | Figure] = [table]
    if any(one.points for one in series):
        figure = scatter(
            "plane",
            "Belief in harmfulness against belief in refusal",
            series,
            x_label="harmfulness, end of the instruction",
            y_label="refusal, end of the prompt",
        )
        note = (
            "Red: refused harmful. Brown: accepted harmful. Green: refused harmless. "
            "Grey: accepted harmless. Violet: wrapped harmful."
        )
        parts.insert(0, Figure(title="Harmfulness and refusal", markup=figure, note=note))
    return Section(title="Beliefs", parts=parts)


def _layers(study: DirectionStudy) -> Section:
    names = list(study.layers[0].scores)
    lines = []
    for name in names:
        known = [(x.row, x.scores[name]) for x in study.layers if x.scores[name].value is not None]
        lines.append(Curve(name, [(row, _number(e.value)) for row, e in known], [_band(e) for _, e in known]))
    parts: list[Table | Figure] = [
        Figure(
            title="Cluster score by depth",
            markup=curves(
                "scores", "Mean s of each bucket", lines, x_label="row", y_label="s", reference=0.0
            ),
            note="Row 0 is the embedding of the instruction's last token.",
        )
    ]
    shown = [layer for layer in study.layers if layer.cosine is not None]
    if shown:
        line = Curve("cosine", [(layer.row, _number(layer.cosine)) for layer in shown])
        parts.append(
            Figure(
                title="Cosine between both directions",
                markup=curves("cosine", "Cosine", [line], x_label="row", y_label="cosine", reference=0.0),
            )
        )
    parts.append(
        Table(
            title="Layers",
            columns=("row", "AUROC of s", "cosine", "length harmfulness", "length refusal"),
            rows=[[x.row, _cell(x.auroc), x.cosine, x.harm_norm, x.refusal_norm] for x in study.layers],
        )
    )
    parts.append(
        Table(
            title="Beside it: what the surface tells",
            columns=("what", "AUROC"),
            rows=[
                ["Delta over rows 1 to the last", _cell(study.auroc)],
                ["row 0 alone: the last token", _cell(study.embedding_auroc)],
                *([name.replace("_", " "), value] for name, value in study.surface.items()),
            ],
            note="0.5 is chance; a value far below it tells as much as one far above.",
        )
    )
    return Section(title="Layers", parts=parts)


def _steering(study: DirectionStudy) -> Section:
    table = Table(
        title="Adding a direction at one block while the prompt is read",
        columns=("prompts", "direction", "block", "n", "refuses", "says harmless", "neither"),
        rows=[
            [
                one.prompts,
                "none" if one.sign == 0 else f"{'+' if one.sign > 0 else '-'} {one.direction}",
                None if one.sign == 0 else one.row,
                one.n,
                _cell(one.refused),
                _cell(one.says_no),
                one.n_invalid,
            ]
            for one in study.steering
        ],
        note=(
            "All directions have the length of the harmfulness direction of their block. 'Says harmless': of "
            "the replies to a question for recognition that say either; 'neither': the others."
        ),
    )
    return Section(title="Steering and reply inversion", parts=[table])


def _tuned(study: DirectionStudy) -> Section:
    table = Table(
        title="Beliefs by the original centres",
        columns=("model", "prompts", "harmful", "harmless", "refuses harmful"),
        rows=[
            [one.name, one.n, _cell(one.harmfulness), _cell(one.harmless), one.refused] for one in study.tuned
        ],
    )
    return Section(title="After fine-tuning", parts=[table])


def _checks(study: DirectionStudy) -> Section:
    table = Table(
        title="Planted directions",
        columns=("direction", "|cosine| with the planted one"),
        rows=[[name, value] for name, value in study.planted.items()],
    )
    return Section(
        title="Checks",
        paragraphs=[f"Values of the published tensors: {study.golden}."],
        parts=[table] if study.planted else [],
    )


def _cell(estimate: Estimate) -> Ranged | float | None:
    if estimate.value is None or estimate.low is None or estimate.high is None:
        return estimate.value
    return Ranged(estimate.value, estimate.low, estimate.high)


def _band(estimate: Estimate) -> tuple[float, float]:
    value = _number(estimate.value)
    if estimate.low is None or estimate.high is None:
        return value, value
    return estimate.low, estimate.high


def _number(value: float | None) -> float:
    return math.nan if value is None else value
