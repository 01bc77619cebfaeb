"""One pass over the rows of a run: counts, histograms and the few rows that a page or a table shows.

Memory does not grow with the number of rows, except for one byte for each item that remembers what was said
about it. Everything else is bounded by the numbers below; what falls outside is counted and the report says
so.
"""

from __future__ import annotations

import heapq
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import IntFlag
from typing import TypeGuard

from tocsin.core.records import Finding, Origin, Provenance, Reason, Verdict
from tocsin.report.records import ReportRow

TOP_ROWS = 200
"""Flagged rows kept, highest score first."""
TOP_PLACES = 20
"""Places kept for each reason of an abstention, each note of a partial reading and each format rule."""
HISTOGRAM_BINS = 40
"""Equal bins of the score axis from 0 to 1."""
SCATTER_POINTS = 500
"""Points kept for each plot and class (flagged, not flagged)."""
DISTINCT_NAMES = 64
"""Distinct names kept in a tally (categories, rules, notes); later ones are counted as `other`."""
OTHER = "other"

PLANES = {"polar": ("theta", "phi"), "beliefs": ("harmfulness_belief", "refusal_belief")}
"""Pairs of `Verdict.extra` numbers for which a scatter plot is drawn."""

_INDEX = re.compile(r"\d+")


class Tally:
    """Counts by name, with a bounded number of names."""

    def __init__(self, names: int = DISTINCT_NAMES) -> None:
        self._names = names
        self._counts: Counter[str] = Counter()

    def add(self, name: str, count: int = 1) -> str:
        """Count a name and return the name it was counted under."""
        counted_as = name if name in self._counts or len(self._counts) < self._names else OTHER
        self._counts[counted_as] += count
        return counted_as

    def items(self) -> list[tuple[str, int]]:
        """Names and counts, most frequent first, then by name."""
        return sorted(self._counts.items(), key=lambda pair: (-pair[1], pair[0]))

    def total(self) -> int:
        """Sum of all counts."""
        return self._counts.total()

    def __len__(self) -> int:
        return len(self._counts)


@dataclass(slots=True)
class Group:
    """Rows that share a reason, note or rule: how many, and where the first ones are."""

    count: int = 0
    places: list[Origin] = field(default_factory=list)
    lines: list[int | None] = field(default_factory=list)
    """Line of each place where it is not the line of the item (format findings)."""
    detail: str = ""
    """Detail or message of the first row."""

    def add(self, origin: Origin, detail: str, line: int | None = None) -> None:
        """Count one row."""
        self.count += 1
        if self.count == 1:
            self.detail = detail
        if len(self.places) < TOP_PLACES:
            self.places.append(origin)
            self.lines.append(line)


class Groups:
    """Groups by name, with a bounded number of names."""

    def __init__(self) -> None:
        self._groups: dict[str, Group] = {}

    def add(self, name: str, origin: Origin, detail: str, line: int | None = None) -> None:
        """Count one row under a name."""
        key = name if name in self._groups or len(self._groups) < DISTINCT_NAMES else OTHER
        self._groups.setdefault(key, Group()).add(origin, detail, line)

    def items(self) -> list[tuple[str, Group]]:
        """Names and groups, largest first, then by name."""
        return sorted(self._groups.items(), key=lambda pair: (-pair[1].count, pair[0]))

    def total(self) -> int:
        """Rows in all groups."""
        return sum(group.count for group in self._groups.values())

    def __len__(self) -> int:
        return len(self._groups)


@dataclass(frozen=True, slots=True, order=True)
class Point:
    """One point of a scatter plot. The order is a fixed pseudo-random one, so that samples are repeatable."""

    rank: int
    ordinal: int
    x: float
    y: float


class PointSample:
    """A fair, repeatable sample of bounded size: points whose running numbers have the smallest hashes."""

    def __init__(self, size: int = SCATTER_POINTS) -> None:
        self._size = size
        self._heap: list[tuple[int, Point]] = []
        self.seen = 0

    def add(self, ordinal: int, x: float, y: float) -> None:
        """Offer one point."""
        self.seen += 1
        point = Point(zlib.crc32(ordinal.to_bytes(8, "big")), ordinal, x, y)
        entry = (-point.rank, point)
        if len(self._heap) < self._size:
            heapq.heappush(self._heap, entry)
        elif entry > self._heap[0]:
            heapq.heapreplace(self._heap, entry)

    def points(self) -> list[Point]:
        """The sample, in order of running number."""
        return sorted((point for _, point in self._heap), key=lambda point: point.ordinal)


