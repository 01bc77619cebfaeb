"""Twitter15 by label, as published and as it should be: `python benchmarks/trace_twitter15_labels.py`.

Shapes of the released cascades (`twitter15.py` says how they were repaired), and of those that NETINF makes
of times alone, are compared between labels: with the published test on rows repeated by size, with the same
test on one row for each cascade, among cascades of one size, and inside bins of size.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
from common import Json, needed_data_folder, rate_json, result_name, write_result
from numpy.typing import NDArray
from tables import trace_twitter15_labels as table_of_labels
from twitter15 import FILE, read_twitter15

from tocsin.trace.cascades import Parents
from tocsin.trace.compare.attributes import Attributes
from tocsin.trace.compare.family import Comparison, Pair, Side, compare
from tocsin.trace.compare.stratified import StratifiedTest
from tocsin.trace.estimates.trees import estimate_trees, solve_as_published, sweep_trees
from tocsin.trace.measures import Shapes, shapes
from tocsin.trace.reconstruct.netinf import netinf

RUMOURS = ("false", "unverified", "true")
ORDINARY = "non-rumor"
ALPHA = 0.05


def pairs() -> list[Pair]:
    """Each rumour label against ordinary news, false and unverified against true, and against each other."""
    named = [(label, ORDINARY) for label in RUMOURS]
    named += [("false", "true"), ("unverified", "true"), ("false", "unverified")]
    return [Pair(Side(first), Side(second)) for first, second in named]


def stratified(found: StratifiedTest | None) -> Json | None:
    """A test inside strata as JSON."""
    if found is None:
        return None
    return {**asdict(found), "delta": rate_json(found.delta) if found.delta else None}


def comparison(found: Comparison) -> Json:
    """One comparison as JSON."""
    return {
        "measure": found.measure, "first": found.first, "second": found.second,
        "n_first": found.n_first, "n_second": found.n_second, "reason": found.reason,
        "weighted_p": found.weighted.p if found.weighted else None,
        "ranks_p": found.ranks.p if found.ranks else None,
        "ranks_holm": found.ranks_holm,
        "delta": rate_json(found.delta) if found.delta else None,
        "matched": stratified(found.matched),
        "binned": stratified(found.binned),
    }  # fmt: skip


def small(values: Sequence[float | None]) -> int:
    """How many of these p are under 5 %."""
    return sum(value is not None and value < ALPHA for value in values)


def counts(found: Sequence[Comparison]) -> Json:
    """How many comparisons each test calls significant."""
    tested = [one for one in found if not one.reason]
    matched = [one.matched for one in tested if one.matched and one.matched.p is not None]
    binned = [one.binned for one in tested if one.binned and one.binned.p is not None]
    return {
        "comparisons": len(found),
        "not computable": len(found) - len(tested),
        "weighted by size, one-sided": small([one.weighted.p for one in tested if one.weighted]),
        "one row for each cascade, one-sided": small([one.ranks.p for one in tested if one.ranks]),
        "the same, Holm": small([one.ranks_holm for one in tested]),
        "tested at one size": len(matched),
        "one size, two-sided": small([one.p for one in matched]),
        "one size, Holm": small([one.holm for one in matched]),
        "tested in bins of size": len(binned),
        "bins of size, two-sided": small([one.p for one in binned]),
        "bins of size, Holm": small([one.holm for one in binned]),
    }


def medians(found: Shapes, labels: NDArray[np.str_]) -> Json:
    """Median of each measure by label."""
    return {
        str(label): {
            "cascades": int((labels == label).sum()),
            **{
                name: float(np.median(getattr(found, name)[labels == label]))
                for name in ("size", "depth", "breadth", "virality", "out_degree")
            },
        }
        for label in np.unique(labels)
    }


def main() -> None:
    """Measure and write `benchmarks/results/trace_twitter15_labels.json`."""
    parser = argparse.ArgumentParser(description="Twitter15 by label.")
    parser.add_argument("--small", action="store_true", help="a trial with few permutations and no NETINF")
    asked = parser.parse_args()
    cascades, released, labels = read_twitter15(needed_data_folder() / FILE)
    attributes = Attributes.of(labels)
    rules: dict[str, Parents] = {"released": released}
    if not asked.small:
        rules["NETINF"] = netinf(cascades).parents
    result: Json = {"cascades": len(cascades), "events": len(cascades.nodes), "rules": {}}
    sections: Json = {}
    for name, parents in rules.items():
        made = shapes(cascades, parents)
        published = solve_as_published(made.size, made.out_degree)
        measures = {
            "depth": made.depth, "breadth": made.breadth, "virality": made.virality,
            "h as published": published.h,
        }  # fmt: skip
        found = compare(
            measures, made.size, attributes, pairs(), n_permutations=199 if asked.small else 9_999
        )
        sections[name] = {
            "medians": medians(made, labels),
            "counts": counts(found),
            "comparisons": [comparison(one) for one in found],
            "estimates": {
                "h as published, 5 % to 95 %": np.quantile(published.h, (0.05, 0.95)).tolist(),
                "spearman_of_h_and_size": _spearman(published.h, made.size),
                "error_as_published": float(np.median(published.error)),
                "error_of_the_closed_form": float(np.median(estimate_trees(made).error)),
                "by_share": [
                    {
                        "p": one.p,
                        "reachable": int(one.reachable.sum()),
                        "identified": int(one.identified.sum()),
                    }
                    for one in sweep_trees(made)
                ],
            },
        }
    result["rules"] = sections
    write_result(result_name("trace_twitter15_labels", small=asked.small), result)
    print(table_of_labels(result))


def _spearman(a: NDArray[np.float64], b: NDArray[np.int64]) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(a, b).statistic)


if __name__ == "__main__":
    main()
