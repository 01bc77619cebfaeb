"""From labelled verdicts to the numbers of an evaluation.

Every rate comes twice: over the scored rows only, and with abstentions counted against the detector (a
positive not caught, a negative falsely flagged, a wrong answer). What cannot be computed is None, and
`reasons` says why.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from tocsin.api.evaluation import Calibration, Confusion, ReliabilityBin, Shares
from tocsin.core.confounds import BAG_OF_WORDS, SURFACE_BASELINES, confound_audit
from tocsin.core.stats import (
    Rate,
    brier,
    expected_calibration_error,
    ranking_intervals,
    reliability_bins,
    wilson_clustered,
)

FPRS = {"0.01": 0.01, "0.05": 0.05, "0.10": 0.10}
"""False positive rates at which recall is reported, by their key."""
FEW_GROUPS = 20
BASELINES = (*SURFACE_BASELINES, BAG_OF_WORDS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """One row: what it is and what the detector said."""

    positive: bool | None
    """None for a row that could not be read as far as its label."""
    group: Hashable
    text: str = ""
    """The examined text, for the surface baselines."""
    flagged: bool | None = None
    """None when the detector abstained."""
    score: float | None = None
    raw_score: float | None = None
    is_calibrated: bool = False
    is_partial: bool = False
    reason: str = ""
    """Why it abstained."""


@dataclass(slots=True)
class Measurement:
    """Numbers of an evaluation, with the reasons for those that are missing."""

    numbers: dict[str, object] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def measure(outcomes: Sequence[Outcome], *, is_grouped: bool, n_resamples: int, seed: int) -> Measurement:
    """All fields of an `Evaluation` that follow from the outcomes.

    Args:
        outcomes: One for each row of the data, abstentions included.
        is_grouped: Whether `Outcome.group` means something; rows are independent otherwise.
        n_resamples: Of the bootstrap.
        seed: Of the bootstrap and of the folds of the learned baselines.
    """
    result = Measurement()
    scored = [row for row in outcomes if row.flagged is not None and row.positive is not None]
    lacking = _what_is_lacking(scored)
    result.numbers |= _counts(outcomes, scored)
    result.numbers["n_groups"] = len({row.group for row in outcomes}) if is_grouped else None
    result.numbers |= dict(_shares(scored, is_grouped=is_grouped))
    result.numbers["abstentions_count_against"] = _shares(outcomes, is_grouped=is_grouped)
    for key, rows in (
        ("accuracy", "rows"),
        ("sensitivity", "positive rows"),
        ("specificity", "negative rows"),
    ):
        if result.numbers[key] is None:
            result.reasons[key] = f"no {rows} were scored"
    _rank(scored, result, lacking, is_grouped=is_grouped, n_resamples=n_resamples, seed=seed)
    _calibrate(scored, result)
    _audit(scored, result, lacking, is_grouped=is_grouped, seed=seed)
    return result


def _what_is_lacking(scored: Sequence[Outcome]) -> str:
    """Why nothing can be ranked; empty when something can."""
    if not scored:
        return "no rows were scored"
    positives = sum(row.positive is True for row in scored)
    if positives == 0:
        return "no positive rows were scored; ranking needs both classes"
    return "no negative rows were scored; ranking needs both classes" if positives == len(scored) else ""


def _counts(outcomes: Sequence[Outcome], scored: Sequence[Outcome]) -> dict[str, object]:
    cells = Counter((row.positive, row.flagged) for row in scored)
    return {
        "n": len(outcomes),
        "scored": len(scored),
        "abstained": len(outcomes) - len(scored),
        "coverage": len(scored) / len(outcomes) if outcomes else 0.0,
        "n_positive": sum(row.positive is True for row in outcomes),
        "n_negative": sum(row.positive is False for row in outcomes),
        "partial": sum(row.is_partial for row in scored),
        "abstentions": dict(sorted(Counter(row.reason for row in outcomes if row.flagged is None).items())),
        "confusion": Confusion(
            true_positive=cells[True, True],
            false_negative=cells[True, False],
            true_negative=cells[False, False],
            false_positive=cells[False, True],
        ),
    }


def _shares(rows: Sequence[Outcome], *, is_grouped: bool) -> Shares:
    """Rates over the rows. An abstention among them is an error."""

    def share(chosen: Sequence[Outcome]) -> Rate | None:
        right = [row.flagged is not None and row.flagged is row.positive for row in chosen]
        return (
            wilson_clustered(right, [row.group for row in chosen] if is_grouped else None) if chosen else None
        )

    accuracy = share(rows)
    sensitivity = share([row for row in rows if row.positive is True])
    specificity = share([row for row in rows if row.positive is False])
    return Shares(
        accuracy=accuracy and accuracy.value,
        accuracy_ci=accuracy and accuracy.interval,
        sensitivity=sensitivity and sensitivity.value,
        sensitivity_ci=sensitivity and sensitivity.interval,
        specificity=specificity and specificity.value,
        specificity_ci=specificity and specificity.interval,
    )


def _rank(
    scored: Sequence[Outcome],
    result: Measurement,
    lacking: str,
    *,
    is_grouped: bool,
    n_resamples: int,
    seed: int,
) -> None:
    numbers = result.numbers
    numbers |= dict.fromkeys(("auroc", "auroc_ci", "average_precision", "average_precision_ci", "ranked_by"))
    numbers |= {
        "auroc_method": "none",
        "recall_at_fpr": dict.fromkeys(FPRS),
        "recall_at_fpr_ci": dict.fromkeys(FPRS),
    }
    ranked_by, scores = _scores(scored)
    reason = lacking or ("" if ranked_by else "some verdicts carry no score that can be ranked")
    if reason:
        result.reasons |= dict.fromkeys(("auroc", "average_precision", "recall_at_fpr"), reason)
        return
    labels = [row.positive is True for row in scored]
    groups = [row.group for row in scored] if is_grouped else None
    found = ranking_intervals(
        scores, labels, groups, fprs=tuple(FPRS.values()), n_resamples=n_resamples, seed=seed
    )
    at_fpr = {key: found.recall_at_fpr[rate] for key, rate in FPRS.items()}
    numbers |= {
        "ranked_by": ranked_by,
        "auroc": found.auroc.value,
        "auroc_ci": found.auroc.interval,
        "auroc_method": found.auroc.method,
        "average_precision": found.average_precision.value,
        "average_precision_ci": found.average_precision.interval,
        "recall_at_fpr": {key: rate.value for key, rate in at_fpr.items()},
        "recall_at_fpr_ci": {key: rate.interval for key, rate in at_fpr.items()},
    }
    if found.auroc.interval is None:
        result.reasons["auroc_ci"] = found.auroc.note
    if groups is not None:
        sides = [
            {group for group, label in zip(groups, labels, strict=True) if label is side}
            for side in (True, False)
        ]
        fewest = min(len(side) for side in sides)
        if fewest < FEW_GROUPS:
            result.notes.append(f"a class comes from {fewest} groups; intervals are rough below {FEW_GROUPS}")


def _scores(scored: Sequence[Outcome]) -> tuple[str | None, list[float]]:
    """What every row can be ranked by: raw scores, else scores, else nothing. The two are never mixed."""
    for name, values in (
        ("raw_score", [row.raw_score for row in scored]),
        ("score", [row.score for row in scored]),
    ):
        known = [value for value in values if value is not None and not math.isnan(value)]
        if known and len(known) == len(scored):
            return name, known
    return None, []


def _calibrate(scored: Sequence[Outcome], result: Measurement) -> None:
    probabilities = [row.score for row in scored if row.is_calibrated and row.score is not None]
    result.numbers["calibration"] = None
    if not scored:
        result.reasons["calibration"] = "no rows were scored"
    elif len(probabilities) < len(scored):
        result.reasons["calibration"] = (
            "the detector's scores are only ordered; they are not calibrated probabilities"
        )
    else:
        labels = [row.positive is True for row in scored]
        result.numbers["calibration"] = Calibration(
            brier=brier(probabilities, labels),
            ece=expected_calibration_error(probabilities, labels),
            bins=tuple(
                ReliabilityBin(
                    low=part.low,
                    high=part.high,
                    n=part.n,
                    mean_score=part.mean_probability,
                    positive_share=part.rate.value,
                    positive_share_ci=(part.rate.low, part.rate.high),
                )
                for part in reliability_bins(probabilities, labels)
            ),
        )


def _audit(
    scored: Sequence[Outcome], result: Measurement, lacking: str, *, is_grouped: bool, seed: int
) -> None:
    confounds: dict[str, float | None] = dict.fromkeys(BASELINES)
    result.numbers["confounds"] = confounds
    if lacking:
        result.reasons["confounds"] = lacking
        return
    texts = [row.text for row in scored]
    groups = [row.group for row in scored] if is_grouped else None
    audit = confound_audit(texts, [row.positive is True for row in scored], groups, seed=seed)
    confounds |= {name: None if math.isnan(value) else value for name, value in audit.items()}
    missing = [name for name, value in confounds.items() if value is None]
    if missing:
        reason = "a class comes from a single row or group; nothing is left to fit on"
        result.reasons |= {f"confounds.{name}": reason for name in missing}
    _compare(confounds, result)


def _compare(confounds: dict[str, float | None], result: Measurement) -> None:
    """Say so where a single surface feature does as well as the detector."""
    known = {name: value for name in SURFACE_BASELINES if (value := confounds[name]) is not None}
    strongest = max(known, key=lambda name: abs(known[name] - 0.5), default=None)
    auroc, interval = result.numbers["auroc"], result.numbers["auroc_ci"]
    if strongest is None or not isinstance(auroc, float):
        return
    # A feature that ranks the wrong way round is as good a rule as one that ranks the right way.
    value = max(known[strongest], 1 - known[strongest])
    bar = interval[0] if isinstance(interval, tuple) else auroc
    if value >= bar:
        result.notes.append(
            f"{strongest} alone reaches an AUROC of {value:.3f} on these rows (either way round), "
            f"the detector {auroc:.3f}: they cannot show that it reads more than the surface"
        )
