"""SARIF 2.1.0 (OASIS standard), as code hosts and editors read it.

Rules are detectors, their categories and the format rules of readers. A flagged verdict and a format finding
are results; abstentions and partial readings are notifications of the invocation, because they are not
findings. Spans of evidence count characters of an item's part, not of the file, so they are properties of a
result and never its region.
"""

from __future__ import annotations

import hashlib
import json
import os
import posixpath
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from urllib.parse import quote

from pydantic import JsonValue

from tocsin.core.records import Finding, Origin
from tocsin.core.taxonomy import CATEGORIES
from tocsin.report.records import ReportRow, RunInfo
from tocsin.report.visible import visible

SCHEMA_URI = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
NOTIFICATIONS = 1000
"""Abstentions and partial readings listed one by one; the rest are counted in one for each kind."""

_TITLES = {category.id: category.title for category in CATEGORIES}
_DEFINITIONS = {category.id: category.definition for category in CATEGORIES}
_PROHIBITED = frozenset(category.id for category in CATEGORIES if category.tier == "prohibited")

Json = dict[str, JsonValue]


def render_sarif(run: RunInfo, rows: Iterable[ReportRow]) -> Iterator[str]:
    """One SARIF log in pieces. Rows are read once, in order; never contains examined text.

    Args:
        run: Description of the run.
        rows: Format findings may be repeated on each row of an item: they are written once.
    """
    log = _Log(run)
    yield f'{{"$schema": {json.dumps(SCHEMA_URI)}, "version": "2.1.0", "runs": [{{"results": ['
    separator = "\n"
    for row in rows:
        for result in log.results(row):
            yield separator + json.dumps(result, allow_nan=False)
            separator = ",\n"
    tail = json.dumps(log.tail(), allow_nan=False)
    yield f"\n], {tail[1:-1]}}}]}}\n"


class _Log:
    """What has to be remembered while results are written."""

    def __init__(self, run: RunInfo) -> None:
        self._run = run
        self._notes = {note.name: note for note in run.detectors}
        self._rules: dict[str, Json] = {}
        self._notifications: list[JsonValue] = []
        self._unlisted: Counter[str] = Counter()
        self._seen: dict[str, bytearray] = {}

    def results(self, row: ReportRow) -> Iterator[Json]:
        """The results of one row; notes what is no result."""
        verdict = row.verdict
        is_new = self._is_new(row.origin)
        if is_new:
            for finding in row.findings:
                yield self._finding(row, finding)
            for note in row.partial:
                self._notify("partial", f"Partly read: {note}", row.origin)
        if verdict.abstained is not None:
            detail = f" ({verdict.abstained.detail})" if verdict.abstained.detail else ""
            text = f"{verdict.detector} did not judge: {verdict.abstained.reason.value}{detail}"
            self._notify(f"abstained/{verdict.abstained.reason.value}", text, row.origin)
            return
        for note in verdict.examined.left_out if verdict.examined else ():
            self._notify("partial", f"{verdict.detector} left out: {note}", row.origin)
        if verdict.flagged:
            yield self._verdict(row)

    def tail(self) -> Json:
        """Tool, invocation and the rest of the run object."""
        run = self._run
        for name, count in sorted(self._unlisted.items()):
            self._notifications.append(
                {
                    "level": "warning",
                    "message": {"text": f"{count} more of this kind are in {run.results}."},
                    "descriptor": {"id": name},
                }
            )
        invocation: Json = {
            "executionSuccessful": run.finished is not None,
            "toolExecutionNotifications": self._notifications,
        }
        if run.argv:
            invocation["arguments"] = [visible(argument) for argument in run.argv[1:]]
        if run.started is not None:
            invocation["startTimeUtc"] = _utc(run.started)
        if run.finished is not None:
            invocation["endTimeUtc"] = _utc(run.finished)
        return {
            "tool": {
                "driver": {
                    "name": "Tocsin",
                    "version": run.tool_version,
                    "rules": [self._rules[name] for name in sorted(self._rules)],
                }
            },
            "invocations": [invocation],
            "columnKind": "unicodeCodePoints",
            "properties": {"inputHash": run.input_hash, "model": run.model},
        }

    def _verdict(self, row: ReportRow) -> Json:
        verdict = row.verdict
        category = verdict.category
        rule = verdict.detector if category is None else f"{verdict.detector}/{category}"
        self._verdict_rule(rule, verdict.detector, category)
        title = "" if category is None else f" ({_TITLES.get(category, visible(category))})"
        score = "" if verdict.score is None else f", score {verdict.score:.3f}"
        text = f"Flagged by {visible(verdict.detector)}{title}{score}."
        if verdict.rationale:
            text = f"{text} {visible(verdict.rationale, limit=1000)}"
        result: Json = {
            "ruleId": visible(rule),
            "level": "error" if category in _PROHIBITED else "warning",
            "message": {"text": text},
            "locations": [_location(row.origin, row.origin.line)],
            "partialFingerprints": _fingerprints(row, rule),
            "properties": {
                "score": verdict.score,
                "rawScore": verdict.raw_score,
                "calibrated": verdict.calibrated,
                "threshold": verdict.provenance.threshold,
                "evidence": [evidence.model_dump(mode="json") for evidence in verdict.evidence],
            },
        }
        if verdict.score is not None:
            result["rank"] = round(100 * verdict.score, 4)
        if row.known:
            result["suppressions"] = [_SUPPRESSION]
        return result

    def _finding(self, row: ReportRow, finding: Finding) -> Json:
        self._rules.setdefault(
            finding.rule,
            {
                "id": visible(finding.rule),
                "shortDescription": {"text": f"Format rule {visible(finding.rule)}"},
                "defaultConfiguration": {"level": "note"},
            },
        )
        result: Json = {
            "ruleId": visible(finding.rule),
            "level": "note",
            "message": {"text": visible(finding.message, limit=1000) or visible(finding.rule)},
            "locations": [_location(row.origin, finding.line or row.origin.line)],
            "partialFingerprints": _fingerprints(row, finding.rule),
        }
        if finding.rule in row.known_rules:
            result["suppressions"] = [_SUPPRESSION]
        return result

    def _verdict_rule(self, rule: str, detector: str, category: str | None) -> None:
        if rule in self._rules:
            return
        note = self._notes.get(detector)
        title = detector if category is None else _TITLES.get(category, category)
        meaning = "" if note is None else note.polarity
        definition = "" if category is None else _DEFINITIONS.get(category, "")
        entry: Json = {
            "id": visible(rule),
            "shortDescription": {"text": visible(title)},
            "fullDescription": {"text": visible(definition or meaning or title)},
            "defaultConfiguration": {"level": "error" if category in _PROHIBITED else "warning"},
        }
        if note is not None:
            entry["help"] = {"text": visible(f"{note.summary} {note.polarity} {note.threshold_rule}".strip())}
        self._rules[rule] = entry

    def _notify(self, name: str, text: str, origin: Origin) -> None:
        if len(self._notifications) >= NOTIFICATIONS:
            self._unlisted[name] += 1
            return
        self._notifications.append(
            {
                "level": "warning",
                "message": {"text": visible(text, limit=1000)},
                "descriptor": {"id": name},
                "locations": [_location(origin, origin.line)],
            }
        )

    def _is_new(self, origin: Origin) -> bool:
        seen = self._seen.setdefault(origin.input_hash, bytearray())
        if origin.ordinal >= len(seen):
            seen.extend(bytes(origin.ordinal + 1 - len(seen)))
        is_new = not seen[origin.ordinal]
        seen[origin.ordinal] = 1
        return is_new


