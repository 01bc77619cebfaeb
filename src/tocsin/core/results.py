"""One line of `results.jsonl`: a verdict and what has to be known about its item, and back again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self, cast

from pydantic import JsonValue

from tocsin.core.records import Finding, Item, Kind, Origin, Provenance, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One verdict and what has to be known about its item. Holds no examined text."""

    verdict: Verdict
    origin: Origin
    kind: Kind
    content_hash: str
    findings: tuple[Finding, ...] = ()
    partial: tuple[str, ...] = ()

    @classmethod
    def of(cls, item: Item, verdict: Verdict) -> Self:
        """The result of one detector on one item."""
        return cls(
            verdict=verdict,
            origin=item.origin,
            kind=item.kind,
            content_hash=item.content_hash,
            findings=item.findings,
            partial=item.partial,
        )


def to_line(result: Result) -> dict[str, JsonValue]:
    """The line as JSON values. Fields of the verdict that have their default value are left out."""
    verdict = result.verdict
    body = verdict.model_dump(mode="json", exclude={"key", "provenance"}, exclude_defaults=True)
    origin = result.origin
    line: dict[str, JsonValue] = {
        "input_hash": origin.input_hash,
        "ordinal": origin.ordinal,
        "path": origin.path,
        "line": origin.line,
        "kind": result.kind.value,
        "content_hash": result.content_hash,
        **body,
        "provenance": verdict.provenance.id,
    }
    if result.findings:
        line["findings"] = [finding.model_dump(mode="json") for finding in result.findings]
    if result.partial:
        line["partial"] = list(result.partial)
    return line


def from_line(line: Mapping[str, JsonValue], provenances: Mapping[str, Provenance]) -> Result:
    """The result that a line holds.

    Args:
        line: As `to_line` made it.
        provenances: By id.

    Raises:
        ValueError: If a field is missing or does not fit; pydantic's errors are of this class.
    """
    fields = dict(line)
    try:
        place = {name: fields.pop(name) for name in ("input_hash", "ordinal", "path", "line")}
        origin = Origin.model_validate(place)
        findings = cast("list[JsonValue]", fields.pop("findings", []))
        partial = cast("list[str]", fields.pop("partial", []))
        kind = Kind(str(fields.pop("kind")))
        content_hash = str(fields.pop("content_hash"))
        provenance = provenances[str(fields.pop("provenance"))]
    except KeyError as error:
        message = f"the field {error} is missing or names nothing"
        raise ValueError(message) from error
    return Result(
        origin=origin,
        kind=kind,
        content_hash=content_hash,
        findings=tuple(Finding.model_validate(finding) for finding in findings),
        partial=tuple(partial),
        verdict=Verdict.model_validate({**fields, "key": origin.key, "provenance": provenance}),
    )
