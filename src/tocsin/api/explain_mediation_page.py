"""The page of a causal mediation analysis."""

from __future__ import annotations

from tocsin.api.explain_mediation_gate import gate_section
from tocsin.api.explain_mediation_tables import (
    depth_curves,
    effect_curve,
    effect_table,
    estimate_cell,
    estimate_ends,
    estimate_text,
    estimate_value,
)
from tocsin.explain.mediation import Level, MediationStudy
from tocsin.report.charts import Interval, intervals
from tocsin.report.curves import Curve, curves, heat_map
from tocsin.report.study import Cell, Figure, Ranged, Section, StudyPage, Table

_LIMITS = (
    (
        "An effect says that a component's value moves the outcome of this model on these prompts. It does "
        "not say that the component was made for it, nor that it does the same elsewhere."
    ),
    (
        "The outcome is a measure of how near the reply is to complying. In a model that refuses, it "
        "measures refusal rather than harm; in one that does not, it measures the choice of opener."
    ),
    (
        "Zeroing or swapping a part can be made up for by later parts, so small single effects do not prove "
        "that a part is idle."
    ),
)
_OUTCOMES = {
    "logit_margin": "log-odds of complying against refusing first tokens, in nats",
    "seq_logprob": "log-likelihood per token of a complying reply less that of a refusal, in nats",
    "judge": "a judge's score of the greedy reply, from 0 to 1",
}
_CONSTRUCTIONS = {
    "position_free": "a harmless prompt of any length, changed at its last place only",
    "aligned": "a harmless prompt of as many tokens",
    "noise": "the same prompt with noise on its content",
}


def mediation_page(study: MediationStudy) -> StudyPage:
    """The page of a study."""
    sections = [_total(study)]
    names = [level.name for level in study.levels]
    if "layer" in names:
        sections.append(_layers(study))
    if "module" in names:
        sections.append(_modules(study))
    if "head" in names:
        sections.append(_heads(study.level("head")))
    if study.spreads:
        sections.append(_neurons(study))
    if study.gate is not None:
        sections.append(gate_section(study))
    if "region" in names:
        sections.append(_tokens(study))
    sections.append(_checks(study))
    return StudyPage(
        title=_headline(study),
        lead=(
            f"{study.n_pairs} harmful prompts were run through {study.model}, each beside a counterfactual: "
            f"{_CONSTRUCTIONS[study.construction]}. Parts of one run were held at their values in the other. "
            f"The outcome Y is {_OUTCOMES[study.outcome]}. Intervals hold 95 %, from resampling pairs "
            f"{study.settings['n_resamples']:,} times."
        ),
        sections=sections,
        limits=(*_LIMITS, *study.notes),
    )


def _headline(study: MediationStudy) -> str:
    te = study.te
    way = "towards complying" if (te.value or 0) > 0 else "towards refusing"
    found = f"Harmful prompts move the outcome by {estimate_text(te)} {way}"
    if study.summary is None or study.summary.mlp_share.value is None:
        return found
    share = study.summary.mlp_share.value
    return f"{found}; MLPs carry {100 * share:.0f} % of the modules' effects"


def _total(study: MediationStudy) -> Section:
    rows: list[list[Cell | Ranged]] = [
        ["Y of harmful prompts", estimate_cell(study.y_harmful)],
        ["Y of the counterfactual", estimate_cell(study.y_harmless)],
        ["total effect (TE)", estimate_cell(study.te)],
    ]
    if study.summary is not None:
        rows += [
            ["centre of module effects (0 first, 1 last block)", estimate_cell(study.summary.depth)],
            ["MLP share of module effects", estimate_cell(study.summary.mlp_share)],
            ["MLP share in the last third", estimate_cell(study.summary.late_mlp_share)],
        ]
    parts = study.n_parts
    return Section(
        title="Total effect",
        paragraphs=[
            (
                f"Of the pairs, {parts['discover']} choose neurons, {parts['select']} choose how many, and "
                f"{parts['test']} test them. Averages of ratios leave out {study.n_below_floor} pairs whose "
                f"own total effect is below {study.te_floor:.3g}."
            )
        ],
        parts=[Table(title="Outcome and total effect", columns=("quantity", "value"), rows=rows)],
    )


def _layers(study: MediationStudy) -> Section:
    lines = depth_curves(study.level("layer"), "")
    found = [level for level in study.levels if level.name == "layer_at_content"]
    for level in found:
        lines += depth_curves(level, " at the content")
    return Section(
        title="Layers",
        paragraphs=[
            (
                "The residual stream holds everything before it, so at the last place this curve ends at the "
                "total effect by construction. A late rise is no evidence by itself: see the modules."
            )
        ],
        parts=[
            Figure(
                title="Effect of replacing the residual stream after a block",
                markup=curves(
                    "layers",
                    "Effects of layers by depth",
                    lines,
                    x_label="block",
                    y_label="effect on Y",
                    reference=study.te.value,
                ),
                note="Dashed: the total effect.",
            ),
            effect_table(study.level("layer")),
        ],
    )


