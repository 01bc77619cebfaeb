"""Shapes of cascades: closed forms, and networkx as the reference."""

from __future__ import annotations

import math

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.core.errors import UsageError
from tocsin.trace.cascades import ROOT, Cascades, Parents
from tocsin.trace.measures import ccdf, levels, shapes, subtree_sizes


def cascades_of(*sizes: int) -> Cascades:
    """Cascades of given sizes whose events come one second after another."""
    keys = np.repeat(np.arange(len(sizes)), sizes)
    places = np.concatenate([np.arange(size) for size in sizes]) if sizes else np.zeros(0, int)
    return Cascades.of(keys, np.array([f"{place:07d}" for place in places], str), places.astype(float))


def path(n: int) -> Parents:
    return np.arange(-1, n - 1)


def star(n: int) -> Parents:
    return np.array([ROOT, *[0] * (n - 1)])


@pytest.mark.parametrize("n", [2, 3, 4, 9, 50])
def test_a_path_and_a_star_have_their_closed_forms(n: int) -> None:
    line = shapes(cascades_of(n), path(n))
    assert (line.size[0], line.depth[0], line.breadth[0]) == (n, n - 1, 1)
    assert line.virality[0] == pytest.approx((n + 1) / 3, abs=1e-12)
    assert line.out_degree[0] == 1
    wheel = shapes(cascades_of(n), star(n))
    assert (wheel.depth[0], wheel.breadth[0]) == (1, n - 1)
    assert wheel.virality[0] == pytest.approx(2 - 2 / n, abs=1e-12)
    assert wheel.out_degree[0] == n - 1


def test_a_single_event_has_no_virality() -> None:
    found = shapes(cascades_of(1), np.array([ROOT]))
    assert (found.size[0], found.roots[0], found.depth[0], found.breadth[0]) == (1, 1, 0, 1)
    assert math.isnan(found.virality[0])
    assert math.isnan(found.out_degree[0])


def test_a_forest_counts_levels_over_all_trees_and_pairs_within_trees() -> None:
    # Trees 0 <- 2 <- 4 and 1 <- 3: levels hold 2, 2 and 1 events. Distances within trees are 1, 1, 2 and 1
    # over 3 + 1 pairs: 5 / 4.
    found = shapes(cascades_of(5), np.array([ROOT, ROOT, 0, 1, 2]))
    assert (found.roots[0], found.depth[0], found.breadth[0]) == (2, 2, 2)
    assert found.virality[0] == pytest.approx(1.25)


def test_no_cascades_have_no_shapes() -> None:
    found = shapes(cascades_of(), np.zeros(0, np.int64))
    assert len(found.size) == len(found.virality) == 0


@st.composite
def forests(draw: st.DrawFn) -> tuple[Cascades, Parents]:
    sizes = draw(st.lists(st.integers(1, 12), min_size=1, max_size=5))
    parents: list[int] = []
    for size in sizes:
        start = len(parents)
        parents += [
            ROOT if not place else draw(st.sampled_from([ROOT, *range(start, start + place)]))
            for place in range(size)
        ]
    return cascades_of(*sizes), np.array(parents)


@given(forests())
def test_shapes_agree_with_networkx(forest: tuple[Cascades, Parents]) -> None:
    cascades, parents = forest
    found = shapes(cascades, parents)
    for number, (start, end) in enumerate(zip(cascades.offsets, cascades.offsets[1:], strict=False)):
        graph = nx.DiGraph()
        graph.add_nodes_from(range(start, end))
        graph.add_edges_from((parents[e], e) for e in range(start, end) if parents[e] != ROOT)
        roots = [event for event in graph if graph.in_degree(event) == 0]
        layers: dict[int, int] = {}
        for root in roots:
            for distance in nx.single_source_shortest_path_length(graph, root).values():
                layers[distance] = layers.get(distance, 0) + 1
        assert found.size[number] == len(graph)
        assert found.roots[number] == len(roots)
        assert found.depth[number] == max(layers)
        assert found.breadth[number] == max(layers.values())
        lengths = [
            distance
            for source, reached in nx.all_pairs_shortest_path_length(graph.to_undirected())
            for target, distance in reached.items()
            if source != target
        ]
        degrees = [degree for _, degree in graph.out_degree() if degree]
        if lengths:
            assert found.virality[number] == pytest.approx(np.mean(lengths))
            assert found.out_degree[number] == pytest.approx(np.mean(degrees))
        else:
            assert math.isnan(found.virality[number])


@given(forests())
def test_depth_and_breadth_are_bounded_by_size(forest: tuple[Cascades, Parents]) -> None:
    found = shapes(*forest)
    assert (found.depth + found.roots <= found.size).all()
    single = found.roots == 1
    assert (found.breadth <= found.size - found.depth)[single].all()


def test_measures_of_one_cascade_do_not_depend_on_the_others() -> None:
    alone = [shapes(cascades_of(4), path(4)), shapes(cascades_of(3), star(3))]
    both = shapes(cascades_of(4, 3), np.concatenate([path(4), [ROOT, 4, 4]]))
    assert both.virality.tolist() == [alone[0].virality[0], alone[1].virality[0]]
    assert both.breadth.tolist() == [1, 2]


def test_a_long_path_takes_no_time_that_grows_with_its_square() -> None:
    n = 20_000
    parents = path(n)
    level = levels(parents)
    assert level[-1] == n - 1
    assert subtree_sizes(parents, level)[0] == n


@pytest.mark.parametrize(
    ("parents", "message"),
    [
        ([ROOT, 0], "one parent for each of 3 events"),
        ([ROOT, 2, 0], "lower places"),
        ([ROOT, 1, 0], "lower places"),
        ([ROOT, -2, 0], "lower places"),
    ],
)
def test_parents_that_do_not_fit_are_refused(parents: list[int], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        shapes(cascades_of(3), np.array(parents))


def test_a_parent_in_another_cascade_is_refused() -> None:
    with pytest.raises(UsageError, match="1 in another one"):
        shapes(cascades_of(2, 2), np.array([ROOT, 0, ROOT, 1]))


def test_a_ccdf_starts_at_one_and_counts_ties() -> None:
    found = ccdf([3, 1, 1, 2])
    assert found.values.tolist() == [1, 2, 3]
    assert found.shares.tolist() == [1.0, 0.5, 0.25]
    assert found.n == 4
    assert ccdf([]).n == 0


def test_a_ccdf_refuses_values_that_are_no_numbers() -> None:
    with pytest.raises(UsageError, match="1 others"):
        ccdf([1.0, math.nan])
