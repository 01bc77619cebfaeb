"""From reconstructed cascades to the study that is reported. Small cells are suppressed here."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tocsin.core.stats.intervals import Rate
from tocsin.trace.cascades import Cascades, Parents
from tocsin.trace.compare.attributes import Attributes
from tocsin.trace.compare.counters import check_counters
from tocsin.trace.compare.family import NORMAL, OTHER, Comparison, compare, published_pairs
from tocsin.trace.compare.regression import Covariates, Regression, regress
from tocsin.trace.estimates.trees import SHARES, TreeEstimates, sweep_trees
from tocsin.trace.log.ingest import keyed_hash
from tocsin.trace.measures import Shapes, ccdf
from tocsin.trace.spread.cells import POOLED, cell, pooled, share, spaced, stage_cells
from tocsin.trace.spread.parents import RuleName, read_parents, rule_shapes
from tocsin.trace.spread.records import (
    Completed,
    Contrast,
    Counters,
    MeanShape,
    Ranged,
    Regressed,
    Span,
    SpreadStudy,
    Tail,
    Term,
    TopCascade,
)

Floats = NDArray[np.float64]
MEASURES = ("depth", "breadth", "virality")
TOP = 20
BIGGEST_TREE = 300
"""Events of a tree that is drawn."""
SPANS = 60
MANY = 20_000
"""Above so many cascades fewer permutations are drawn: their p values are exact enough for what is shown."""
PERMUTATIONS, FEW_PERMUTATIONS = 10_000, 1_000
_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class Traced:
    """What the stages before have made."""

    cascades: Cascades
    attributes: Attributes
    covariates: Covariates
    parents: Path
    network: Path
    stages: Mapping[str, Mapping[str, int]]


def study_spread(
    traced: Traced, rules: tuple[RuleName, ...], *, seen: float, min_cell: int, secret: bytes, seed: int
) -> SpreadStudy:
    """Make the study.

    Args:
        traced: Cascades with what is known of them.
        rules: Rules in `traced.parents`; the first is shown in most charts.
        seen: Share p of groups that the log holds, in (0, 1].
        min_cell: Cells of fewer cascades are suppressed.
        secret: Key of the hashes that stand for cascades.
        seed: Of intervals and permutations.
    """
    cascades, attributes = traced.cascades, pooled(traced.attributes, min_cell)
    by_rule: dict[str, Shapes] = {
        rule: rule_shapes(cascades, read_parents(traced.parents, rule)) for rule in rules
    }
    counts = dict(zip(*np.unique(attributes.labels, return_counts=True), strict=True))
    # Rare labels are pooled, so that only a log of few cascades has a label that is not shown.
    labels = {str(label): int(n) for label, n in counts.items() if n >= min_cell}
    shown = list(labels)
    edges, rate = _network(traced.network)
    first = rules[0]
    estimates = sweep_trees(by_rule[first], sorted({seen, *SHARES}))
    return SpreadStudy(
        rules=rules,
        smallest_cell=min_cell,
        stages={stage: stage_cells(found, min_cell) for stage, found in traced.stages.items()},
        cascades=cell(len(cascades), min_cell),
        events=cell(len(cascades.nodes), min_cell),
        labels=dict(labels),
        network_edges=None if edges is None else cell(edges, min_cell),
        network_rate=rate,
        means=tuple(
            row for rule in rules for row in _means(rule, by_rule[rule], attributes, shown, min_cell)
        ),
        tails=tuple(
            _tail(
                measure, first, label, getattr(by_rule[first], measure)[attributes.labels == label], min_cell
            )
            for measure in ("size", *MEASURES)
            for label in shown
        ),
        contrasts=tuple(
            one
            for rule in rules
            for one in _contrasts(rule, by_rule[rule], attributes, sorted(shown), min_cell, seed)
        ),
        completed=tuple(_completed(one, min_cell) for one in estimates),
        counters=tuple(_counters(rule, by_rule[rule], attributes, min_cell, seed) for rule in rules),
        regressions=tuple(
            _regressed(one, min_cell)
            for one in regress(
                {name: getattr(by_rule[first], name) for name in MEASURES},
                attributes,
                traced.covariates,
                clusters=cascades.nodes[cascades.offsets[:-1]],
            )
        )
        if len(cascades) >= min_cell
        else (),
        top=_top(traced, by_rule, min_cell, secret),
        timeline=_timeline(cascades, attributes, shown, min_cell),
    )


def _network(path: Path) -> tuple[int | None, float | None]:
    """Edges of the network, and its rate per hour."""
    import pyarrow.parquet as pq

    if not path.exists():
        return None, None
    rates = pq.read_table(path, columns=["rate"])["rate"].to_numpy()
    return len(rates), float(rates[0]) * _HOUR if len(rates) else None


def _mean(values: Floats, min_cell: int) -> Ranged:
    values = values[np.isfinite(values)]
    if len(values) < max(min_cell, 1):
        return Ranged()
    mean = float(values.mean())
    if len(values) == 1:
        return Ranged(value=mean)
    half = 1.96 * float(values.std(ddof=1)) / math.sqrt(len(values))
    return Ranged(value=mean, low=mean - half, high=mean + half)


def _means(
    rule: str, shapes: Shapes, attributes: Attributes, labels: Sequence[str], min_cell: int
) -> list[MeanShape]:
    rows = []
    for label in (None, *labels):
        chosen = np.ones(len(shapes.size), bool) if label is None else attributes.labels == label
        n = int(chosen.sum())
        if n < min_cell:
            continue
        size, depth, breadth, virality = (
            _mean(np.asarray(getattr(shapes, name), np.float64)[chosen], min_cell)
            for name in ("size", *MEASURES)
        )
        rows.append(
            MeanShape(rule=rule, label=label, n=n, size=size, depth=depth, breadth=breadth, virality=virality)
        )
    return rows


def _tail(measure: str, rule: str, label: str, values: Floats, min_cell: int) -> Tail:
    found = ccdf(values[np.isfinite(values)])
    kept = spaced(found.shares, found.n, min_cell)
    return Tail(
        measure=measure, rule=rule, label=label, n=cell(found.n, min_cell),
        values=tuple(found.values[kept].tolist()), shares=tuple(found.shares[kept].tolist()),
    )  # fmt: skip


def _ranged(rate: Rate | None) -> Ranged | None:
    if rate is None:
        return None
    return Ranged(**{end: _number(getattr(rate, end)) for end in ("value", "low", "high")})


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _contrasts(
    rule: str, shapes: Shapes, attributes: Attributes, labels: Sequence[str], min_cell: int, seed: int
) -> list[Contrast]:
    harmful = [label for label in labels if label not in (NORMAL, OTHER, POOLED)]
    pairs = published_pairs(harmful, NORMAL if NORMAL in labels else None, OTHER if OTHER in labels else None)
    if not pairs:
        return []
    found = compare(
        {name: getattr(shapes, name) for name in MEASURES}, shapes.size, attributes, pairs, seed=seed,
        n_permutations=FEW_PERMUTATIONS if len(shapes.size) > MANY else PERMUTATIONS,
    )  # fmt: skip
    return [_contrast(rule, one, min_cell) for one in found]


def _contrast(rule: str, one: Comparison, min_cell: int) -> Contrast:
    small = 0 < one.n_first < min_cell or 0 < one.n_second < min_cell
    base = Contrast(
        rule=rule, measure=one.measure, first=one.first, second=one.second,
        n_first=cell(one.n_first, min_cell), n_second=cell(one.n_second, min_cell),
        reason="not shown: a side has fewer cascades than the smallest cell" if small else one.reason,
    )  # fmt: skip
    if small or one.ranks is None or one.matched is None or one.binned is None:
        return base
    return base.model_copy(
        update={
            "published_p": None if one.weighted is None else one.weighted.p,
            "ranks_p": one.ranks.p,
            "ranks_holm": one.ranks_holm,
            "delta": _ranged(one.delta),
            "matched_delta": _ranged(one.matched.delta),
            "matched_holm": one.matched.holm,
            "binned_delta": _ranged(one.binned.delta),
            "binned_holm": one.binned.holm,
        }
    )


def _completed(found: TreeEstimates, min_cell: int) -> Completed:
    known = np.isfinite(found.b)
    n = int(known.sum())
    if n < min_cell:
        return Completed(
            p=found.p, n=cell(n, min_cell), reachable=None, identified=None, b=None, h=None, size=None
        )
    good = found.identified
    medians = {
        name: float(np.median(getattr(found, name)[good])) if good.sum() >= min_cell else None
        for name in ("b", "h", "size")
    }
    return Completed(
        p=found.p, n=n, reachable=share(float(found.reachable[known].mean()), n, min_cell),
        identified=share(float(good[known].mean()), n, min_cell),
        **medians,
    )  # fmt: skip


def _counters(rule: str, shapes: Shapes, attributes: Attributes, min_cell: int, seed: int) -> Counters:
    found = check_counters(shapes.depth, attributes.forwarding, seed=seed)
    if found.n < min_cell:
        return Counters(
            rule=rule, n=cell(found.n, min_cell), spearman=Ranged(), kendall=Ranged(), below=Ranged()
        )
    spearman, kendall, below = (
        _ranged(rate) or Ranged() for rate in (found.spearman, found.kendall, found.below)
    )
    if share(found.below.value, found.n, min_cell) is None:
        below = Ranged()
    return Counters(rule=rule, n=found.n, spearman=spearman, kendall=kendall, below=below)


def _regressed(one: Regression, min_cell: int) -> Regressed:
    left_out = {why: n for why, n in one.left_out.items() if n == 0 or n >= min_cell}
    if one.n < min_cell:
        reason = one.reason or "not shown: fewer cascades than the smallest cell"
        return Regressed(measure=one.measure, n=cell(one.n, min_cell), left_out=left_out, reason=reason)
    terms = tuple(
        Term(
            name=term.name,
            value=Ranged(value=_number(term.estimate), low=_number(term.low), high=_number(term.high)),
            p=_number(term.p),
        )
        for term in one.terms
        if term.n >= min_cell
    )
    return Regressed(
        measure=one.measure, n=one.n, left_out=left_out, r_squared=one.r_squared, errors=one.errors,
        references=one.references, terms=terms, reason=one.reason,
    )  # fmt: skip


def _top(
    traced: Traced, by_rule: Mapping[str, Shapes], min_cell: int, secret: bytes
) -> tuple[TopCascade, ...]:
    cascades, attributes = traced.cascades, pooled(traced.attributes, min_cell)
    if len(cascades) < min_cell:
        return ()
    sizes = cascades.sizes
    order = [place for place in np.argsort(-sizes, kind="stable")[:TOP].tolist() if sizes[place] >= min_cell]
    drawn: Parents | None = None
    if order:
        drawn = read_parents(traced.parents, next(iter(by_rule)))[0]
    found = []
    for place in order:
        first, last = int(cascades.offsets[place]), int(cascades.offsets[place + 1])
        tree: tuple[int, ...] = ()
        if drawn is not None and last - first <= BIGGEST_TREE:
            tree = tuple(int(parent) - first if parent >= 0 else -1 for parent in drawn[first:last])
        ranges = [
            [float(getattr(shapes, name)[place]) for shapes in by_rule.values()]
            for name in ("depth", "virality")
        ]
        found.append(
            TopCascade(
                id=cascade_id(int(cascades.keys[place]), secret),
                label=str(attributes.labels[place]),
                modality=str(attributes.modalities[place]),
                groups=int(sizes[place]),
                hours=float(cascades.times[last - 1] - cascades.times[first]) / _HOUR,
                depth=(min(ranges[0]), max(ranges[0])),
                virality=_finite_range(ranges[1]),
                tree=tree,
            )
        )
    return tuple(found)


def _finite_range(values: Sequence[float]) -> tuple[float, float]:
    known = [value for value in values if math.isfinite(value)]
    return (min(known), max(known)) if known else (0.0, 0.0)


def cascade_id(key: int, secret: bytes) -> str:
    """What stands for a cascade outside the private part."""
    return keyed_hash("cascade", str(key), secret)


def _timeline(
    cascades: Cascades, attributes: Attributes, labels: Sequence[str], min_cell: int
) -> tuple[Span, ...]:
    if not len(cascades.times):
        return ()
    low, high = float(cascades.times.min()), float(cascades.times.max())
    if high <= low:
        return ()
    # Whole hours, so that no time of a message shows.
    step = math.ceil((high - low) / SPANS / _HOUR) * _HOUR
    first = math.floor(low / step) * step
    spans = ((cascades.times - first) // step).astype(np.int64)
    kinds = attributes.labels[cascades.owner]
    n_spans = int(spans.max()) + 1
    counts = {label: np.bincount(spans[kinds == label], minlength=n_spans) for label in labels}
    begun: dict[str, NDArray[np.int64]] = {}
    for label in labels:
        chosen = kinds == label
        pairs = np.unique(np.stack((spans[chosen], cascades.owner[chosen])), axis=1)
        begun[label] = np.bincount(pairs[0], minlength=n_spans)
    return tuple(
        Span(
            start=first + i * step,
            events={
                label: int(counts[label][i]) if begun[label][i] == 0 or begun[label][i] >= min_cell else None
                for label in labels
            },
        )
        for i in range(n_spans)
    )
