"""The page of an evaluation: rates with intervals, the surface baselines beside them, and what is missing."""

from __future__ import annotations

from tocsin.api.evaluation import Evaluation, Interval
from tocsin.report import Figure, Ranged, Section, StudyPage, Table
from tocsin.report.charts import Interval as IntervalMark
from tocsin.report.charts import intervals
from tocsin.report.curves import Curve, curves

_RATES = (
    ("AUROC", "auroc"),
    ("average precision", "average_precision"),
    ("accuracy", "accuracy"),
    ("sensitivity: positives flagged", "sensitivity"),
    ("specificity: negatives not flagged", "specificity"),
)


def evaluation_page(found: Evaluation) -> StudyPage:
    """What a reader of the report should see of an evaluation."""
    numbers = found.model_dump(mode="python")
    rates = [(title, numbers[key], numbers[f"{key}_ci"]) for title, key in _RATES]
    rates += [
        (
            f"sensitivity where {float(rate):.0%} of negatives are flagged",
            value,
            found.recall_at_fpr_ci.get(rate),
        )
        for rate, value in found.recall_at_fpr.items()
    ]
    against = found.abstentions_count_against.model_dump(mode="python")
    strict = [(title, against[key], against[f"{key}_ci"]) for title, key in _RATES if key in against]
    marks = [
        IntervalMark(title, value, interval[0], interval[1])
        for title, value, interval in rates
        if value is not None and interval is not None
    ]
    parts: list[Table | Figure] = []
    if marks:
        parts.append(
            Figure(title="Rates with 95 % intervals", markup=intervals("rates", "Measured rates", marks))
        )
    parts += [
        Table(title="On scored rows", columns=("measure", "value"), rows=[_row(*rate) for rate in rates]),
        Table(
            title="With abstentions counted against the detector",
            columns=("measure", "value"),
            rows=[_row(*rate) for rate in strict],
            note="An abstention is not caught, falsely flagged, or wrong.",
        ),
    ]
    sections = [
        Section(title="Rates", paragraphs=_reasons(found), parts=parts),
        Section(title="Surface baselines", paragraphs=found.notes, parts=[_baselines(found)]),
        Section(title="Rows", parts=[_rows(found)]),
    ]
    if found.calibration is not None:
        sections.insert(2, _calibration(found))
    return StudyPage(
        title=_headline(found),
        lead=(
            f"{found.detector} was run over {found.n:,} labelled rows ({found.n_positive:,} positive, "
            f"{found.n_negative:,} negative) and scored {found.coverage:.1%} of them. Positive means: "
            f"{', '.join(found.positive)}."
        ),
        sections=sections,
        limits=[
            "Rates hold for data like these. Where harm is rarer, a larger share of the flags is false.",
            "The interval of a rate tells the chance of sampling only, not errors in the labels.",
        ],
    )


def _headline(found: Evaluation) -> str:
    if found.auroc is None:
        return f"{found.detector}: no ranking could be measured"
    return f"{found.detector}: AUROC {found.auroc:.3f}"


def _row(title: str, value: float | None, interval: Interval | None) -> tuple[str, Ranged | float | None]:
    if value is None or interval is None:
        return title, value
    return title, Ranged(value, *interval)


def _reasons(found: Evaluation) -> list[str]:
    return [f"{key}: {reason}." for key, reason in found.reasons.items()]


def _baselines(found: Evaluation) -> Table:
    rows = [(name.replace("_", " "), value) for name, value in found.confounds.items()]
    return Table(
        title="AUROC of the surface alone, on the same rows",
        columns=("feature", "AUROC"),
        rows=[*rows, (f"{found.detector} itself", found.auroc)],
        note="Below 0.5 a feature tells as much as the same distance above it.",
    )


def _rows(found: Evaluation) -> Table:
    cells = found.confusion
    counted: list[tuple[str, int]] = [
        ("positive and flagged", cells.true_positive),
        ("positive and not flagged", cells.false_negative),
        ("negative and flagged", cells.false_positive),
        ("negative and not flagged", cells.true_negative),
        ("read in part", found.partial),
        ("without a label, left out", found.unlabelled),
        *((f"not judged: {reason}", count) for reason, count in found.abstentions.items()),
    ]
    return Table(title="Rows by label and flag", columns=("rows", "number"), rows=counted)


def _calibration(found: Evaluation) -> Section:
    bins = found.calibration.bins if found.calibration is not None else ()
    points = [(part.mean_score, part.positive_share) for part in bins]
    band = [part.positive_share_ci for part in bins]
    lines = [Curve("share of positives", points, band), Curve("perfect", [(0.0, 0.0), (1.0, 1.0)])]
    chart = curves("calibration", "Calibration", lines, x_label="mean score", y_label="share of positives")
    note = "A band is the 95 % interval of a bin. The share of positives depends on this data's mixture."
    return Section(title="Calibration", parts=[Figure(title="Score and share", markup=chart, note=note)])
