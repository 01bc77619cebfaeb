"""How wrong a detector is: rates that ship with its profile, and rates of the user's own `evaluate`.

The first are shown among the limits of a report. The second also correct the share that was flagged
(`Prevalence`), when detector, profile, model and threshold are the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path

from pydantic import JsonValue

from tocsin.api.evaluation import Evaluation
from tocsin.core.errors import InputError, UsageError
from tocsin.core.records import Provenance
from tocsin.core.runs import SUMMARY
from tocsin.core.stats import Rate, rogan_gladen
from tocsin.report import Measured, Prevalence

_SAME = (
    "detector_version",
    "model",
    "profile",
    "template_hash",
    "prompt_hash",
    "normalisation",
    "settings",
    "threshold",
)
"""What must be equal for rates measured in one run to hold for another."""


def shipped_rates(identities: Mapping[str, Mapping[str, JsonValue]]) -> tuple[Measured, ...]:
    """Measured rates of the shipped profiles among these, at their own thresholds.

    Args:
        identities: What each detector says of itself (`Detector.identity`), by name.
    """
    return tuple(
        rate
        for name, identity in sorted(identities.items())
        if identity.get("threshold_source") != "command line"
        for rate in _table().get(str(identity.get("profile")), ())
        if rate.detector == name
    )


@cache
def _table() -> Mapping[str, tuple[Measured, ...]]:
    raw = files("tocsin").joinpath("data", "profiles", "measured.json").read_text("utf-8")
    return {
        profile: tuple(Measured.model_validate(row) for row in rows)
        for profile, rows in json.loads(raw).items()
    }


def read_evaluation(path: Path) -> Evaluation:
    """What `tocsin evaluate` wrote, as JSON or into its run folder.

    Raises:
        InputError: If it is something else, or lacks a rate that a correction needs.
    """
    file = path / SUMMARY if path.is_dir() else path
    try:
        found = Evaluation.model_validate_json(file.read_bytes())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "something else"
        message = f"expected the JSON of `tocsin evaluate`, got: {reason.lower()}. Write one with --json."
        raise InputError(message, path=path) from error
    if found.sensitivity is None or found.specificity is None or len(found.provenance) != 1:
        message = (
            "expected an evaluation with scored rows of both classes under one profile, got another one."
        )
        raise InputError(message, path=path)
    return found


def rates_of(found: Evaluation) -> tuple[Measured, Measured]:
    """Sensitivity and specificity of an evaluation, for a report."""
    cells = found.confusion
    data = str(found.source.get("name", "")) or "labelled rows"
    sides = (
        (
            "positives flagged",
            found.sensitivity,
            found.sensitivity_ci,
            cells.true_positive + cells.false_negative,
        ),
        (
            "negatives not flagged",
            found.specificity,
            found.specificity_ci,
            cells.true_negative + cells.false_positive,
        ),
    )
    one, two = (
        Measured(
            detector=found.detector,
            measure=measure,
            data=data,
            value=value or 0.0,
            low=None if interval is None else interval[0],
            high=None if interval is None else interval[1],
            n=n,
        )
        for measure, value, interval, n in sides
    )
    return one, two


def corrected_prevalence(found: Evaluation, provenance: Provenance, flagged: int, judged: int) -> Prevalence:
    """The share of harmful items behind a share of flagged ones.

    Args:
        found: Error rates of the detector, measured on labelled rows.
        provenance: Of the verdicts that were counted.
        flagged: Flagged items.
        judged: Items that were not abstained on.

    Raises:
        UsageError: If the rates were measured with something else, or the detector is no better than chance.
    """
    (measured_with,) = found.provenance
    different = [name for name in _SAME if getattr(measured_with, name) != getattr(provenance, name)]
    if different:
        message = (
            f"expected rates measured with the same {found.detector}, got another {', '.join(different)}. "
            "Evaluate it again with the options of this scan."
        )
        raise UsageError(message)
    sensitivity, specificity = (
        Rate(rate.value, rate.low or 0.0, rate.high or 1.0, rate.n or 0) for rate in rates_of(found)
    )
    rate = rogan_gladen(flagged, judged, sensitivity, specificity)
    return Prevalence(
        detector=found.detector,
        flagged=flagged,
        judged=judged,
        value=rate.value,
        low=rate.low,
        high=rate.high,
        method=rate.method,
        data=str(found.source.get("name", "")) or "labelled rows",
        note=rate.note,
    )