def _modules(study: MediationStudy) -> Section:
    level = study.level("module")
    parts: list[Figure | Table] = []
    for key, title in (("nie", "Sufficiency (NIE)"), ("rnie", "Necessity (rNIE)")):
        lines = [
            effect_curve([e for e in level.effects if e.name.endswith(kind)], key, name)
            for kind, name in (("mlp", "MLP"), ("attention", "attention"))
        ]
        parts.append(
            Figure(
                title=f"{title} of single modules",
                markup=curves(
                    f"modules-{key}",
                    f"{title} by depth",
                    lines,
                    x_label="block",
                    y_label="effect on Y",
                    reference=0.0,
                ),
            )
        )
    parts.append(effect_table(level))
    windows = [each for each in study.levels if each.name == "window"]
    for each in windows:
        lines = [
            effect_curve([e for e in each.effects if e.name.endswith(kind)], "nie", name)
            for kind, name in (("mlp", "MLP"), ("attention", "attention"))
        ]
        parts.append(
            Figure(
                title="Sufficiency of neighbouring blocks' modules together",
                markup=curves(
                    "windows",
                    "Effects of windows",
                    lines,
                    x_label="block",
                    y_label="effect on Y",
                    reference=0.0,
                ),
                note="Single effects are often small because later modules make up for them.",
            )
        )
    return Section(
        title="Attention and MLP",
        paragraphs=[
            (
                "Attention feeds the MLP of its own block, and every module feeds later ones, so these "
                "effects are nested: their sum is not the effect of all together."
            )
        ],
        parts=parts,
    )


def _heads(level: Level) -> Section:
    values: dict[int, list[float]] = {}
    for effect in level.effects:
        values.setdefault(effect.block or 0, []).append(estimate_value(effect.nie))
    blocks = sorted(values)
    heads = [f"head {i + 1}" for i in range(max(map(len, values.values())))]
    return Section(
        title="Attention heads",
        parts=[
            Figure(
                title="NIE of heads, by block (rows)",
                markup=heat_map(
                    "heads",
                    "Effects of heads",
                    [f"block {b}" for b in blocks],
                    heads,
                    [values[b] for b in blocks],
                ),
            ),
            effect_table(level),
        ],
    )


def _neurons(study: MediationStudy) -> Section:
    parts: list[Figure | Table] = [
        Table(
            title="How unevenly neurons share their block's effect",
            columns=("block", "neurons", "Gini", "share of the top 1 %"),
            rows=[(s.block, s.n_neurons, s.gini, s.top_share) for s in study.spreads],
            note="From first-order estimates of every neuron, on the discovery pairs.",
        ),
        Figure(
            title="Neurons at or above an absolute effect",
            markup=curves(
                "neurons",
                "Distribution of neuron effects",
                [Curve(f"block {s.block}", [*s.histogram]) for s in study.spreads],
                x_label="absolute effect on Y",
                y_label="share of neurons",
                log_x=True,
                log_y=True,
            ),
        ),
    ]
    parts += [effect_table(level) for level in study.levels if level.name in {"neuron", "group"}]
    if study.refined:
        parts.append(
            Table(
                title="Best windows after halving",
                columns=("block", "neurons", "mean effect"),
                rows=[
                    (r.block, f"{first}" if last - first == 1 else f"{first}-{last - 1}", score)
                    for r in study.refined
                    for first, last, score in r.windows
                ],
                note="Discovery pairs; in the direction of the total effect.",
            )
        )
    return Section(
        title="Neurons",
        paragraphs=[
            (
                "Windows of neighbours assume that related neurons lie side by side, as the paper does; "
                "neurons have no such order, so a window can hide a strong neuron among weak ones of the "
                "other sign. Single neurons are ranked without that assumption. The table of single neurons "
                "is measured on pairs that took no part in choosing them."
            )
        ],
        parts=parts,
    )


def _tokens(study: MediationStudy) -> Section:
    region = study.level("region")
    marks = [
        Interval(e.name, estimate_value(e.nie), *estimate_ends(e.nie))
        for e in region.effects
        if e.nie.value is not None
    ]
    low = min([0.0, *(m.low for m in marks)])
    high = max([0.01, *(m.high for m in marks)])
    places = study.level("place")
    points = [(float(i - len(places.effects)), e) for i, e in enumerate(places.effects)]
    return Section(
        title="Token regions",
        paragraphs=["All blocks and the embedding are replaced at the places of a region."],
        parts=[
            Figure(
                title="NIE of regions",
                markup=intervals("regions", "Effects of token regions", marks, low=low, high=high),
            ),
            Figure(
                title="NIE of single places, counted from the end",
                markup=curves(
                    "places",
                    "Effects by place",
                    [
                        Curve(
                            name,
                            [(x, estimate_value(getattr(e, key))) for x, e in points],
                            [estimate_ends(getattr(e, key)) for _, e in points],
                        )
                        for key, name in (("nie", "NIE"), ("rnie", "rNIE"))
                    ],
                    x_label="place from the end",
                    y_label="effect on Y",
                    reference=0.0,
                ),
            ),
            effect_table(region),
        ],
    )


def _checks(study: MediationStudy) -> Section:
    rows: list[list[Cell | Ranged]] = []
    for level in study.levels:
        significant = [
            sum(p is not None and p < 0.05 for p in values)
            for values in ([e.p_holm for e in level.effects], [e.p_bh for e in level.effects])
        ]
        block = level.effects[0].block if level.name in {"group", "neuron"} else None
        rows.append(
            [
                level.name if block is None else f"{level.name} of block {block}",
                "estimated" if level.is_estimated else "patched",
                len(level.effects),
                level.effects[0].n,
                *significant,
                level.agreement,
                level.directions,
            ]
        )
    bits = "bit for bit as before" if study.weights_unchanged else "NOT AS BEFORE"
    return Section(
        title="Checks",
        paragraphs=[
            (
                f"Patching parts with their own values changed Y by at most {study.identity_gap:.1g}. After "
                f"the study all weights were {bits}."
            )
        ],
        parts=[
            Table(
                title="Levels",
                columns=(
                    "level", "how", "components", "pairs", "below 0.05 (Holm)", "below 0.05 (BH)",
                    "Spearman with first-order estimates", "Spearman of NIE and rNIE",
                ),
                rows=rows,
                note="First-order estimates come from one backward pass for each pair and direction.",
            )
        ],
    )  # fmt: skip
