"""`tocsin evaluate`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from tocsin.api.evaluate import N_RESAMPLES
from tocsin.api.evaluate import evaluate as evaluate_
from tocsin.api.evaluation import Evaluation
from tocsin.cli.app import invocation
from tocsin.cli.options import CONFIG_DEFAULTS, MODEL_DEFAULTS, ConfigOptions, InputPath, ModelOptions
from tocsin.cli.show import notice, plain_table, progress_bar, table_text, write
from tocsin.cli.words import parse_options
from tocsin.core.records import Kind
from tocsin.report import visible

_MEASURES = (
    ("AUROC", "auroc"),
    ("average precision", "average_precision"),
    ("accuracy", "accuracy"),
    ("sensitivity (positives flagged)", "sensitivity"),
    ("specificity (negatives not flagged)", "specificity"),
)


def evaluate(
    detector: str,
    data: InputPath,
    /,
    *,
    label: str,
    positive: tuple[str, ...],
    text: str | None = None,
    prompt: str | None = None,
    group: str | None = None,
    kind: Kind | None = None,
    profile: Path | None = None,
    threshold: Annotated[float | None, Parameter(validator=Number(gte=0, lte=1))] = None,
    set_: Annotated[tuple[str, ...], Parameter(name="--set")] = (),
    deep: bool = False,
    out: Path | None = None,
    fresh: bool = False,
    resamples: Annotated[int, Parameter(validator=Number(gte=1_000))] = N_RESAMPLES,
    format_: Annotated[Literal["table", "json"], Parameter(name="--format")] = "table",
    json: bool = False,
    models: ModelOptions = MODEL_DEFAULTS,
    configs: ConfigOptions = CONFIG_DEFAULTS,
) -> None:
    """Measure a detector on labelled data.

    Args:
        detector: Name from `tocsin detectors`.
        data: A data file, a folder, or - for standard input.
        label: Column of the labels.
        positive: Label that means "should be flagged"; may be repeated.
        text: Column of the examined text (default: found by well-known names).
        prompt: Column of the request that the text answers (default: found by well-known names).
        group: Column whose equal values mark rows of one source: they are resampled together (default: each
            row stands alone).
        kind: Treat rows as this kind of item (default: by their columns).
        profile: Folder of a fitted profile (default: the one that ships with the detector).
        threshold: Flag above this score, from 0 to 1 (default: the detector's own).
        set_: Option of the detector as NAME.OPTION=VALUE, such as policy.passes=1 (default: none).
        deep: Read the bodies of skills too, not only name, description and section headers.
        out: Run folder (default: tocsin-runs/evaluate-ID, named by command, data and settings).
        fresh: Begin anew even if this was evaluated before.
        resamples: Resamples of the bootstrap behind the intervals.
        format_: Form of what is written to standard output.
        json: Short for --format json.
        models: Which model is read, and how.
        configs: Where options come from.
    """
    del configs  # read before this function is called
    with progress_bar() as progress:
        found = evaluate_(
            detector,
            data,
            text=text,
            label=label,
            positive=positive,
            prompt=prompt,
            group=group,
            profile=profile,
            threshold=threshold,
            as_kind=kind,
            deep=deep,
            options=dict(parse_options(set_)),
            n_resamples=resamples,
            out=out,
            fresh=fresh,
            argv=invocation.argv,
            progress=progress,
            **asdict(models),
        )
    if json or format_ == "json":
        write([found.to_json() + "\n"])
    else:
        write([as_text(found)])
    for note in found.notes:
        notice(f"note: {visible(note)}")


def as_text(found: Evaluation) -> str:
    """The numbers of an evaluation as tables; a missing number is a dash, with its reason below."""
    numbers = found.model_dump(mode="python")
    table = plain_table(visible(found.detector), "value", "95 % interval")
    table.add_row("rows", f"{found.n:,}", f"{found.n_positive:,} positive, {found.n_negative:,} negative")
    table.add_row("scored", f"{found.scored:,}", f"coverage {found.coverage:.1%}")
    for title, key in _MEASURES:
        table.add_row(title, _number(numbers[key]), _interval(numbers[f"{key}_ci"]))
    for rate, recall in found.recall_at_fpr.items():
        title = f"sensitivity where {float(rate):.0%} of negatives are flagged"
        table.add_row(title, _number(recall), _interval(found.recall_at_fpr_ci.get(rate)))
    if found.calibration is not None:
        table.add_row("calibration error", _number(found.calibration.ece), "")
    source = f" ({found.threshold_source})" if found.threshold_source else ""
    table.add_row("threshold", _number(found.threshold) + source, "")
    surface = plain_table("surface baseline", "AUROC on the same rows")
    for name, value in found.confounds.items():
        surface.add_row(name.replace("_", " "), _number(value))
    reasons = [f"{visible(key)}: {visible(reason)}\n" for key, reason in found.reasons.items()]
    return table_text(table) + table_text(surface) + "".join(reasons)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _interval(bounds: tuple[float, float] | None) -> str:
    return "" if bounds is None else f"{bounds[0]:.3f} to {bounds[1]:.3f}"
