"""`scan`: examine a file, a folder, standard input or texts in memory with one or several detectors.

A path gets a run folder: the same call finds its interrupted run and finishes it, or shows the finished one
without loading any model. Items are read in chunks, every detector sees a chunk before the next is read, and
each verdict is written as it comes, so that memory does not grow with the input (but for one byte for each
item and detector).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pydantic import JsonValue

from tocsin.api.identity import static_identity
from tocsin.api.judging import Judging
from tocsin.api.memory_source import Input, MemorySource
from tocsin.api.panel import Panel
from tocsin.api.progress import Progress, ProgressCallback, no_progress
from tocsin.api.reporting import report_rows, with_text
from tocsin.core.errors import UsageError
from tocsin.core.records import Item, Kind, Verdict
from tocsin.core.registry import DetectorContext
from tocsin.core.results import Result
from tocsin.core.runs import REPORT, Run, installed_versions
from tocsin.models.spec import parse_model
from tocsin.report import (
    DetectorNote,
    Outcomes,
    ReportRow,
    RunInfo,
    Setting,
    Summary,
    summarise,
    write_html_report,
)
from tocsin.sources import Baseline, open_source


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanOptions:
    """Everything that can be asked of a scan. `scan` documents each."""

    detectors: tuple[str, ...] = ()
    profile: Path | None = None
    model: str = "embedded"
    threshold: float | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)
    options: Mapping[str, Mapping[str, JsonValue]] = field(default_factory=dict)
    deep: bool = False
    text: str | None = None
    prompt: str | None = None
    kind: Kind | None = None
    ignore: tuple[str, ...] = ()
    baseline: Path | None = None
    include_text: bool = False
    fresh: bool = False
    out: Path | None = None
    offline: bool = False
    device: str | None = None
    batch_size: int | None = None
    seed: int = 0

    def deciding(self) -> dict[str, JsonValue]:
        """Settings that can change a verdict, as JSON values. Files among them are known by their hashes."""
        return {
            "detectors": list(self.detectors),
            "model": self.model,
            "threshold": self.threshold,
            "thresholds": dict(self.thresholds),
            "options": {name: dict(values) for name, values in self.options.items()},
            "deep": self.deep,
            "text": self.text,
            "prompt": self.prompt,
            "kind": self.kind.value if self.kind else None,
            "ignore": list(self.ignore),
            "device": self.device,
            "seed": self.seed,
        }

    def settings(self) -> dict[str, JsonValue]:
        """All settings, as JSON values."""
        return {
            **self.deciding(),
            "profile": str(self.profile) if self.profile else None,
            "baseline": str(self.baseline) if self.baseline else None,
            "include_text": self.include_text,
            "offline": self.offline,
            "batch_size": self.batch_size,
        }

    def context(self, name: str, shared: dict[str, object]) -> DetectorContext:
        """What the factory of a detector is given."""
        return DetectorContext(
            model=self.model,
            profile=self.profile,
            threshold=self.thresholds.get(name, self.threshold),
            deep=self.deep,
            offline=self.offline,
            device=self.device,
            batch_size=self.batch_size,
            seed=self.seed,
            options={name: dict(values) for name, values in self.options.items()},
            shared=shared,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ScanResult:
    """What a scan said.

    Iterating gives every verdict in the order in which it was made: chunk of items by chunk, and within a
    chunk detector by detector. Verdicts of a run are streamed from its folder.
    """

    run: Run | None
    """The run folder; None for texts in memory without `out`."""
    info: RunInfo
    counts: Summary
    """Everything that the report counts, and the flagged rows with the highest scores."""
    report: Path | None
    """The HTML page, where there is a run folder."""
    was_finished: bool
    """True when the results were there already and nothing was computed."""
    baseline: Baseline | None
    source: Input
    kept: tuple[Result, ...] = ()
    """Results of a scan without a run folder."""

    @property
    def summary(self) -> Outcomes:
        """Every item in exactly one class: flagged, known, not judged, partly read, clean."""
        return self.counts.outcomes()

    def __iter__(self) -> Iterator[Verdict]:
        return (result.verdict for result in self.results())

    def results(self) -> Iterator[Result]:
        """Verdicts with what is known about their items."""
        return iter(self.kept) if self.run is None else self.run.results()

    def flagged(self) -> Iterator[Verdict]:
        """Verdicts that are flagged and not silenced by the baseline."""
        return (row.verdict for row in self.rows() if row.verdict.flagged and not row.known)

    def rows(self, *, include_text: bool = False) -> Iterator[ReportRow]:
        """Rows for the functions of `tocsin.report`; text is read from the input again."""
        rows = report_rows(self.results(), self.baseline)
        return with_text(rows, self.source) if include_text else rows


def scan(
    given: Path | str | Iterable[str] | Iterable[Item],
    /,
    *,
    detectors: str | Sequence[str] | None = None,
    profile: Path | str | None = None,
    model: str = "embedded",
    threshold: float | Mapping[str, float] | None = None,
    options: Mapping[str, Mapping[str, JsonValue]] | None = None,
    deep: bool = False,
    text: str | None = None,
    prompt: str | None = None,
    kind: Kind | str | None = None,
    ignore: Sequence[str] = (),
    baseline: Path | str | None = None,
    include_text: bool = False,
    fresh: bool = False,
    out: Path | str | None = None,
    offline: bool = False,
    device: str | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    progress: ProgressCallback = no_progress,
) -> ScanResult:
    """Examine an input and say which items are harmful.

    Args:
        given: A path (data file, skill, folder of both; `-` is standard input), or texts, or items. A single
            text must stand in a list, since a plain string is a path. Texts and items are kept in memory.
        detectors: Names from `tocsin.detectors()`. By default `policy-embedded` reads skills and
            `harmfulness` everything else; a named detector sees every item and abstains on kinds it does not
            read.
        profile: Folder of a fitted profile, or of one for each detector; the shipped ones when None.
        model: `embedded`, a path, `hub:org/name` or `provider/name`.
        threshold: Flag above this score (0 to 1) instead of each detector's own threshold; or by detector.
        options: Further options by detector, such as `{"biopsy": {"k": 5}}`.
        deep: Read the bodies of skills too.
        text: Column of the examined text; found by well-known names when None.
        prompt: Column of the request that the text answers.
        kind: Kind of the rows, where the rules of `docs/inputs.md` would choose another.
        ignore: Patterns of paths to leave out, in gitignore syntax.
        baseline: File of known findings, which are reported but not counted as flagged.
        include_text: Show examined text in the report.
        fresh: Begin anew even if this scan was begun or finished before.
        out: Run folder; for a path `tocsin-runs/scan-<id>` when None, for texts and items none.
        offline: Never fetch anything.
        device: Where a local model runs.
        batch_size: Most sequences of a batch of a local model.
        seed: For detectors that draw random numbers.
        progress: Told how far the scan has come.

    Returns:
        The verdicts and counts.

    Raises:
        UsageError: If arguments cannot be used.
        InputError: If the whole input cannot be read.
        ModelError: If the model cannot be loaded.
        ProfileError: If the profile is damaged or belongs to another model.
        RunError: If `out` holds something else, or another process is writing this run.
        MissingExtraError: If something needs an extra that is not installed.

    Example:
        >>> result = tocsin.scan(["How do I bake bread?"])  # doctest: +SKIP
        >>> [verdict.flagged for verdict in result]  # doctest: +SKIP
        [False]
    """
    asked = ScanOptions(
        detectors=(detectors,) if isinstance(detectors, str) else tuple(detectors or ()),
        profile=Path(profile) if profile is not None else None,
        model=model,
        threshold=None if isinstance(threshold, Mapping) else threshold,
        thresholds=dict(threshold) if isinstance(threshold, Mapping) else {},
        options=dict(options or {}),
        deep=deep,
        text=text,
        prompt=prompt,
        kind=_kind(kind),
        ignore=tuple(ignore),
        baseline=Path(baseline) if baseline is not None else None,
        include_text=include_text,
        fresh=fresh,
        out=Path(out) if out is not None else None,
        offline=offline,
        device=device,
        batch_size=batch_size,
        seed=seed,
    )
    return run_scan(given, asked, progress=progress)


def run_scan(
    given: Path | str | Iterable[str] | Iterable[Item],
    options: ScanOptions,
    *,
    sources: Mapping[str, str] | None = None,
    argv: Sequence[str] = (),
    progress: ProgressCallback = no_progress,
) -> ScanResult:
    """`scan` with its options as one value.

    Args:
        given: As for `scan`.
        options: As for `scan`.
        sources: Where each setting came from, for the record.
        argv: Command line that repeats the scan, for the record.
        progress: Told how far the scan has come.

    Raises:
        TocsinError: As for `scan`.
    """
    shared: dict[str, object] = {}
    judging = Judging(options.detectors, lambda name: options.context(name, shared), progress)
    _check(options, judging.panel)
    known = Baseline.load(options.baseline) if options.baseline is not None else None
    source: Input
    if isinstance(given, (str, Path)):
        source = open_source(
            given, text=options.text, prompt=options.prompt, as_kind=options.kind, ignore=options.ignore
        )
    else:
        source = MemorySource(given)
    scan_ = _Scan(options, judging, source, known, dict(sources or {}), tuple(argv), progress)
    if isinstance(source, MemorySource) and options.out is None:
        return scan_.in_memory()
    return scan_.in_folder()


@dataclass(slots=True)
class _Scan:
    """One scan that is being made."""

    options: ScanOptions
    judging: Judging
    source: Input
    baseline: Baseline | None
    sources: dict[str, str]
    argv: tuple[str, ...]
    progress: ProgressCallback

    @property
    def total(self) -> int | None:
        """Verdicts in all, or an upper bound."""
        each = self.source.total
        return None if each is None else each * max(1, len(self.options.detectors))

    def in_memory(self) -> ScanResult:
        kept = tuple(self.judging.results(self.source.items(), None, total=self.total))
        info = self._info(None)
        counts = summarise(report_rows(kept, self.baseline))
        return ScanResult(
            run=None,
            info=info,
            counts=counts,
            report=None,
            was_finished=False,
            baseline=self.baseline,
            source=self.source,
            kept=kept,
        )

    def in_folder(self) -> ScanResult:
        names = [info.name for info in self.judging.panel.infos]
        identity = static_identity(names, model=self.options.model, profile=self.options.profile)
        identity["input_name"] = Path(self.source.name).resolve().name if self.source.name != "-" else "-"
        run = Run.open(
            "scan",
            self.options.deciding(),
            self.source.input_hash,
            identity,
            out=self.options.out,
            fresh=self.options.fresh,
            input_name=self.source.name,
            sources=self.sources,
            facts={
                "input": self.source.describe(),
                "settings": self.options.settings(),
                "argv": list(self.argv),
            },
        )
        with run:
            self.judging.fill(self.source.items(), run, total=self.total)
        return self._show(run)

    def _show(self, run: Run) -> ScanResult:
        """Write the report, which also counts."""
        total = run.record.results or 0
        self.progress(Progress("reporting", total, total))
        info = self._info(run)
        result = ScanResult(
            run=run,
            info=info,
            counts=Summary(),
            report=run.folder / REPORT,
            was_finished=run.was_finished,
            baseline=self.baseline,
            source=self.source,
        )
        with_it = self.options.include_text
        rows = result.rows(include_text=with_it)
        return replace(
            result, counts=write_html_report(run.folder / REPORT, info, rows, include_text=with_it)
        )

    def _info(self, run: Run | None) -> RunInfo:
        sessions = run.record.sessions if run is not None else ()
        settings = self.options.settings()
        versions = dict(sessions[-1].versions if sessions else installed_versions())
        return RunInfo(
            command="scan",
            argv=self.argv,
            input_name=self.source.name,
            input_hash=self.source.input_hash,
            model=self.options.model,
            tool_version=versions.pop("tocsin", "unknown"),
            versions=versions,
            settings=tuple(
                Setting(name=name, value=value, source=self.sources.get(name, "default"))
                for name, value in settings.items()
            ),
            detectors=tuple(DetectorNote.of(info) for info in self.judging.panel.infos),
            limits=tuple(f"Not read: {notice}" for notice in self.source.notices),
            baseline=str(self.options.baseline) if self.options.baseline is not None else None,
            started=sessions[0].started if sessions else None,
            finished=run.record.finished if run is not None else None,
        )


def _check(options: ScanOptions, panel: Panel) -> None:
    """Refuse what cannot be used before any work is done."""
    names = {info.name for info in panel.infos}
    for given, what in ((options.thresholds, "threshold"), (options.options, "option")):
        stray = sorted(set(given) - names)
        if stray:
            used = ", ".join(sorted(names))
            message = f"the {what} for '{stray[0]}' has no detector to go to. This scan uses {used}."
            raise UsageError(message)
    values = [*options.thresholds.values(), *([] if options.threshold is None else [options.threshold])]
    for value in values:
        if not 0 <= value <= 1:
            message = f"expected a threshold from 0 to 1, got {value:g}."
            raise UsageError(message)
    parse_model(options.model)


def _kind(kind: Kind | str | None) -> Kind | None:
    if kind is None or isinstance(kind, Kind):
        return kind
    try:
        return Kind(kind)
    except ValueError as error:
        message = f"expected a kind ({', '.join(Kind)}), got '{kind}'."
        raise UsageError(message) from error
