"""Which traits of a cascade go with its shape: ordinary least squares (arXiv 2505.18099, public code).

A measure of shape, or b or h of the complete cascade, on forwarding category, modality, kind of content and
the activity of groups and authors. Errors allow for unequal variances or, given clusters, for cascades that
share a source.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tocsin.core.errors import InputError, MissingExtraError, UsageError
from tocsin.trace.cascades import Cascades
from tocsin.trace.compare.attributes import MANY, Attributes
from tocsin.trace.compare.family import OTHER

Floats = NDArray[np.float64]
CHAT = "chat"


@dataclass(frozen=True, slots=True)
class Covariates:
    """Of every cascade, each of shape (cascades,)."""

    group_activity: Floats
    """Messages of the log in the group of an event, averaged over events."""
    author_activity: Floats
    is_mixed: NDArray[np.bool_]
    """The cascade has messages of several labels or modalities, and enters no regression."""

    @classmethod
    def read(cls, path: Path, cascades: Cascades) -> Covariates:
        """Covariates of these cascades, from the table that `engine.covariates` gives.

        Raises:
            InputError: If a cascade is not in the file.
        """
        import pyarrow.parquet as pq

        table = pq.read_table(path).sort_by("cascade")
        keys = table["cascade"].to_numpy()
        places = np.searchsorted(keys, cascades.keys)
        missing = np.append(keys, -1)[places] != cascades.keys
        if missing.any():
            message = f"expected a row for every cascade, found none for {int(missing.sum())}. Trace again."
            raise InputError(message, path=path)
        columns = {name: table[name].to_numpy()[places] for name in table.column_names}
        is_mixed = (columns["labels"] > 1) | (columns["modalities"] > 1)
        return cls(
            columns["group_activity"].astype(np.float64),
            columns["author_activity"].astype(np.float64),
            is_mixed,
        )


@dataclass(frozen=True, slots=True)
class Term:
    """One coefficient. Those of categories are differences from the reference category."""

    name: str
    n: int
    """Cascades in the category; all of them for the intercept and for activity."""
    estimate: float
    error: float
    low: float
    high: float
    p: float


@dataclass(frozen=True, slots=True)
class Regression:
    """One regression; without terms where `reason` says why."""

    measure: str
    n: int
    left_out: dict[str, int]
    """Cascades that did not enter, by the first reason that applies."""
    references: dict[str, str] = field(default_factory=dict)
    """Reference category of forwarding, modality and content."""
    errors: str = ""
    """How standard errors were computed."""
    r_squared: float | None = None
    terms: tuple[Term, ...] = ()
    reason: str = ""


def regress(
    measures: Mapping[str, ArrayLike],
    attributes: Attributes,
    covariates: Covariates | None = None,
    *,
    clusters: ArrayLike | None = None,
    confidence: float = 0.95,
) -> list[Regression]:
    """One regression for each measure.

    Cascades that are mixed, have no counter (where any has one) or no value of the measure do not enter.
    Activities are scaled to 0 to 1 over those that do. References are counter 0, "chat" and "other" where
    there are such cascades, else the lowest counter and the most frequent category.

    Args:
        measures: By name, shape (cascades,). NaN where a cascade has no value.
        attributes: Of each cascade.
        covariates: Of each cascade. Without them no cascade is mixed, and activity is left out.
        clusters: Shape (cascades,). Cascades with equal values share a source, such as the group of their
            first event; errors are then clustered. None: errors are HC1.
        confidence: Coverage of intervals.

    Raises:
        UsageError: If a length differs from the number of cascades.
        MissingExtraError: Without statsmodels.
    """
    n = len(attributes.labels)
    sources = None if clusters is None else np.unique(np.asarray(clusters), return_inverse=True)[1].ravel()
    lengths = {name: np.shape(values) for name, values in measures.items()}
    if sources is not None:
        lengths["clusters"] = sources.shape
    for name, shape in lengths.items():
        if shape != (n,):
            message = f"expected {n} values of {name}, one for each cascade, got shape {shape}."
            raise UsageError(message)
    return [
        _regression(name, np.asarray(values, np.float64), attributes, covariates, sources, confidence)
        for name, values in measures.items()
    ]


def _regression(
    measure: str,
    values: Floats,
    attributes: Attributes,
    covariates: Covariates | None,
    sources: NDArray[np.int64] | None,
    confidence: float,
) -> Regression:
    n = len(values)
    kept = np.ones(n, bool)
    left_out = {}
    unknown = np.isnan(attributes.forwarding)
    for reason, out in (
        ("mixed label or modality", np.zeros(n, bool) if covariates is None else covariates.is_mixed),
        ("no forwarding counter", unknown & ~unknown.all()),
        ("no value", ~np.isfinite(values)),
    ):
        left_out[reason] = int(np.count_nonzero(kept & out))
        kept &= ~out
    rows = np.flatnonzero(kept)
    y = values[rows]
    columns: dict[str, Floats] = {"intercept": np.ones(len(rows))}
    references = {}
    hops = np.array([_category(one) for one in attributes.forwarding[rows]], str)
    for trait, categories, preferred in (
        ("forwarding", hops, "0"),
        ("modality", attributes.modalities[rows], CHAT),
        ("content", attributes.labels[rows], OTHER),
    ):
        names, counts = np.unique(categories, return_counts=True)
        if len(names) < 2:
            continue
        fallback = names[0] if trait == "forwarding" else names[np.argmax(counts)]
        references[trait] = preferred if preferred in names else str(fallback)
        for name in names:
            if name != references[trait]:
                columns[f"{trait}: {name}"] = (categories == name).astype(np.float64)
    if covariates is not None:
        for name, activity in (
            ("group activity", covariates.group_activity[rows]),
            ("author activity", covariates.author_activity[rows]),
        ):
            if len(rows) and np.ptp(activity) > 0:
                columns[name] = (activity - activity.min()) / np.ptp(activity)
    design = np.stack(list(columns.values()), 1)
    why = _not_computable(design, y, None if sources is None else sources[rows])
    if why:
        return Regression(measure, len(rows), left_out, references, reason=f"not computable: {why}")
    return _fitted(measure, design, list(columns), y, left_out, references,
                   None if sources is None else sources[rows], confidence)  # fmt: skip


def _category(hops: float) -> str:
    if np.isnan(hops):
        return "unknown"
    return "5plus" if hops >= MANY else str(int(hops))


def _not_computable(design: Floats, y: Floats, sources: NDArray[np.int64] | None) -> str:
    rows, terms = design.shape
    if terms == 1:
        return "no trait differs between cascades"
    if rows <= terms:
        return f"{rows} cascades for {terms} terms"
    if np.ptp(y) == 0:
        return "all values are equal"
    if np.linalg.matrix_rank(design) < terms:
        return "traits determine each other"
    if sources is not None and len(np.unique(sources)) < 2:
        return "all cascades share one source"
    return ""


def _fitted(
    measure: str,
    design: Floats,
    names: list[str],
    y: Floats,
    left_out: dict[str, int],
    references: dict[str, str],
    sources: NDArray[np.int64] | None,
    confidence: float,
) -> Regression:
    try:
        from statsmodels.regression.linear_model import OLS
    except ImportError as error:
        raise MissingExtraError(extra="trace", purpose="A regression of shape") from error
    if sources is None:
        found = OLS(y, design).fit(cov_type="HC1", use_t=True)
        errors = "HC1"
    else:
        found = OLS(y, design).fit(cov_type="cluster", cov_kwds={"groups": sources}, use_t=True)
        errors = f"clustered, {len(np.unique(sources))} sources"
    if found.rsquared > 1 - 1e-12:
        why = "not computable: the traits fit every cascade exactly"
        return Regression(measure, len(y), left_out, references, reason=why)
    bounds = found.conf_int(alpha=1 - confidence)
    counts = [int(design[:, place].sum()) if ":" in name else len(y) for place, name in enumerate(names)]
    terms = tuple(
        Term(name, count, *map(float, (estimate, error, low, high, p)))
        for name, count, estimate, error, (low, high), p in zip(
            names, counts, found.params, found.bse, bounds, found.pvalues, strict=True
        )
    )
    return Regression(measure, len(y), left_out, references, errors, float(found.rsquared), terms)
