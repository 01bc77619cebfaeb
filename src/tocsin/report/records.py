"""What a report is made from: plain records, filled in by whoever ran the command.

`RunInfo` describes the run, one `ReportRow` stands for one verdict. Rows are given as an iterator and read
once; no function of this room keeps more of them than the documented numbers in `tocsin.report.summary`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from pydantic import Field, JsonValue

from tocsin.core.records import Finding, Kind, Origin, Record, Verdict
from tocsin.core.registry import DetectorInfo


class Setting(Record):
    """One resolved option and where its value came from."""

    name: str
    value: JsonValue
    source: str = "default"
    """`default`, `command line`, `environment`, `profile`, or the name of a configuration file."""


class DetectorNote(Record):
    """What a reader of the report has to know about a detector."""

    name: str
    summary: str = ""
    polarity: str = ""
    """What `flagged` means, as a sentence."""
    threshold_rule: str = ""
    """How a score becomes a flag, as a sentence."""
    card: str | None = None
    """Published system it implements, with its arXiv id."""

    @classmethod
    def of(cls, info: DetectorInfo) -> Self:
        """The reader's part of a registration."""
        return cls(
            name=info.name,
            summary=info.summary,
            polarity=info.polarity,
            threshold_rule=info.threshold_rule,
            card=info.card,
        )


class Measured(Record):
    """A measured error rate or accuracy of a detector, shown among the limits."""

    detector: str
    measure: str
    """In plain words, such as `harmless prompts flagged`."""
    data: str
    """Data set or split it was measured on."""
    value: float
    low: float | None = None
    """Lower end of the 95 % interval, in the unit of `value`."""
    high: float | None = None
    n: int | None = None


class Prevalence(Record):
    """The share of harmful items, corrected for a detector's measured errors."""

    detector: str
    flagged: int
    judged: int
    value: float
    low: float
    high: float
    """Ends of the 95 % interval, which carries the uncertainty of the error rates too."""
    method: str
    data: str
    """Labelled data on which the errors were measured; the correction holds as far as they are alike."""
    note: str = ""

    def __str__(self) -> str:
        """One sentence."""
        share = self.flagged / self.judged if self.judged else 0.0
        note = f" ({self.note})" if self.note else ""
        return (
            f"{self.detector} flagged {self.flagged:,} of {self.judged:,} judged ({share:.1%}); corrected "
            f"for its errors on {self.data}: {self.value:.1%} ({self.low:.1%} to {self.high:.1%}) are "
            f"harmful{note}"
        )


class RunInfo(Record):
    """Description of one run of a command."""

    command: str
    """Verb, such as `scan`."""
    argv: tuple[str, ...] = ()
    """Full command line that repeats the run; quoted for a shell by the report."""
    input_name: str
    """As the user typed it; `-` for standard input."""
    input_hash: str
    model: str | None = None
    tool_version: str
    versions: dict[str, str] = Field(default_factory=dict)
    """Python and libraries that influence results."""
    settings: tuple[Setting, ...] = ()
    detectors: tuple[DetectorNote, ...] = ()
    measured: tuple[Measured, ...] = ()
    prevalence: tuple[Prevalence, ...] = ()
    """Only where error rates were given (`--measured`)."""
    limits: tuple[str, ...] = ()
    """Further sentences on what the run cannot tell."""
    baseline: str | None = None
    """Name of the baseline file, when one silenced known findings."""
    results: str = "results.jsonl"
    """Where all rows are, relative to the report."""
    started: datetime | None = None
    finished: datetime | None = None
    """None while the run is unfinished; the report then says so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRow:
    """One verdict with what the reader of a report needs to find the item again."""

    verdict: Verdict
    origin: Origin
    kind: Kind | None = None
    content_hash: str = ""
    """Hash of the item's content; identifies a finding across runs when lines move."""
    findings: tuple[Finding, ...] = ()
    """Format findings of the item. May be repeated on every row of the item: they are counted once."""
    partial: tuple[str, ...] = ()
    """Bounds that were hit while the item was read (`Item.partial`)."""
    known: bool = False
    """True when a baseline lists this flagged verdict: shown as silenced, not counted as flagged."""
    known_rules: frozenset[str] = frozenset()
    """Rules of `findings` that a baseline lists for this item."""
    text: Mapping[str, str] | None = None
    """Examined text by part name (as in `Evidence.part`); only when the user asked to include text."""
