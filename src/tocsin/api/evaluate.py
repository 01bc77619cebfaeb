"""`evaluate`: how well a detector tells labelled rows apart, beside what their surface alone tells."""

from __future__ import annotations

import json
from collections import Counter, deque
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import JsonValue

from tocsin.api.evaluation import Evaluation
from tocsin.api.measure import Outcome, measure
from tocsin.api.progress import Progress, ProgressCallback, no_progress
from tocsin.core.errors import InputError, UsageError
from tocsin.core.records import Abstention, Item, Kind, Provenance, Reason, Verdict
from tocsin.core.registry import Detector, DetectorContext, create
from tocsin.detect.surface import examined_text
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
    progress: ProgressCallback = no_progress,
) -> Evaluation:
    """Run a detector (or a judge) over labelled rows and measure it.

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
    context = DetectorContext(
        model=model,
        profile=None if profile is None else Path(profile),
        threshold=threshold,
        deep=deep,
        offline=offline,
        device=device,
        batch_size=batch_size,
        seed=seed,
        options=options or {},
    )
    progress(Progress("loading", 0, None, detector))
    reading = _Reading(label, group, frozenset(wanted), deep=deep)
    rows = reading.run(create(detector, context), source, progress)
    progress(Progress("reporting", len(rows), len(rows)))
    if group is not None and reading.ungrouped:
        notes.append(f"{reading.ungrouped} rows have no group; each counts as a group of its own")
    found = measure(rows, is_grouped=group is not None, n_resamples=n_resamples, seed=seed)
    used = tuple(reading.provenances.values())
    thresholds = {(each.threshold, each.threshold_source) for each in used}
    limit, origin = thresholds.pop() if len(thresholds) == 1 else (None, None)
    return Evaluation.model_validate(
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
    """Pairs each labelled row with its verdict while rows stream through the detector."""

    label: str
    group: str | None
    wanted: frozenset[str]
    deep: bool
    unlabelled: int = 0
    ungrouped: int = 0
    provenances: dict[str, Provenance] = field(default_factory=dict)
    _done: list[tuple[int, Outcome]] = field(default_factory=list)
    _waiting: deque[tuple[Item, Outcome]] = field(default_factory=deque)

    def run(self, detector: Detector, source: Source, progress: ProgressCallback) -> list[Outcome]:
        """An outcome for each labelled or unreadable row, in the order of the data."""
        name = detector.info.name
        for verdict in detector.detect(self._readable(source, detector)):
            self._settle(verdict, name)
            progress(Progress("scanning", len(self._done), source.total, name))
        if self._waiting:
            message = f"the detector '{name}' broke its contract: {len(self._waiting)} items got no verdict."
            raise RuntimeError(message)
        return [outcome for _, outcome in sorted(self._done, key=lambda pair: pair[0])]

    def _readable(self, source: Source, detector: Detector) -> Iterator[Item]:
        """Items to judge. What cannot be judged is settled at once and never shown to the detector."""
        for item in source.items():
            found = label_text(item.metadata.get(self.label))
            problem = item.problem
            if found is None and problem is None:
                self.unlabelled += 1
                continue
            if problem is None and item.kind not in detector.info.kinds:
                problem = Abstention(reason=Reason.UNSUPPORTED_KIND)
            outcome = Outcome(
                positive=None if found is None else found in self.wanted, group=self._group(item)
            )
            if problem is not None:
                self._done.append((item.origin.ordinal, replace(outcome, reason=problem.reason.value)))
                continue
            self._waiting.append((item, outcome))
            yield item

    def _group(self, item: Item) -> Hashable:
        found = None if self.group is None else label_text(item.metadata.get(self.group))
        if found is None:
            self.ungrouped += 1
            return ("row", item.origin.ordinal)
        return ("group", found)

    def _settle(self, verdict: Verdict, name: str) -> None:
        item, outcome = self._waiting.popleft() if self._waiting else (None, None)
        if item is None or outcome is None or verdict.key != item.key:
            message = f"the detector '{name}' broke its contract: a verdict too many or out of order."
            raise RuntimeError(message)
        self.provenances.setdefault(verdict.provenance.id, verdict.provenance)
        if verdict.flagged is None:
            reason = verdict.abstained.reason.value if verdict.abstained is not None else "no reason given"
            outcome = replace(outcome, reason=reason)
        else:
            read = examined_text(item, deep=self.deep)
            outcome = replace(
                outcome,
                # Kinds that have no view of their own, such as code, are looked at as they are.
                text=item.text if isinstance(read, Abstention) else read[0],
                flagged=verdict.flagged,
                score=verdict.score,
                raw_score=verdict.raw_score,
                is_calibrated=verdict.calibrated,
                is_partial=bool(item.partial)
                or (verdict.examined is not None and verdict.examined.is_partial),
            )
        self._done.append((item.origin.ordinal, outcome))
