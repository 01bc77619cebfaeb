"""Reconstruction of Twitter15 against its released parents: `python benchmarks/trace_twitter15.py`.

What is seen are users and times; `twitter15.py` says how the released parents were repaired. Intervals come
from resampling whole cascades.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import cast, get_args

import numpy as np
from common import Json, needed_data_folder, rate_json, result_name, write_result
from numpy.typing import NDArray
from tables import trace_twitter15 as table_of_rules
from twitter15 import FILE, Choice, Repaired, repaired

from tocsin.core.stats import bootstrap_interval
from tocsin.trace.cascades import ROOT, Parents
from tocsin.trace.measures import Shapes, shapes
from tocsin.trace.reconstruct.earlier import starts_of
from tocsin.trace.reconstruct.netinf import Network, netinf
from tocsin.trace.reconstruct.rules import Rule, nearest, sampled, star

DRAWS = 10
UNIFORM_RATE = 1e-12
"""In 1 over minutes: all delays weigh alike."""

Floats = NDArray[np.float64]


class Truth:
    """The released parents, and what a reconstruction is compared with."""

    def __init__(self, released: Repaired) -> None:
        self.cascades, self.parents = released.cascades, released.parents
        self.has_parent = self.parents != ROOT
        self.deep = self.has_parent & (self.parents != starts_of(self.cascades))
        self.shapes = shapes(self.cascades, self.parents)

    def _sums(self, events: NDArray[np.bool_]) -> Floats:
        """Events that are meant, by cascade."""
        found = np.bincount(self.cascades.owner, weights=events, minlength=len(self.cascades))
        return found.astype(np.float64)

    def figures(self, draws: Sequence[Parents]) -> Json:
        """Figures of one reconstruction, or means over several draws, with intervals over cascades."""
        right = [found == self.parents for found in draws]
        made: list[Shapes] = [shapes(self.cascades, found) for found in draws]
        depth = np.array([one.depth - self.shapes.depth for one in made], np.float64)
        virality = np.array([one.virality - self.shapes.virality for one in made])
        result: Json = {
            "parent_accuracy": _share(
                [self._sums(one & self.has_parent) for one in right], self._sums(self.has_parent)
            ),
            "parent_accuracy_not_source": _share(
                [self._sums(one & self.deep) for one in right], self._sums(self.deep)
            ),
        }
        for name, error in (("depth", depth), ("virality", virality)):
            result[f"{name}_absolute_error"] = _mean(np.abs(error).mean(axis=0))
            result[f"{name}_signed_error"] = _mean(error.mean(axis=0))
            result[f"{name}_signed_error_by_draw"] = sorted(error.mean(axis=1).tolist())
        return result


def _share(hits: Sequence[Floats], total: Floats) -> Json:
    """Share of events, from sums by cascade: events of one cascade are drawn together."""

    def ratio(some: Floats, of: Floats) -> float:
        return float(some.sum() / of.sum())

    return rate_json(bootstrap_interval(ratio, np.mean(hits, axis=0), total))


def _mean(values: Floats) -> Json:
    return rate_json(bootstrap_interval(np.mean, values))


def of_network(found: Network, truth: Truth) -> Json:
    """What the edges of a network changed, beside the nearest parents it starts from."""
    before = nearest(truth.cascades)
    moved = truth.has_parent & (found.parents != before)
    return {
        "edges": len(found.source),
        "stopped": found.stopped,
        "rate_per_minute": found.rate,
        "events_moved": int(moved.sum()),
        "right_before_among_moved": int((before == truth.parents)[moved].sum()),
        "right_after_among_moved": int((found.parents == truth.parents)[moved].sum()),
        "from_the_source_among_moved": int((moved & ~truth.deep).sum()),
    }


def by_choice(path: Path, limit: int | None) -> Json:
    """Accuracy of star and nearest under each way to choose among several released parents."""
    rules: dict[str, Rule] = {"star": star, "nearest": nearest}
    found: Json = {}
    for choice in cast("tuple[Choice, ...]", get_args(Choice)):
        released = repaired(path, choice, limit)
        has_parent = released.parents != ROOT
        found[choice] = {
            name: float((rule(released.cascades) == released.parents)[has_parent].mean())
            for name, rule in rules.items()
        }
    return found


def main() -> None:
    """Measure and write `benchmarks/results/trace_twitter15.json`."""
    parser = argparse.ArgumentParser(description="Reconstruction of Twitter15 by every rule.")
    parser.add_argument("--small", action="store_true", help="a trial with the first 100 cascades")
    asked = parser.parse_args()
    path, limit = needed_data_folder() / FILE, 100 if asked.small else None
    released = repaired(path, limit=limit)
    truth = Truth(released)
    cascades = truth.cascades
    network = netinf(cascades)
    draw: dict[str, Callable[..., Parents]] = {
        "sampled": sampled,
        "sampled, all delays alike": partial(sampled, rate=UNIFORM_RATE),
    }
    rules: dict[str, list[Parents]] = {
        "star": [star(cascades)],
        "nearest": [nearest(cascades)],
        "NETINF": [network.parents],
        **{name: [rule(cascades, seed=seed) for seed in range(DRAWS)] for name, rule in draw.items()},
    }
    result: Json = {
        "cascades": len(cascades),
        "events": len(cascades.nodes),
        "nodes": len(cascades.names),
        "events_with_parent": int(truth.has_parent.sum()),
        "events_whose_parent_is_the_source": int((truth.has_parent & ~truth.deep).sum()),
        "repairs": dict(released.repairs),
        "released": {
            "depth": _mean(truth.shapes.depth.astype(np.float64)),
            "virality": _mean(truth.shapes.virality),
        },
        "draws": DRAWS,
        "rules": {name: truth.figures(draws) for name, draws in rules.items()},
        "network": of_network(network, truth),
        "accuracy_by_choice_of_parent": by_choice(path, limit),
    }
    write_result(result_name("trace_twitter15", small=asked.small), result)
    print(table_of_rules(result))


if __name__ == "__main__":
    main()
