"""`scan`: examine a file, a folder, standard input or texts in memory with one or several detectors.

A path gets a run folder: the same call finds its interrupted run and finishes it, or shows the finished one
without loading any model. Items are read in chunks, every detector sees a chunk before the next is read, and
each verdict is written as it comes, so that memory does not grow with the input (but for one byte for each
item and detector).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import JsonValue

from tocsin.api.evaluation import Evaluation
from tocsin.api.identity import static_identity
from tocsin.api.judging import Judging
from tocsin.api.measured import corrected_prevalence, rates_of, read_evaluation, shipped_rates
from tocsin.api.memory_source import Input, MemorySource
from tocsin.api.progress import Progress, ProgressCallback, no_progress
from tocsin.api.reporting import report_rows, with_text
from tocsin.api.scan_options import DEFAULT_MASTER, Engine, ScanOptions, check_options, kind_of
from tocsin.api.spark.judging import SparkJudging
from tocsin.core.errors import UsageError
from tocsin.core.records import Item, Kind, Verdict
from tocsin.core.results import Result
from tocsin.core.run_record import REPORT, installed_versions
from tocsin.core.runs import Run
from tocsin.report import (
    DetectorNote,
    Outcomes,
    Prevalence,
    ReportRow,
    RunInfo,
    Setting,
    Summary,
    summarise,
    write_html_report,
)
from tocsin.sources import Baseline, open_source, read_ignore_file


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
    ignore_file: Path | str | None = None,
    baseline: Path | str | None = None,
    measured: Path | str | None = None,
    include_text: bool = False,
    fresh: bool = False,
    out: Path | str | None = None,
    offline: bool = False,
    device: str | None = None,
    batch_size: int | None = None,
    seed: int = 0,
    engine: Engine = "embedded",
    master: str = DEFAULT_MASTER,
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
        ignore_file: File with further patterns; one inside the input is not obeyed unless it is named here.
        baseline: File of known findings, which are reported but not counted as flagged.
        measured: JSON of `tocsin evaluate` for the same detector: the flagged share is corrected with it.
        include_text: Show examined text in the report.
        fresh: Begin anew even if this scan was begun or finished before.
        out: Run folder; for a path `tocsin-runs/scan-<id>` when None, for texts and items none.
        offline: Never fetch anything.
        device: Where a local model runs.
        batch_size: Most sequences of a batch of a local model.
        seed: For detectors that draw random numbers.
        engine: `embedded` works in this process; `spark` opens the detectors on the workers of Apache Spark.
            Verdicts and run folder are the same.
        master: Address of the Spark master, for the engine `spark`.
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
        kind=kind_of(kind),
        ignore=tuple(ignore),
        ignore_file=Path(ignore_file) if ignore_file is not None else None,
        baseline=Path(baseline) if baseline is not None else None,
        measured=Path(measured) if measured is not None else None,
        include_text=include_text,
        fresh=fresh,
        out=Path(out) if out is not None else None,
        offline=offline,
        device=device,
        batch_size=batch_size,
        seed=seed,
        engine=engine,
        master=master,
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
    if options.ignore_file is not None:
        named = tuple(read_ignore_file(options.ignore_file))
        options = replace(options, ignore=(*named, *options.ignore))
    judging = _judging(options, progress)
    check_options(options, judging.panel)
    known = Baseline.load(options.baseline) if options.baseline is not None else None
    errors = read_evaluation(options.measured) if options.measured is not None else None
    source: Input
    if isinstance(given, (str, Path)):
        source = open_source(
            given, text=options.text, prompt=options.prompt, as_kind=options.kind, ignore=options.ignore
        )
    else:
        source = MemorySource(given)
    scan_ = _Scan(options, judging, source, known, errors, dict(sources or {}), tuple(argv), progress)
    if isinstance(source, MemorySource) and options.out is None:
        return scan_.in_memory()
    return scan_.in_folder()


def _judging(options: ScanOptions, progress: ProgressCallback) -> Judging:
    if options.engine == "spark":
        return SparkJudging(options, progress)
    shared: dict[str, object] = {}
    return Judging(options.detectors, lambda name: options.context(name, shared), progress)


@dataclass(slots=True)
class _Scan:
    """One scan that is being made."""

    options: ScanOptions
    judging: Judging
    source: Input
    baseline: Baseline | None
    errors: Evaluation | None
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
        counts = summarise(report_rows(kept, self.baseline))
        info = self._info(None, self._prevalence(counts))
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
        estimate: tuple[Prevalence, ...] = ()
        if self.errors is not None:
            estimate = self._prevalence(summarise(report_rows(run.results(), self.baseline)))
        info = self._info(run, estimate)
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

    def _prevalence(self, counts: Summary) -> tuple[Prevalence, ...]:
        """The flagged share corrected for the detector's errors, where they were measured.

        Raises:
            UsageError: If they were measured with another detector, model, profile or threshold.
        """
        if self.errors is None:
            return ()
        found = counts.detectors.get(self.errors.detector)
        if found is None:
            message = (
                f"expected error rates of a detector of this scan, got those of '{self.errors.detector}'."
            )
            raise UsageError(message)
        flagged = found.flagged + found.known
        used = [one for _, one in found.provenances.items() if one.threshold_source != "none"]
        return tuple(corrected_prevalence(self.errors, one, flagged, found.scored) for one in used)

    def _info(self, run: Run | None, prevalence: tuple[Prevalence, ...] = ()) -> RunInfo:
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
            measured=(
                *(rates_of(self.errors) if self.errors is not None else ()),
                *shipped_rates(run.record.detectors if run is not None else {}),
            ),
            prevalence=prevalence,
            limits=tuple(f"Not read: {notice}" for notice in self.source.notices),
            baseline=str(self.options.baseline) if self.options.baseline is not None else None,
            started=sessions[0].started if sessions else None,
            finished=run.record.finished if run is not None else None,
        )
