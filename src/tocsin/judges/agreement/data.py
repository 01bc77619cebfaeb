"""Rankings of the same responses by several annotators, aligned, and how they are collected."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tocsin.core.errors import InputError
from tocsin.judges.agreement.ranks import Problem, Vector, normalise
from tocsin.judges.agreement.records import Reading, Rejected

Floats = NDArray[np.float64]
_SHOWN_IDS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Rankings:
    """Everything that was read. Row i of every array belongs to item i, column j to subject j."""

    items: tuple[str, ...]
    subjects: tuple[str, ...]
    """The models whose responses were ranked."""
    groups: tuple[str | None, ...]
    """Of each item; None where none is given."""
    vectors: Mapping[str, Floats]
    """By annotator, shape (items, subjects): ranks 0..m; NaN in the whole row where there is no ranking."""
    positions: Mapping[str, Floats]
    """By annotator, the same shape: place from 0 at which each response was shown; NaN where not known."""
    humans: tuple[str, ...]
    """Which annotators are people."""
    readings: tuple[Reading, ...]
    rejected: tuple[Rejected, ...]
    notes: tuple[str, ...] = ()

    def known(self, *annotators: str) -> NDArray[np.bool_]:
        """Items that all these annotators ranked."""
        missing = np.stack([np.isnan(self.vectors[name][:, 0]) for name in annotators])
        return np.asarray(~missing.any(0))


@dataclass(slots=True)
class Collector:
    """Gathers rankings one by one; a later ranking of the same item replaces an earlier one."""

    subjects: tuple[str, ...]
    groups: dict[str, str | None] = field(default_factory=dict)
    ranked: dict[str, dict[str, Vector]] = field(default_factory=dict)
    shown: dict[str, dict[str, tuple[int, ...]]] = field(default_factory=dict)
    counts: dict[str, Counter[str]] = field(default_factory=dict)
    rejected: list[Rejected] = field(default_factory=list)

    def count(self, annotator: str, what: str) -> None:
        """Count one row of an annotator."""
        self.counts.setdefault(annotator, Counter())[what] += 1

    def add(
        self,
        annotator: str,
        item: str,
        raw: Vector | tuple[float, ...] | Problem,
        *,
        group: str | None = None,
        order: tuple[int, ...] | None = None,
        scored: bool = False,
    ) -> None:
        """One ranking as it was written: kept when valid, repaired when dense re-ranking makes it so.

        Args:
            annotator: Who ranked.
            item: What was ranked.
            raw: Numbers as given, or why there are none.
            group: Of the item.
            order: Place at which each response was shown.
            scored: The numbers are scores: turning them into ranks is no repair.
        """
        self.count(annotator, "rows")
        self.groups.setdefault(item, group)
        mine = self.ranked.setdefault(annotator, {})
        vector = raw if isinstance(raw, Problem) else normalise(raw)
        mine.pop(item, None)
        self.shown.setdefault(annotator, {}).pop(item, None)
        if isinstance(vector, Problem):
            self.count(annotator, "rejected")
            self.rejected.append(Rejected(annotator=annotator, item=item, problem=vector.value))
            return
        self.count(annotator, "valid" if scored or vector == raw else "repaired")
        mine[item] = vector
        if order is not None:
            self.shown[annotator][item] = order

    def rankings(self, humans: Iterable[str], notes: Iterable[str] = ()) -> Rankings:
        """Aligned arrays of all that was added."""
        items = tuple(self.groups)
        row = {item: i for i, item in enumerate(items)}
        shape = (len(items), len(self.subjects))

        def aligned(found: Mapping[str, tuple[int, ...]]) -> Floats:
            table = np.full(shape, np.nan)
            for item, values in found.items():
                table[row[item]] = values
            return table

        return Rankings(
            items=items,
            subjects=self.subjects,
            groups=tuple(self.groups.values()),
            vectors={name: aligned(found) for name, found in self.ranked.items()},
            positions={name: aligned(found) for name, found in self.shown.items() if found},
            humans=tuple(name for name in humans if name in self.ranked),
            readings=tuple(
                Reading(
                    annotator=name,
                    rows=found["rows"],
                    incomplete=found["incomplete"],
                    valid=found["valid"],
                    repaired=found["repaired"],
                    rejected=found["rejected"],
                    items=len(self.ranked.get(name, {})),
                )
                for name, found in self.counts.items()
            ),
            rejected=tuple(self.rejected),
            notes=tuple(notes),
        )


class RankingError(InputError):
    """Rankings that cannot be used. Names the items, never what was written.

    Attributes:
        problem: What is wrong with them.
        items: Ids of the items.
    """

    def __init__(self, problem: Problem, items: Iterable[str], advice: str, *, path: Path | str) -> None:
        self.problem = problem
        self.items = tuple(dict.fromkeys(items))
        shown = ", ".join(self.items[:_SHOWN_IDS]) + (", ..." if len(self.items) > _SHOWN_IDS else "")
        message = f"expected one whole ranking of each item by each annotator, got: {problem.value} "
        super().__init__(message + f"({len(self.items)} items: {shown}). {advice}", path=path)
