"""The section on gate neurons, for the page of a causal mediation analysis."""

from __future__ import annotations

from collections.abc import Sequence

from tocsin.api.explain_mediation_tables import (
    estimate_cell,
    estimate_ends,
    estimate_text,
    estimate_value,
)
from tocsin.explain.mediation import MediationStudy
from tocsin.explain.mediation.records import GatePoint
from tocsin.report.curves import Curve, curves
from tocsin.report.study import Figure, Section, Table


def gate_section(study: MediationStudy) -> Section:
    """How many neurons of a block carry its effect, and what changing them costs."""
    gate = study.gate
    if gate is None:
        return Section(title="Gate neurons")
    n_test = study.n_parts["test"]
    size = (
        f"{gate.k} of {gate.n_neurons:,} neurons of block {gate.block} reach 80 % of the whole MLP's effect "
        f"on the selection pairs."
        if gate.k is not None
        else f"No tried set of block {gate.block} reached 80 % of its MLP's effect on the selection pairs."
    )
    names = {"effect": "by effect", "random": "random", "magnitude": "of equal size"}

    def line(order: str, intervention: str, name: str) -> Curve:
        points = [
            p for p in gate.points if p.order == order and p.intervention == intervention and p.part == "test"
        ]
        return _gate_curve(points, name)

    columns = ("set to", "neurons", "Y of harmful prompts", "share of TE", "Y of harmless prompts")
    k = gate.k if gate.k is not None else 16
    rows = [
        (
            p.intervention,
            names[p.order],
            estimate_cell(p.outcome),
            estimate_cell(p.share),
            estimate_cell(p.harmless_outcome),
        )
        for p in gate.points
        if p.part == "test" and p.k == k
    ]
    return Section(
        title="Gate neurons",
        paragraphs=[
            (
                f"{size} On {n_test} test pairs the whole MLP's effect is {estimate_text(gate.whole)}, the "
                f"set's share of the effect of an outcome with other openers {estimate_text(gate.swapped)}. "
                "A set that only works for its own openers encodes words, not a decision."
            )
        ],
        parts=[
            Figure(
                title="Y of harmful test prompts with k neurons at the harmless run's values",
                markup=curves(
                    "gate",
                    "Outcome by number of neurons",
                    [line(order, "patch", name) for order, name in names.items()],
                    x_label="neurons",
                    y_label="Y",
                    log_x=True,
                    reference=study.y_harmful.value,
                ),
                note="Dashed: Y without patches, all pairs.",
            ),
            Figure(
                title="Y of harmful test prompts by what the strongest neurons are set to",
                markup=curves(
                    "gate-interventions",
                    "Outcome by intervention",
                    [line("effect", name, name) for name in ("patch", "zero", "mean", "clamp", "scale")],
                    x_label="neurons",
                    y_label="Y",
                    log_x=True,
                    reference=study.y_harmful.value,
                ),
            ),
            Table(title=f"Sets of {k} neurons on the test pairs", columns=columns, rows=rows),
            Table(
                title="What the set costs, with the intervention at every place",
                columns=("set to", "perplexity ratio", "harmless refused", "harmful refused"),
                rows=[
                    ("nothing", 1.0, *gate.refusals_before),
                    *(
                        (
                            u.intervention,
                            estimate_cell(u.perplexity_ratio),
                            u.harmless_refusals,
                            u.harmful_refusals,
                        )
                        for u in gate.utility
                    ),
                ],
                note="Refused: Y below 0. Perplexity of the text of harmless test prompts.",
            ),
        ],
    )


def _gate_curve(points: Sequence[GatePoint], name: str) -> Curve:
    known = [p for p in points if p.outcome.value is not None]
    return Curve(
        name,
        [(float(p.k), estimate_value(p.outcome)) for p in known],
        [estimate_ends(p.outcome) for p in known],
    )
