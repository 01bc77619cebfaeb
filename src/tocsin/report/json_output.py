"""JSON and JSON lines. The fields are documented in ``docs/report.md`` and change only with `SCHEMA_VERSION`.

Output is pure ASCII: other characters are written as JSON escapes, so that a name with control characters or
bidirectional overrides cannot disturb a terminal and undecodable file names survive.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping

from pydantic import JsonValue

from tocsin.core.records import SCHEMA_VERSION
from tocsin.report.records import ReportRow, RunInfo
from tocsin.report.summary import Summary


def row_object(row: ReportRow, *, include_text: bool = False) -> dict[str, JsonValue]:
    """One verdict as plain JSON values, with every key present (null where there is nothing)."""
    verdict = row.verdict
    body = verdict.model_dump(mode="json", exclude={"key"})
    result: dict[str, JsonValue] = {
        "input_hash": row.origin.input_hash,
        "ordinal": row.origin.ordinal,
        "path": row.origin.path,
        "line": row.origin.line,
        "kind": None if row.kind is None else row.kind.value,
        "content_hash": row.content_hash or None,
        **body,
        "known": row.known,
        "partial": list(row.partial),
        "findings": [
            {**finding.model_dump(mode="json"), "known": finding.rule in row.known_rules}
            for finding in row.findings
        ],
    }
    if include_text:
        result["text"] = None if row.text is None else dict(row.text)
    return result


def summary_object(summary: Summary) -> dict[str, JsonValue]:
    """The counts of a run."""
    outcomes = summary.outcomes()
    return {
        "items": outcomes.items,
        "flagged": outcomes.flagged,
        "known": outcomes.known,
        "clean": outcomes.clean,
        "partial": outcomes.partial,
        "not_judged": outcomes.not_judged,
        "verdicts": summary.rows,
        "detectors": {
            name: {
                "rows": detector.rows,
                "scored": detector.scored,
                "flagged": detector.flagged,
                "known": detector.known,
                "clean": detector.clean,
                "partial": detector.partial,
                "abstained": detector.abstained,
            }
            for name, detector in sorted(summary.detectors.items())
        },
        "categories": _counts(summary.categories.items()),
        "abstentions": {
            reason.value: groups.total()
            for reason, groups in sorted(summary.abstentions.items(), key=lambda pair: pair[0].value)
        },
        "findings": _counts((rule, group.count) for rule, group in summary.findings.items()),
        "known_findings": summary.known_findings,
    }


def render_json(run: RunInfo, rows: Iterable[ReportRow], *, include_text: bool = False) -> Iterator[str]:
    """One JSON document in pieces: run, then every result, then the counts.

    Args:
        run: Description of the run.
        rows: Read once, in order.
        include_text: Add the examined text to each result, where the rows carry it.
    """
    summary = Summary(top=0)
    head: dict[str, JsonValue] = {
        "schema_version": SCHEMA_VERSION,
        "tool": "tocsin",
        "run": run.model_dump(mode="json"),
    }
    yield _dumps(head)[:-1] + ', "results": ['
    separator = "\n"
    for row in rows:
        summary.add(row)
        yield separator + _dumps(row_object(row, include_text=include_text))
        separator = ",\n"
    yield '\n], "summary": ' + _dumps(summary_object(summary)) + "}\n"


def render_jsonl(rows: Iterable[ReportRow], *, include_text: bool = False) -> Iterator[str]:
    """One line for each verdict: the results of `render_json` with a schema version in each."""
    for row in rows:
        yield _dumps({"schema_version": SCHEMA_VERSION, **row_object(row, include_text=include_text)}) + "\n"


def _counts(pairs: Iterable[tuple[str, int]]) -> dict[str, JsonValue]:
    return dict(sorted(pairs))


def _dumps(value: Mapping[str, JsonValue]) -> str:
    return json.dumps(value, ensure_ascii=True, allow_nan=False)