@dataclass(slots=True)
class Plane:
    """Samples for one scatter plot."""

    flagged: PointSample = field(default_factory=PointSample)
    unflagged: PointSample = field(default_factory=PointSample)


@dataclass(slots=True)
class DetectorSummary:
    """What one detector said."""

    name: str
    rows: int = 0
    flagged: int = 0
    known: int = 0
    """Flagged rows that a baseline silenced; not counted in `flagged`."""
    clean: int = 0
    """Rows below the threshold of which everything was read."""
    partial: int = 0
    """Rows below the threshold of which something was left out: not clean."""
    abstained: int = 0
    windows: int = 0
    most_windows: int = 0
    calibrated: bool = False
    cost: float | None = None
    bins_flagged: list[int] = field(default_factory=lambda: [0] * HISTOGRAM_BINS)
    bins_unflagged: list[int] = field(default_factory=lambda: [0] * HISTOGRAM_BINS)
    parts: Tally = field(default_factory=Tally)
    not_assessed: Tally = field(default_factory=Tally)
    thresholds: dict[tuple[float | None, str], int] = field(default_factory=dict)
    provenances: dict[str, Provenance] = field(default_factory=dict)
    planes: dict[str, Plane] = field(default_factory=dict)

    @property
    def scored(self) -> int:
        """Rows with a verdict."""
        return self.rows - self.abstained


