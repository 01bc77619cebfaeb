"""From a run's results to the rows of a report: baseline applied, examined text fetched if asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

from tocsin.api.judging import CHUNK
from tocsin.api.memory_source import Input
from tocsin.core.records import Item
from tocsin.core.results import Result
from tocsin.core.run_record import RunRecord
from tocsin.report import ReportRow, RunInfo
from tocsin.sources import Baseline


def study_info(
    record: RunRecord, argv: Sequence[str], *, command: str, results: str, model: str | None = None
) -> RunInfo:
    """Description of a run for the page of a study.

    Args:
        record: What its `run.json` says.
        argv: Command line that repeats it.
        command: Verb shown at the top.
        results: Name of the file that holds all numbers.
        model: As given to `--model`, where there is one.
    """
    versions = dict(record.sessions[-1].versions)
    return RunInfo(
        command=command,
        argv=tuple(argv),
        input_name=record.input_name,
        input_hash=record.input_hash,
        model=model,
        tool_version=versions.pop("tocsin", "unknown"),
        versions=versions,
        results=results,
        started=record.sessions[0].started,
        finished=record.finished,
    )


def report_rows(results: Iterable[Result], baseline: Baseline | None) -> Iterator[ReportRow]:
    """Rows of a report, without text."""
    for result in results:
        verdict = result.verdict
        known_rules: frozenset[str] = frozenset()
        if baseline is not None and result.findings:
            rules = {finding.rule for finding in result.findings}
            known_rules = frozenset(rule for rule in rules if baseline.contains(result.content_hash, rule))
        yield ReportRow(
            verdict=verdict,
            origin=result.origin,
            kind=result.kind,
            content_hash=result.content_hash,
            findings=result.findings,
            partial=result.partial,
            known=bool(verdict.flagged)
            and baseline is not None
            and baseline.contains(result.content_hash, verdict.detector),
            known_rules=known_rules,
        )


def with_text(rows: Iterable[ReportRow], source: Input) -> Iterator[ReportRow]:
    """The same rows with the examined text, read from the input again: run folders do not hold it."""
    items = source.items()
    # Results come in chunks of this size, detector after detector.
    texts: dict[int, dict[str, str]] = {}
    for row in rows:
        while row.origin.ordinal not in texts:
            chunk = list(islice(items, CHUNK))
            if not chunk:
                break
            texts = {item.origin.ordinal: text_parts(item) for item in chunk}
        yield ReportRow(
            verdict=row.verdict,
            origin=row.origin,
            kind=row.kind,
            content_hash=row.content_hash,
            findings=row.findings,
            partial=row.partial,
            known=row.known,
            known_rules=row.known_rules,
            text=texts.get(row.origin.ordinal),
        )


def text_parts(item: Item) -> dict[str, str]:
    """Every text of an item under the name that `Evidence.part` uses."""
    parts: dict[str, str] = {}
    if item.prompt is not None:
        parts["prompt"] = item.prompt
    if item.text:
        parts["text"] = item.text
    parts |= {f"turn[{index}]": turn.text for index, turn in enumerate(item.turns)}
    if item.skill is not None:
        parts["skill.purpose"] = item.skill.purpose
        parts["skill.body"] = item.skill.body
    return parts


def baseline_of(rows: Iterable[ReportRow], known: Baseline | None, *, reason: str = "") -> Baseline:
    """A baseline that silences everything these rows report.

    Args:
        rows: Flagged verdicts and format findings are taken from them.
        known: A baseline in use; its entries keep their reasons and dates.
        reason: Written to each new entry.
    """
    from datetime import UTC, datetime

    today = datetime.now(UTC).date()
    made = Baseline(known or ())
    for row in rows:
        names = [row.verdict.detector] if row.verdict.flagged else []
        names += [finding.rule for finding in row.findings]
        for name in names:
            if not made.contains(row.content_hash, name):
                made.add(row.content_hash, name, reason=reason, accepted=today)
    return made