# Without a status, which means "accepted" (section 3.27.23); earlier drafts name it differently.
_SUPPRESSION: Json = {"kind": "external", "justification": "Listed in the baseline."}


def _location(origin: Origin, line: int | None) -> Json:
    """A file with its line, or, for input without a path, the item by its running number."""
    if not origin.path:
        return {"logicalLocations": [{"name": f"item {origin.ordinal}", "kind": "element"}]}
    physical: Json = {"artifactLocation": {"uri": relative_uri(origin.path)}}
    if line is not None and line >= 1:
        physical["region"] = {"startLine": line}
    return {"physicalLocation": physical}


def relative_uri(path: str) -> str:
    """A path as a URI reference (RFC 3986).

    Every byte outside the unreserved set and `/` is percent-encoded, undecodable bytes of file names
    included, so that the first segment cannot be read as a scheme. An absolute path becomes a `file:` URI.

    Example:
        >>> relative_uri("a b/c:d#1.md")
        'a%20b/c%3Ad%231.md'
    """
    # os.fsencode restores the undecodable bytes; other lone surrogates have no bytes and are kept as they
    # are.
    try:
        raw = os.fsencode(path)
    except UnicodeEncodeError:
        raw = path.encode("utf-8", "surrogatepass")
    encoded = quote(raw, safe="/")
    return f"file://{encoded}" if posixpath.isabs(path) else encoded


def _fingerprints(row: ReportRow, rule: str) -> dict[str, JsonValue]:
    """By content, stable when lines move; and by place in the input, which tells equal rows apart."""
    prints: dict[str, JsonValue] = {"tocsinKey/v1": f"{row.origin.input_hash}:{row.origin.ordinal}"}
    if row.content_hash:
        joined = f"{row.content_hash}\n{rule}".encode("utf-8", "surrogatepass")
        prints["tocsinContent/v1"] = hashlib.sha256(joined).hexdigest()
    return prints


def _utc(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")[:23] + "Z"