class _Said(IntFlag):
    """What was said about one item, by any detector."""

    SEEN = 1
    FLAGGED = 2
    KNOWN = 4
    JUDGED = 8
    ABSTAINED = 16
    PARTIAL = 32


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Every item in exactly one class, the first that applies."""

    items: int
    flagged: int
    """Some detector flagged it."""
    known: int
    """Some detector flagged it, and the baseline lists that."""
    not_judged: int
    """Every detector abstained."""
    partial: int
    """Not flagged, but a part was not read or one of several detectors abstained."""
    clean: int
    """Every detector read everything and stayed below its threshold."""


class Summary:
    """Counts and bounded selections over the rows of a run. Feed it with `add`, or use `summarise`."""

    def __init__(self, *, top: int = TOP_ROWS) -> None:
        self._top = top
        self._heap: list[tuple[float, float, int, int, ReportRow]] = []
        self._said: dict[str, bytearray] = {}
        self.rows = 0
        self.flagged_rows = 0
        self.known_rows = 0
        self.detectors: dict[str, DetectorSummary] = {}
        self.kinds = Tally()
        self.categories = Tally()
        """Strongest category of each flagged row."""
        self.abstentions: dict[Reason, Groups] = {}
        """By reason, then by detector."""
        self.partial = Groups()
        """By note, with the numbers in it left out."""
        self.findings = Groups()
        """By rule; findings that the baseline lists are in `known_findings` instead."""
        self.known_findings = 0

    def add(self, row: ReportRow) -> None:
        """Count one row."""
        verdict = row.verdict
        self.rows += 1
        detector = self.detectors.setdefault(verdict.detector, DetectorSummary(verdict.detector))
        notes = row.partial + (verdict.examined.left_out if verdict.examined else ())
        said = _Said.SEEN | (_Said.PARTIAL if notes else _Said.SEEN)
        detector.rows += 1
        if verdict.abstained is not None:
            detector.abstained += 1
            said |= _Said.ABSTAINED
            groups = self.abstentions.setdefault(verdict.abstained.reason, Groups())
            groups.add(verdict.detector, row.origin, verdict.abstained.detail)
        elif verdict.flagged and row.known:
            detector.known += 1
            self.known_rows += 1
            said |= _Said.KNOWN | _Said.JUDGED
        elif verdict.flagged:
            detector.flagged += 1
            self.flagged_rows += 1
            said |= _Said.FLAGGED | _Said.JUDGED
            self.categories.add(verdict.category or "no category")
            self._offer(row)
        elif notes:
            detector.partial += 1
            said |= _Said.JUDGED
        else:
            detector.clean += 1
            said |= _Said.JUDGED
        _describe(detector, verdict)
        is_new = self._remember(row.origin, said)
        for note in verdict.examined.left_out if verdict.examined else ():
            self.partial.add(_INDEX.sub("N", note), row.origin, note)
        if is_new:
            self._add_item(row)

    def _add_item(self, row: ReportRow) -> None:
        """What is said once for each item, however many detectors read it."""
        if row.kind is not None:
            self.kinds.add(row.kind.value)
        for note in row.partial:
            self.partial.add(_INDEX.sub("N", note), row.origin, note)
        for finding in row.findings:
            if finding.rule in row.known_rules:
                self.known_findings += 1
            else:
                self._add_finding(finding, row.origin)

    def _add_finding(self, finding: Finding, origin: Origin) -> None:
        self.findings.add(finding.rule, origin, finding.message, finding.line)

    def _remember(self, origin: Origin, said: _Said) -> bool:
        seen = self._said.setdefault(origin.input_hash, bytearray())
        if origin.ordinal >= len(seen):
            seen.extend(bytes(origin.ordinal + 1 - len(seen)))
        is_new = seen[origin.ordinal] == 0
        seen[origin.ordinal] |= said
        return is_new

    def _offer(self, row: ReportRow) -> None:
        verdict = row.verdict
        score = -1.0 if verdict.score is None else verdict.score
        raw = score if verdict.raw_score is None else verdict.raw_score
        # The running count breaks ties, so that rows are never compared and earlier ones win.
        entry = (score, raw, -row.origin.ordinal, -self.rows, row)
        if len(self._heap) < self._top:
            heapq.heappush(self._heap, entry)
        elif self._top and entry[:4] > self._heap[0][:4]:
            heapq.heapreplace(self._heap, entry)

    def top(self) -> list[ReportRow]:
        """Flagged rows, highest score first; equal scores by raw score, then in order of the input."""
        return [entry[4] for entry in sorted(self._heap, key=lambda entry: entry[:4], reverse=True)]

    def outcomes(self) -> Outcomes:
        """Every item in one class. Cost: one pass over a byte for each item."""
        counts = [0, 0, 0, 0, 0]
        for value, n in self._values():
            said = _Said(value)
            if said & _Said.FLAGGED:
                counts[0] += n
            elif not said & _Said.JUDGED:
                counts[2] += n
            elif said & (_Said.PARTIAL | _Said.ABSTAINED):
                # Also where a baseline knows the finding: what was not read may have changed since.
                counts[3] += n
            elif said & _Said.KNOWN:
                counts[1] += n
            else:
                counts[4] += n
        return Outcomes(sum(counts), *counts)

    def _values(self) -> Iterator[tuple[int, int]]:
        for seen in self._said.values():
            yield from ((value, n) for value, n in Counter(seen).items() if value)


def _describe(detector: DetectorSummary, verdict: Verdict) -> None:
    """Scores, parts, thresholds and plots of one verdict."""
    detector.calibrated = detector.calibrated or verdict.calibrated
    if verdict.cost is not None:
        detector.cost = (detector.cost or 0.0) + verdict.cost
    provenance = verdict.provenance
    if len(detector.provenances) < DISTINCT_NAMES:
        detector.provenances.setdefault(provenance.id, provenance)
    if verdict.abstained is not None:
        return
    threshold = (provenance.threshold, provenance.threshold_source)
    if threshold in detector.thresholds or len(detector.thresholds) < DISTINCT_NAMES:
        detector.thresholds[threshold] = detector.thresholds.get(threshold, 0) + 1
    if verdict.score is not None:
        bins = detector.bins_flagged if verdict.flagged else detector.bins_unflagged
        bins[min(int(verdict.score * HISTOGRAM_BINS), HISTOGRAM_BINS - 1)] += 1
    if verdict.examined is not None:
        detector.windows += verdict.examined.windows
        detector.most_windows = max(detector.most_windows, verdict.examined.windows)
        for part in verdict.examined.parts:
            detector.parts.add(_INDEX.sub("N", part))
    for name, score in verdict.categories.items():
        if score is None:
            detector.not_assessed.add(name)
    for plane, (x_name, y_name) in PLANES.items():
        x, y = verdict.extra.get(x_name), verdict.extra.get(y_name)
        if _is_number(x) and _is_number(y):
            samples = detector.planes.setdefault(plane, Plane())
            sample = samples.flagged if verdict.flagged else samples.unflagged
            sample.add(verdict.key.ordinal, float(x), float(y))


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def summarise(rows: Iterable[ReportRow], *, top: int = TOP_ROWS) -> Summary:
    """Read all rows once.

    Args:
        rows: Rows in any order; the rows of one item need not follow each other.
        top: Flagged rows to keep.
    """
    summary = Summary(top=top)
    for row in rows:
        summary.add(row)
    return summary
