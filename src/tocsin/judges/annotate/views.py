"""What the owner's page shows of an agreement: rows of text and numbers."""

from __future__ import annotations

from typing import NamedTuple

from tocsin.core.stats.item_sums import Estimate
from tocsin.judges.agreement import Agreement
from tocsin.report.visible import visible


class PairRow(NamedTuple):
    """Two annotators."""

    a: str
    b: str
    n: int
    alpha: str
    exact: str
    top: str


class SubjectRow(NamedTuple):
    """One model, over all annotators' profiles."""

    annotator: str
    n: int
    cells: tuple[str, ...]


class AgreementView(NamedTuple):
    """Tables of the owner's page."""

    models: tuple[str, ...]
    pairs: tuple[PairRow, ...]
    profiles: tuple[SubjectRow, ...]
    alpha: str
    """Of all annotators together; empty where there are fewer than two."""


def agreement_view(found: Agreement | None) -> AgreementView | None:
    """The rows, or None where there is nothing to show."""
    if found is None:
        return None
    pairs = tuple(
        PairRow(
            pair.a,
            pair.b,
            pair.n,
            _interval(pair.alpha),
            _interval(pair.exact),
            _interval(pair.top_one),
        )
        for pair in found.pairs
    )
    profiles = tuple(
        SubjectRow(each.annotator, each.n, tuple(_interval(subject.mean_rank) for subject in each.subjects))
        for each in found.profiles
    )
    people = [each for each in found.sets if each.name == "people"]
    return AgreementView(
        tuple(visible(subject) for subject in found.subjects),
        pairs,
        profiles,
        _interval(people[0].alpha) if people else "",
    )


def _interval(value: Estimate) -> str:
    if value.value is None:
        return "–"
    if value.low is None or value.high is None:
        return f"{value.value:.2f}"
    return f"{value.value:.2f} ({value.low:.2f} to {value.high:.2f})"
