"""`evaluate`: how well a detector tells labelled rows apart, beside what their surface alone tells."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import JsonValue

from tocsin.api.evaluation import Evaluation
from tocsin.api.evaluation_page import evaluation_page
from tocsin.api.identity import static_identity
from tocsin.api.judging import Judging
from tocsin.api.measure import Outcome, measure
from tocsin.api.progress import Progress, ProgressCallback, no_progress
from tocsin.api.reporting import study_info
from tocsin.core.errors import InputError, RunError, UsageError
from tocsin.core.records import Abstention, Item, Kind, Provenance, Verdict
from tocsin.core.registry import DetectorContext
from tocsin.core.run_record import REPORT
from tocsin.core.runs import SUMMARY, Run
from tocsin.detect.surface import examined_text
from tocsin.report import write_study_page
from tocsin.sources import Limits, Source, open_source

N_RESAMPLES = 2_000
_MAX_LABELS = 1_000
"""Different labels that are counted; a column with more holds no labels."""
_SHOWN_LABELS = 8
_SHOWN_CHARS = 32
"""Longer labels are not shown in messages: the column may hold examined text."""


def evaluate(
    detector: str,
    data: Path | str,
    *,
    text: str | None,
    label: str,
    positive: Sequence[str],
    prompt: str | None = None,
    group: str | None = None,
    profile: Path | str | None = None,
    model: str = "embedded",
    threshold: float | None = None,
    as_kind: Kind | None = None,
    deep: bool = False,
    offline: bool = False,
    device: str | None = None,
    batch_size: int | None = None,
    options: Mapping[str, JsonValue] | None = None,
    seed: int = 0,
    n_resamples: int = N_RESAMPLES,
    limits: Limits | None = None,
    out: Path | str | None = None,
    fresh: bool = False,
    argv: Sequence[str] = (),
    progress: ProgressCallback = no_progress,
) -> Evaluation:
    """Run a detector (or a judge) over labelled rows and measure it.

    Verdicts go into a run folder, so that an interrupted evaluation is continued by the same call; the
    figures are written there as `summary.json` and `report.html`.

    Rows without a label are left out and counted. A row that cannot be read, or whose kind the detector does
    not read, is an abstention. Ranking uses raw scores where all verdicts have them.

    Args:
        detector: Name in the registry.
        data: File, folder, or `-` for standard input.
        text: Column of the examined text; found by well-known names when None.
        label: Column of the labels.
        positive: Labels that mean "should be flagged", compared as strings (`true`, `1`).
        prompt: Column of the request that `text` answers; rows become responses.
        group: Column whose equal values mark rows that share a source or are twins: whole groups are
            resampled, and kept together when baselines are fitted.
        profile: Folder of a fitted profile.
        model: As for `--model`.
        threshold: On the scale of the detector's score; its own when None.
        as_kind: Kind of the rows, where the reader would choose another.
        deep: Whether detectors read the bodies of skills.
        offline: Forbids every fetch.
        device: For local models.
        batch_size: For local models.
        options: Detector options by detector name.
        seed: Of detector, bootstrap and folds.
        n_resamples: Of the bootstrap.
        limits: Bounds of reading.
        out: Run folder; `tocsin-runs/evaluate-<id>` when None.
        fresh: Begin anew even if this was evaluated before.
        argv: Command line that repeats it, for the record.
        progress: Told how far it has come.

    Returns:
        The evaluation. Numbers that the data cannot give are None, each with its reason.

    Raises:
        UsageError: If no positive label is named, or the detector or model is unknown.
        InputError: If the data cannot be read, has no label column, or no row has a positive label.
        TocsinError: Whatever building the detector raises (its model, profile or extra is missing).
    """
    wanted = tuple(dict.fromkeys(value.strip() for value in positive if value.strip()))
    if not wanted:
        message = "expected at least one positive label, got none. Name the labels to be flagged: --positive."
        raise UsageError(message)
    if n_resamples < 1_000:
        message = f"expected at least 1,000 resamples, got {n_resamples}. Fewer give unstable intervals."
        raise UsageError(message)
    source = open_source(
        data, text=text, prompt=prompt, label=label, group=group, as_kind=as_kind, limits=limits or Limits()
    )
    notes = _check_labels(source, label, wanted)
    folder = None if profile is None else Path(profile)
    context = DetectorContext(
        model=model,
        profile=folder,
        threshold=threshold,
        deep=deep,
        offline=offline,
        device=device,
        batch_size=batch_size,
        seed=seed,
        options=options or {},
    )
    judging = Judging((detector,), lambda _: context, progress)
    reading = _Reading(label, group, frozenset(wanted), deep=deep)
    config: dict[str, JsonValue] = {
        "detector": detector,
        "columns": {"text": text, "prompt": prompt, "label": label, "group": group},
        "positive": list(wanted),
        "model": model,
        "threshold": threshold,
        "kind": None if as_kind is None else as_kind.value,
        "deep": deep,
        "device": device,
        "options": dict(options or {}),
        "seed": seed,
        "n_resamples": n_resamples,
    }
    with Run.open(
        "evaluate",
        config,
        source.input_hash,
        static_identity([detector], model=model, profile=folder),
        out=None if out is None else Path(out),
        fresh=fresh,
        input_name=source.name,
        facts={"input": source.describe(), "argv": list(argv)},
    ) as run:
        judging.fill(reading.labelled(source), run, total=source.total)
        rows = reading.outcomes(source, run)
    progress(Progress("reporting", len(rows), len(rows)))
    if group is not None and reading.ungrouped:
        notes.append(f"{reading.ungrouped} rows have no group; each counts as a group of its own")
    found = measure(rows, is_grouped=group is not None, n_resamples=n_resamples, seed=seed)
    used = tuple(reading.provenances.values())
    thresholds = {(each.threshold, each.threshold_source) for each in used}
    limit, origin = thresholds.pop() if len(thresholds) == 1 else (None, None)
    evaluation = Evaluation.model_validate(
        found.numbers
        | {
            "detector": detector,
            "unlabelled": reading.unlabelled,
            "threshold": limit,
            "threshold_source": origin,
            "positive": wanted,
            "reasons": found.reasons,
            "notes": (*notes, *found.notes),
            "provenance": used,
            "source": source.describe(),
        }
    )
    run.write_summary(evaluation.to_json())
    info = study_info(run.record, argv, command="evaluate", results=SUMMARY, model=model)
    write_study_page(run.folder / REPORT, info, evaluation_page(evaluation))
    return evaluation


def label_text(value: JsonValue) -> str | None:
    """A label as the string that is compared; None when there is none (missing, null or blank)."""
    if value is None:
        return None
    shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return shown.strip() or None


def _check_labels(source: Source, column: str, wanted: Sequence[str]) -> list[str]:
    """Read all labels before any row is judged, so that a typing error costs no time. Returns notes."""
    seen: Counter[str] = Counter()
    rows = 0
    for item in source.items():
        rows += 1
        found = label_text(item.metadata.get(column))
        if found is not None and (found in seen or found in wanted or len(seen) < _MAX_LABELS):
            seen[found] += 1
    if not seen:
        message = f"expected labels in the column '{column}', got none in {rows} rows. Check --label."
        raise InputError(message, path=source.name)
    absent = [value for value in wanted if value not in seen]
    if len(absent) == len(wanted):
        names = ", ".join(repr(value) for value in wanted)
        message = (
            f"expected rows whose '{column}' is {names}, got none among {rows} rows ({_labels_seen(seen)}). "
            "Check --label and --positive."
        )
        raise InputError(message, path=source.name)
    return [f"no row is labelled {value!r}, which was named as positive" for value in absent]


def _labels_seen(seen: Counter[str]) -> str:
    if len(seen) >= _MAX_LABELS or any(
        len(value) > _SHOWN_CHARS or not value.isprintable() for value in seen
    ):
        return f"{len(seen)} or more different values, too long or too many to be labels"
    shown = ", ".join(repr(value) for value, _ in seen.most_common(_SHOWN_LABELS))
    return f"labels there: {shown}" + (", ..." if len(seen) > _SHOWN_LABELS else "")


@dataclass(slots=True)
class _Reading:
    """Pairs each labelled row with its verdict."""

    label: str
    group: str | None
    wanted: frozenset[str]
    deep: bool
    unlabelled: int = 0
    ungrouped: int = 0
    provenances: dict[str, Provenance] = field(default_factory=dict)

    def labelled(self, source: Source) -> Iterator[Item]:
        """Rows to judge: those with a label, and those that could not be read as far as theirs."""
        for item in source.items():
            if item.problem is not None or self._label(item) is not None:
                yield item

    def outcomes(self, source: Source, run: Run) -> list[Outcome]:
        """An outcome for each of them, in the order of the data, from the verdicts of a finished run."""
        self.unlabelled = self.ungrouped = 0
        results = run.results()
        rows = []
        for item in source.items():
            found = self._label(item)
            if found is None and item.problem is None:
                self.unlabelled += 1
                continue
            verdict = next(results).verdict
            if verdict.key != item.key:
                message = "expected the verdicts in the order of the data, got another one. Use --fresh."
                raise RunError(message, path=run.folder)
            outcome = Outcome(
                positive=None if found is None else found in self.wanted, group=self._group(item)
            )
            rows.append(self._settled(item, outcome, verdict))
        return rows

    def _label(self, item: Item) -> str | None:
        return label_text(item.metadata.get(self.label))

    def _group(self, item: Item) -> Hashable:
        found = None if self.group is None else label_text(item.metadata.get(self.group))
        if found is None:
            self.ungrouped += 1
            return ("row", item.origin.ordinal)
        return ("group", found)

    def _settled(self, item: Item, outcome: Outcome, verdict: Verdict) -> Outcome:
        if verdict.flagged is None:
            reason = verdict.abstained.reason.value if verdict.abstained is not None else "no reason given"
            if verdict.provenance.threshold_source != "none":
                self.provenances.setdefault(verdict.provenance.id, verdict.provenance)
            return replace(outcome, reason=reason)
        self.provenances.setdefault(verdict.provenance.id, verdict.provenance)
        read = examined_text(item, deep=self.deep)
        return replace(
            outcome,
            # Kinds that have no view of their own, such as code, are looked at as they are.
            text=item.text if isinstance(read, Abstention) else read[0],
            flagged=verdict.flagged,
            score=verdict.score,
            raw_score=verdict.raw_score,
            is_calibrated=verdict.calibrated,
            is_partial=bool(item.partial) or (verdict.examined is not None and verdict.examined.is_partial),
        )
