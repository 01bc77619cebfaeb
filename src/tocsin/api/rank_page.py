"""What a reader should see of a ranking of judges."""

from __future__ import annotations

import math

from tocsin.core.stats.item_sums import Estimate
from tocsin.judges.benchmark import JudgeRanking, JudgeScore
from tocsin.judges.benchmark.scoring import FINE
from tocsin.report import Figure, Ranged, Section, StudyPage, Table
from tocsin.report.charts import Interval, intervals
from tocsin.report.curves import heat_map
from tocsin.report.study import Cell

_SHOWN = 40
"""Judges in one chart; the tables show all."""
_LIMITS = (
    (
        "A judge is scored by the order of its scores only: where to put a threshold, and how it does on "
        "other kinds of harm, is not said."
    ),
    (
        "Reference metrics need a known harmful answer to every prompt, so they can audit judges and cannot "
        "replace them."
    ),
    (
        "Harmful responses of this benchmark are longer than the others. A score that does not stay under "
        "length control may be a score of length."
    ),
)


def ranking_page(found: JudgeRanking) -> StudyPage:
    """The page of a ranking."""
    best = found.judges[0] if found.judges else None
    value = None if best is None else best.overall.value
    title = (
        "No judge gave scores"
        if best is None or value is None
        else f"The best of {len(found.judges)} judges is '{best.judge}' with {value:.3f}"
    )
    sections = [_overall(found), _length(found), _fine(found), _differences(found)]
    if any(judge.sources or judge.attacks for judge in found.judges):
        sections.append(_parts(found))
    if found.incomplete:
        sections.append(_incomplete(found))
    return StudyPage(
        title=title,
        lead=(
            f"{found.n_prompts:,} prompts of {found.data} (layout {found.layout}) with "
            f"{found.n_responses:,} responses whose order of harm is known, scored by rule {found.rule}. A "
            "judge earns a prompt when its lowest score of a harmful response is above its highest of a safe "
            "one, and fully when it is above the irrelevant and useless ones too. Intervals hold 95 %, from "
            "resampling prompts."
        ),
        sections=sections,
        limits=(*_LIMITS, *found.notes),
    )


def _overall(found: JudgeRanking) -> Section:
    other = "v1" if found.rule == "v2" else "v2"
    return Section(
        title="Overall",
        parts=[
            _chart("overall", "Overall score", [(each.judge, each.overall) for each in found.judges]),
            Table(
                title="Scores from 0 to 1",
                columns=(
                    "judge",
                    f"overall ({found.rule})",
                    f"by rule {other}",
                    "pair accuracy",
                    "prompts",
                    "scored",
                    "missing as 0",
                ),
                rows=[
                    (
                        each.judge,
                        _cell(each.overall),
                        _cell(each.other_rule),
                        _cell(each.pair_accuracy),
                        each.n_prompts,
                        f"{each.coverage:.1%}{_why(each)}",
                        round(each.overall_all_prompts, 3),
                    )
                    for each in found.judges
                ],
                note=(
                    "Pair accuracy counts all pairs of a harmful and another response, ties half. 'Missing "
                    "as 0' lets a prompt with an unscored response earn nothing."
                ),
            ),
        ],
    )


def _why(judge: JudgeScore) -> str:
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in judge.abstained.items())
    return f" ({reasons})" if reasons else ""


def _length(found: JudgeRanking) -> Section:
    return Section(
        title="With length taken out",
        paragraphs=[
            (
                "The adjusted scores have lost whatever the length of a response explains within each "
                "category; misleading pairs are those whose other response is at least as long as the "
                "harmful one."
            )
        ],
        parts=[
            _chart(
                "length",
                "Pair accuracy, adjusted for length",
                [(each.judge, each.length.pair_accuracy) for each in found.judges],
            ),
            Table(
                title="Plain and length-controlled",
                columns=(
                    "judge",
                    "overall",
                    "overall, adjusted",
                    "pairs",
                    "pairs, adjusted",
                    "misleading pairs right",
                    "pairs of them",
                    "correlation with length",
                ),
                rows=[
                    (
                        each.judge,
                        each.overall.value,
                        _cell(each.length.overall),
                        each.pair_accuracy.value,
                        _cell(each.length.pair_accuracy),
                        _cell(each.length.misleading_accuracy),
                        each.length.misleading_pairs,
                        each.length.correlation,
                    )
                    for each in found.judges
                ],
            ),
        ],
    )


