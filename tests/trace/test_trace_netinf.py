"""NETINF: closed forms, the published procedure step by step, and measured figures of a public example."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import norm

from random_cascades import Row, cascades_of, rows
from tocsin.core.errors import UsageError
from tocsin.trace.cascades import Cascades
from tocsin.trace.measures import shapes
from tocsin.trace.reconstruct import netinf as netinf_module
from tocsin.trace.reconstruct import pair_table as pair_table_module
from tocsin.trace.reconstruct.earlier import default_rate, earlier_end, earlier_pairs, starts_of
from tocsin.trace.reconstruct.netinf import Network, netinf
from tocsin.trace.reconstruct.netinf_file import read_netinf

MOST = math.log(0.5 / 1e-10)  # 22.3327


def edges_of(cascades: Cascades, found: Network) -> list[tuple[str, str]]:
    return [
        (cascades.names[source], cascades.names[target])
        for source, target in zip(found.source, found.target, strict=True)
    ]


# Toy: three times a -> b, once c -> d. Rate 1.
TOY = [(0, "a", 0.0), (0, "b", 2.0), (1, "a", 0.0), (1, "b", 5.0), (2, "a", 3.0), (2, "b", 4.0),
       (3, "c", 0.0), (3, "d", 1.0)]  # fmt: skip


def test_an_edge_gains_the_full_lead_in_each_cascade_it_improves_and_the_last_one_fails() -> None:
    cascades = cascades_of(TOY)
    found = netinf(cascades, rate=1.0)
    assert edges_of(cascades, found) == [("a", "b"), ("c", "d")]
    assert found.gain == pytest.approx([3 * MOST, MOST], abs=1e-9)
    assert found.support.tolist() == [3, 1]
    # Rises x, x, x, 0 have the mean 3x/4 and the deviation x/2, so z = (3x - 1) / (x/2 * 2) = 3 - 1/x;
    # one rise of x among four has the deviation x/2 too, so z = 1 - 1/x.
    assert found.p_value == pytest.approx([norm.sf(3 - 1 / MOST), norm.sf(1 - 1 / MOST)], rel=1e-9)
    assert found.stopped == "test"
    assert found.parents.tolist() == [-1, 0, -1, 2, -1, 4, -1, 6]


def test_the_failing_edge_can_be_left_out() -> None:
    cascades = cascades_of(TOY)
    found = netinf(cascades, rate=1.0, keep_failing=False)
    assert edges_of(cascades, found) == [("a", "b")]
    assert found.stopped == "test"


def test_a_limit_of_edges_stands_in_for_the_test() -> None:
    cascades = cascades_of(TOY)
    assert (len(netinf(cascades, edges=1).source), netinf(cascades, edges=1).stopped) == (1, "limit")
    everything = netinf(cascades, edges=9)
    assert (len(everything.source), everything.stopped) == (2, "no gain")


@pytest.mark.parametrize(("gap", "parent"), [(22.3, 0), (22.4, 1)])
def test_an_edge_beats_the_nearest_event_up_to_22_33_mean_delays(gap: float, parent: int) -> None:
    # In three cascades a -> b is plain; in the fourth x lies between, `gap` after a.
    plain = [(key, node, time) for key in (1, 2, 3) for node, time in (("a", 0.0), ("b", 1.0))]
    cascades = cascades_of([(0, "a", 0.0), (0, "x", gap), (0, "b", gap + 1), *plain])
    found = netinf(cascades, rate=1.0, edges=1)
    assert edges_of(cascades, found) == [("a", "b")]
    assert found.gain[0] == pytest.approx(3 * MOST + max(0.0, MOST - gap))
    assert found.parents[2] == parent


def test_a_single_cascade_leaves_nothing_to_test() -> None:
    found = netinf(cascades_of(TOY[:2]))
    assert found.p_value.tolist() == [1.0]
    assert found.parents.tolist() == [-1, 0]


@pytest.mark.parametrize("given_rows", [[], [(0, "a", 1.0)], [(0, "a", 1.0), (0, "b", 1.0)]])
def test_without_a_later_event_there_is_no_edge(given_rows: list[Row]) -> None:
    found = netinf(cascades_of(given_rows))
    assert (len(found.source), found.stopped) == (0, "no gain")
    assert math.isnan(found.rate)


def test_cascades_of_one_event_change_nothing() -> None:
    alone = [(key, "a", 0.0) for key in range(10, 30)]
    assert netinf(cascades_of([*TOY, *alone])).p_value.tolist() == netinf(cascades_of(TOY)).p_value.tolist()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"rate": 0.0}, "expected a rate above 0"),
        ({"cutoff": 0.0}, "expected a cutoff between 0 and 1"),
        ({"cutoff": 1.0}, "expected a cutoff between 0 and 1"),
        ({"edges": 0}, "expected 1 edge or more"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, float], expected: str) -> None:
    with pytest.raises(UsageError, match=expected):
        netinf(cascades_of(TOY), **settings)  # type: ignore[arg-type]


class Plain:
    """The published procedure, event by event, with densities as published."""

    def __init__(self, cascades: Cascades, rate: float) -> None:
        self.cascades, self.rate = cascades, rate
        times, owner = cascades.times.tolist(), cascades.owner.tolist()
        self.count = int((cascades.sizes > 1).sum())
        self.parent: dict[int, int] = {}
        self.score: dict[int, float] = {}
        self.pairs: dict[tuple[int, int], list[tuple[int, int]]] = {}
        for child in range(len(times)):
            for parent in range(child):
                if owner[parent] != owner[child] or times[parent] >= times[child]:
                    continue
                pair = (int(cascades.nodes[parent]), int(cascades.nodes[child]))
                self.pairs.setdefault(pair, []).append((child, parent))
                score = self.weight(child, parent, math.log(1e-10))
                if score > self.score.get(child, -math.inf):
                    self.score[child], self.parent[child] = score, parent

    def weight(self, child: int, parent: int, log_pass: float) -> float:
        delay = float(self.cascades.times[child] - self.cascades.times[parent])
        return log_pass + math.log(self.rate) - self.rate * delay

    def rises(self, pair: tuple[int, int]) -> list[tuple[int, int, float]]:
        found = []
        for child, parent in self.pairs[pair]:
            rise = self.weight(child, parent, math.log(0.5)) - self.score[child]
            if rise > 1e-9:
                found.append((child, parent, rise))
        return found

    def best(self) -> tuple[int, int] | None:
        """Largest gain; of equal ones the pair whose first improved event comes first."""
        scored = [
            (-round(sum(rise for *_, rise in rises), 6), rises[0][0], rises[0][1], pair)
            for pair in self.pairs
            if (rises := self.rises(pair))
        ]
        return min(scored)[3] if scored else None

    def add(self, pair: tuple[int, int]) -> tuple[float, int, float]:
        rises = self.rises(pair)
        by_cascade = dict.fromkeys(range(self.count), -1 / self.count)
        for place, (child, parent, rise) in enumerate(rises):
            by_cascade[place] += rise
            self.score[child] += rise
            self.parent[child] = parent
        values = np.array(list(by_cascade.values()))
        gain = sum(rise for *_, rise in rises)
        if self.count == 1 or values.std(ddof=1) < 1e-9:
            return gain, len(rises), 1.0 if self.count == 1 or values.sum() <= 0 else 0.0
        z = values.sum() / (values.std(ddof=1) * math.sqrt(self.count))
        return gain, len(rises), float(norm.sf(z))


def run_plain(
    cascades: Cascades, rate: float | None, edges: int | None
) -> tuple[list[tuple[int, int]], NDArray[np.float64], list[int]]:
    """Edges, rows of gain, support and p-value, and parents."""
    plain = Plain(cascades, default_rate(cascades) if rate is None else rate)
    chosen: list[tuple[int, int]] = []
    figures: list[tuple[float, int, float]] = []
    while (pair := plain.best()) is not None and len(chosen) != edges:
        chosen.append(pair)
        figures.append(plain.add(pair))
        if edges is None and figures[-1][2] >= 0.05:
            break
    parents = [plain.parent.get(place, -1) for place in range(len(cascades.nodes))]
    return chosen, np.array(figures).reshape(-1, 3), parents


many_rows = st.lists(rows(largest=5), min_size=1, max_size=4).map(
    lambda parts: [
        (key + 100 * place, node, time) for place, part in enumerate(parts) for key, node, time in part
    ]
)


# At a rate of 6 an edge over 4 units of time or more is out of reach.
@given(given_rows=many_rows, rate=st.sampled_from([None, 6.0]), edges=st.sampled_from([None, 1, 6, 40]))
def test_the_search_equals_the_published_procedure(
    given_rows: list[Row], rate: float | None, edges: int | None
) -> None:
    cascades = cascades_of(given_rows)
    chosen, figures, parents = run_plain(cascades, rate, edges)
    found = netinf(cascades, rate=rate, edges=edges)
    assert list(zip(found.source.tolist(), found.target.tolist(), strict=True)) == chosen
    assert found.gain == pytest.approx(figures[:, 0], abs=1e-9)
    assert found.support.tolist() == figures[:, 1].tolist()
    assert found.p_value == pytest.approx(figures[:, 2], abs=1e-9)
    assert found.parents.tolist() == parents


@given(given_rows=many_rows, least=st.integers(1, 6), block=st.integers(1, 30))
def test_what_is_left_out_at_first_and_sizes_of_blocks_decide_nothing(
    given_rows: list[Row], least: int, block: int
) -> None:
    cascades = cascades_of(given_rows)
    expected = netinf(cascades)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(netinf_module, "_FIRST_LEAST", least)
        patch.setattr(pair_table_module, "BLOCK", block)
        found = netinf(cascades)
    assert found.source.tolist() == expected.source.tolist()
    assert found.target.tolist() == expected.target.tolist()
    assert found.parents.tolist() == expected.parents.tolist()


@given(given_rows=many_rows)
def test_gains_fall_and_no_edge_comes_twice(given_rows: list[Row]) -> None:
    cascades = cascades_of(given_rows)
    found = netinf(cascades, edges=100)
    assert (np.diff(found.gain) <= 1e-9).all()
    assert len(set(edges_of(cascades, found))) == len(found.source)


@pytest.fixture(scope="module")
def example() -> Cascades:
    folder = os.environ.get("TOCSIN_DATA")
    if not folder:
        pytest.skip("TOCSIN_DATA names no folder of evaluation data")
    return read_netinf(Path(folder) / "netinf_example" / "example-cascades.txt")


def test_the_public_example_has_its_known_counts(example: Cascades) -> None:
    assert (len(example), len(example.nodes), len(example.names)) == (54, 406, 31)
    everything = np.arange(len(example.nodes))
    pairs = next(earlier_pairs(starts_of(example), earlier_end(example), everything))
    assert len(np.unique(example.nodes[pairs.parent] * 31 + example.nodes[pairs.child])) == 543
    assert default_rate(example) == pytest.approx(0.463694, abs=5e-7)


def test_the_public_example_gives_its_first_five_edges(example: Cascades) -> None:
    found = netinf(example, rate=1.0, edges=5)
    assert edges_of(example, found) == [("23", "0"), ("9", "5"), ("0", "31"), ("5", "14"), ("5", "3")]
    assert found.support.tolist() == [21, 21, 20, 16, 15]
    assert found.gain == pytest.approx([465.126, 443.849, 433.393, 346.109, 329.679], abs=5e-4)
    # Half a unit of the third digit.
    assert found.p_value == pytest.approx([3.44e-9, 4.18e-9, 1.31e-8, 1.27e-6, 3.41e-6], rel=4e-3)


def test_the_public_example_gives_38_edges_and_its_trees(example: Cascades) -> None:
    found = netinf(example)
    assert (len(found.source), found.stopped) == (38, "test")
    assert edges_of(example, found)[-1] == ("18", "26")
    assert found.support[-1] == 2
    assert found.p_value[-1] == pytest.approx(0.0814, abs=5e-5)
    assert (found.p_value[:-1] < 0.05).all()
    trees = shapes(example, found.parents)
    assert float(trees.depth.mean()) == pytest.approx(4.333, abs=5e-4)
    assert float(trees.breadth.mean()) == pytest.approx(1.981, abs=5e-4)
