"""`tocsin scan`."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from tocsin.api.reporting import baseline_of
from tocsin.api.scan import ScanResult, run_scan
from tocsin.api.scan_options import DEFAULT_MASTER, Engine, ScanOptions
from tocsin.cli.app import invocation, settings
from tocsin.cli.options import CONFIG_DEFAULTS, MODEL_DEFAULTS, ConfigOptions, InputPath, ModelOptions
from tocsin.cli.show import notice, progress_bar, write
from tocsin.cli.words import parse_options, parse_thresholds
from tocsin.core.errors import EXIT_ABSTAINED, EXIT_FLAGGED, EXIT_INTERRUPTED, EXIT_OK, UsageError
from tocsin.core.records import Kind, Reason
from tocsin.report import Outcomes, render_json, render_jsonl, render_sarif, render_table, visible

Format = Literal["table", "json", "jsonl", "sarif"]
_NAMES = {"detectors": "detector", "thresholds": "threshold", "options": "set"}
"""Names of settings whose option is called otherwise."""


def scan(
    path: InputPath,
    /,
    *,
    detector: tuple[str, ...] = (),
    profile: Path | None = None,
    threshold: tuple[str, ...] = (),
    set_: Annotated[tuple[str, ...], Parameter(name="--set")] = (),
    deep: bool = False,
    text: str | None = None,
    prompt: str | None = None,
    kind: Kind | None = None,
    ignore: tuple[str, ...] = (),
    ignore_file: Path | None = None,
    baseline: Path | None = None,
    write_baseline: Path | None = None,
    measured: Path | None = None,
    max_abstain: Annotated[int, Parameter(validator=Number(gte=0))] = 0,
    include_text: bool = False,
    format_: Annotated[Format, Parameter(name="--format")] = "table",
    json: bool = False,
    out: Path | None = None,
    fresh: bool = False,
    engine: Engine = "embedded",
    master: str = DEFAULT_MASTER,
    models: ModelOptions = MODEL_DEFAULTS,
    configs: ConfigOptions = CONFIG_DEFAULTS,
) -> int:
    """Examine prompts, chats, fine-tuning data or skills, and say which are harmful.

    tocsin scan prompts.jsonl
    tocsin scan skills/ --deep --format sarif > found.sarif

    Exit codes: 0 nothing flagged, 1 something flagged, 2 bad arguments or input, 3 a missing extra, 4 more
    items abstained or partly read than --max-abstain, 130 interrupted. The same command goes on with an
    interrupted scan and shows a finished one at once.

    Args:
        path: A data file (.txt, .jsonl, .json, .csv, .tsv, .parquet), a SKILL.md, a folder of both, or - for
            standard input.
        detector: Detector to use; may be repeated (default: policy-embedded for skills, harmfulness for the
            rest).
        profile: Folder of a fitted profile (default: the one that ships with the detector).
        threshold: Flag above X (0 to 1), or NAME=X for one of several detectors (default: each detector's
            own).
        set_: Option of a detector as NAME.OPTION=VALUE, such as policy.passes=1 (default: none).
        deep: Read the bodies of skills too, not only name, description and section headers.
        text: Column of the examined text (default: found by well-known names).
        prompt: Column of the request that the text answers (default: found by well-known names).
        kind: Treat rows as this kind of item (default: by their columns).
        ignore: Leave out paths that match this pattern, in gitignore syntax (default: none).
        ignore_file: File with further such patterns, such as a .tocsinignore that you trust; one inside the
            input is not obeyed by itself (default: none).
        baseline: File of known findings, reported as known and not counted as flagged (default: none).
        write_baseline: Write everything found, and the entries of --baseline, to this file (default: none).
        measured: JSON of `tocsin evaluate` with the same detector and options: the flagged share is corrected
            for its errors (default: none).
        max_abstain: Items that may be left unjudged or be read only in part before the exit code is 4.
        include_text: Show examined text in the report and in JSON, escaped (default: ids and places only).
        format_: Form of what is written to standard output.
        json: Short for --format json.
        out: Run folder (default: tocsin-runs/scan-ID, named by command, input and settings).
        fresh: Begin anew even if this scan was begun or finished before.
        engine: What runs the detectors: embedded is this process; spark opens them on the workers of Apache
            Spark (extra spark, Java 17), with the same verdicts and the same run folder.
        master: Address of the Spark master for --engine spark, such as spark://HOST:7077; local[*] is every
            core of this machine.
        models: Which model is read, and how.
        configs: Where options come from.
    """
    everywhere, by_name = parse_thresholds(threshold)
    options = ScanOptions(
        detectors=detector,
        profile=profile,
        threshold=everywhere,
        thresholds=by_name,
        options=parse_options(set_),
        deep=deep,
        text=text,
        prompt=prompt,
        kind=kind,
        ignore=ignore,
        ignore_file=ignore_file,
        baseline=baseline,
        measured=measured,
        include_text=include_text,
        fresh=fresh,
        out=out,
        engine=engine,
        master=master,
        **asdict(models),
    )
    del configs  # read before this function is called
    if write_baseline is not None and not write_baseline.parent.is_dir():
        message = "expected a file in an existing folder for --write-baseline. Make the folder first."
        raise UsageError(message, path=write_baseline)
    try:
        with progress_bar() as progress:
            result = run_scan(
                path, options, sources=_sources(options), argv=invocation.argv, progress=progress
            )
    except KeyboardInterrupt:
        notice(f"interrupted. What was finished is kept; go on with:   {_repeat()}")
        return EXIT_INTERRUPTED
    _print(result, "json" if json else format_, include_text=include_text)
    if write_baseline is not None:
        made = baseline_of(result.rows(), result.baseline)
        made.save(write_baseline)
        notice(f"baseline: {len(made):,} known findings in {visible(str(write_baseline))}")
    _say_what_next(result, has_baseline=baseline is not None or write_baseline is not None)
    return exit_code(result.summary, max_abstain)


def exit_code(outcomes: Outcomes, max_abstain: int) -> int:
    """Exit code of a scan: something flagged, else too much left unjudged, else fine."""
    if outcomes.flagged:
        return EXIT_FLAGGED
    return EXIT_ABSTAINED if outcomes.not_judged + outcomes.partial > max_abstain else EXIT_OK


def _sources(options: ScanOptions) -> Mapping[str, str]:
    """Where each setting came from, by the names that the record uses."""
    return {
        name: settings.sources.get(_NAMES.get(name, name.replace("_", "-")), "default")
        for name in options.settings()
    }


def _print(result: ScanResult, form: Format, *, include_text: bool) -> None:
    if form == "json":
        write(render_json(result.info, result.rows(include_text=include_text), include_text=include_text))
    elif form == "jsonl":
        write(render_jsonl(result.rows(include_text=include_text), include_text=include_text))
    elif form == "sarif":
        write(render_sarif(result.info, result.rows()))
    else:
        write([render_table(result.info, result.counts, is_terminal=sys.stdout.isatty())])


def _say_what_next(result: ScanResult, *, has_baseline: bool) -> None:
    for text in result.source.notices:
        notice(f"notice: {visible(text)}")
    if result.was_finished:
        notice("this scan was finished before; its results are shown. --fresh makes it anew.")
    if outages := result.counts.abstentions.get(Reason.PROVIDER):
        notice(
            f"{outages.total():,} items were not judged because the provider failed. Ask for them again with "
            "--fresh: replies that came are kept, and cost nothing."
        )
    if not result.summary.flagged:
        following = "tocsin detectors   (what else can examine it)"
    elif has_baseline:
        following = f"{_repeat()} --include-text   (shows the examined text in the report)"
    else:
        following = f"{_repeat()} --write-baseline known.json   (accepts what was found)"
    notice(f"report: {visible(str(result.report))}\nnext:   {following}")


def _repeat() -> str:
    """The command line that finds this scan again."""
    return shlex.join(visible(word) for word in invocation.argv if word != "--fresh")