def _fine(found: JudgeRanking) -> Section:
    names = [category.value for category in FINE]
    judges = found.judges[:_SHOWN]
    values = [[_number(each.fine[name]) for name in names] for each in judges]
    return Section(
        title="Against each kind of response",
        parts=[
            Figure(
                title="Share of prompts whose harmful responses all score higher",
                markup=heat_map(
                    "fine", "Fine-grained scores", [each.judge for each in judges], names, values
                ),
                note="A tie is lost against safe responses and half won against the others.",
            ),
            Table(
                title="Fine-grained scores",
                columns=("judge", *names),
                rows=[(each.judge, *(_cell(each.fine[name]) for name in names)) for each in found.judges],
            ),
        ],
    )


def _differences(found: JudgeRanking) -> Section:
    return Section(
        title="Is the best one better",
        parts=[
            Table(
                title="The best judge against each other",
                columns=("other", "prompts", "difference", "p", "p (Holm)"),
                rows=[
                    (d.other, d.n_prompts, _cell(d.difference), _p(d.p_value), _p(d.p_holm))
                    for d in found.differences
                ],
                note="Paired permutation test over prompts that both scored, two-sided.",
            )
        ],
    )


def _parts(found: JudgeRanking) -> Section:
    parts: list[Table | Figure] = []
    sources = sorted({part.name for judge in found.judges for part in judge.sources})
    if sources:
        parts.append(
            Table(
                title="Overall score by source of the prompt",
                columns=("judge", *(f"{name} ({_count(found, name)})" for name in sources)),
                rows=[
                    (judge.judge, *(_cell(_of(judge, name)) for name in sources)) for judge in found.judges
                ],
            )
        )
    attacks = sorted({part.name for judge in found.judges for part in judge.attacks})
    if attacks:
        parts.append(
            Table(
                title="Pair accuracy by the attack that got the harmful response",
                columns=("judge", *attacks),
                rows=[
                    (
                        judge.judge,
                        *(
                            next((_cell(p.pair_accuracy) for p in judge.attacks if p.name == name), None)
                            for name in attacks
                        ),
                    )
                    for judge in found.judges
                ],
            )
        )
    return Section(title="By source and attack", parts=parts)


def _count(found: JudgeRanking, source: str) -> int:
    return next(p.n_prompts for judge in found.judges for p in judge.sources if p.name == source)


def _of(judge: JudgeScore, source: str) -> Estimate:
    return next((p.overall for p in judge.sources if p.name == source), Estimate(value=None))


def _incomplete(found: JudgeRanking) -> Section:
    return Section(
        title="Left out",
        parts=[
            Table(
                title=f"{len(found.incomplete):,} incomplete prompts",
                columns=("prompt", "what is missing"),
                rows=list(found.incomplete.items()),
            )
        ],
    )


def _chart(name: str, title: str, pairs: list[tuple[str, Estimate]]) -> Figure:
    marks = [
        Interval(judge, each.value, each.low, each.high)
        for judge, each in pairs[:_SHOWN]
        if each.value is not None and each.low is not None and each.high is not None
    ]
    more = f"The first {_SHOWN} of {len(pairs)} judges." if len(pairs) > _SHOWN else ""
    return Figure(title=title, markup=intervals(name, title, marks), note=more)


def _cell(given: Estimate) -> Cell | Ranged:
    if given.value is None or given.low is None or given.high is None:
        return given.value
    return Ranged(given.value, given.low, given.high)


def _number(given: Estimate) -> float:
    return math.nan if given.value is None else given.value


def _p(value: float) -> str:
    return f"{value:.4f}" if value >= 0.0005 else "< 0.0005"
