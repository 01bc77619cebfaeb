"""Complete-cascade estimates: published figures, closed forms, and sampling of a known tree."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tocsin.core.errors import UsageError
from tocsin.trace.cascades import ROOT, Cascades
from tocsin.trace.estimates.complete import complete_size, influenced_population
from tocsin.trace.estimates.dags import (
    dag_moments,
    estimate_dags_as_published,
    expected_edges,
    expected_out_degree_as_published,
)
from tocsin.trace.estimates.trees import (
    estimate_trees,
    expected,
    height_over_starts,
    solve,
    solve_as_published,
    sweep_trees,
)
from tocsin.trace.measures import Shapes, shapes


def shape(*, size: int, edges: int, out_degree: float) -> Shapes:
    one = np.ones(1, np.int64)
    return Shapes(size * one, (size - edges) * one, one, one, np.ones(1), np.array([out_degree]))


@pytest.mark.parametrize(
    ("n", "o", "b", "h"), [(5, 1.1, 4.811, 2.785), (10, 1.2, 8.406, 2.429), (2, 1.0, 1.1, 15.886)]
)
def test_the_closed_form_gives_the_known_solutions(n: float, o: float, b: float, h: float) -> None:
    found = solve([n], [o], 0.05)
    assert found.b[0] == pytest.approx(b, abs=5e-4)
    assert found.h[0] == pytest.approx(h, abs=5e-4)


@pytest.mark.parametrize(
    ("n", "o", "start", "b", "h"),
    [
        (2, 1.0, (1.5, 4), 2.09, 4.15),
        (2, 1.0, (1.5, 5), 1.77, 5.05),
        (2, 1.0, (1.5, 10), 1.34, 8.22),
        (50, 1.2, (1.5, 4), 3.64, 5.10),
        (50, 1.2, (1.5, 5), 3.39, 5.37),
        (50, 1.2, (1.5, 10), 1.83, 10.14),
    ],
)
def test_the_published_optimiser_stops_near_where_it_starts(
    n: float, o: float, start: tuple[float, float], b: float, h: float
) -> None:
    found = solve_as_published([n], [o], 0.05, start)
    assert found.b[0] == pytest.approx(b, abs=0.05)
    assert found.h[0] == pytest.approx(h, abs=0.05)


def test_heights_over_starts_span_what_the_starts_gave() -> None:
    low, high = height_over_starts([2, 50, 2], [1.0, 1.2, 1.0], 0.05)
    assert low == pytest.approx([4.15, 5.10, 4.15], abs=0.05)
    assert high == pytest.approx([8.22, 10.14, 8.22], abs=0.05)


@settings(max_examples=60)
@given(
    st.integers(2, 500), st.floats(0, 1), st.sampled_from([0.02, 0.05, 0.3, 0.9]),
    st.sampled_from([(1.5, 4.0), (3.0, 8.0)]),
)  # fmt: skip
def test_the_closed_form_errs_no_more_than_the_optimiser(
    n: int, share: float, p: float, start: tuple[float, float]
) -> None:
    # From a path (o = 1) to a star (o = n - 1).
    o = (n - 1) ** share
    closed, published = solve([n], [o], p), solve_as_published([n], [o], p, start)
    assert closed.error[0] <= published.error[0] + 1e-7


def test_expected_moments_are_those_of_sampled_trees() -> None:
    # Balanced, b = 3, h = 7, nodes in breadth-first order, each seen with probability 0.05.
    nodes = int(complete_size(3, 7))
    parent = (np.arange(nodes) - 1) // 3
    seen = np.random.default_rng(3).random((400, nodes)) < 0.05
    sizes, degrees = [], []
    for one in seen:
        joined = np.flatnonzero(one[1:] & one[parent[1:]]) + 1
        sizes.append(one.sum())
        degrees.append(np.unique(parent[joined], return_counts=True)[1])
    n, o = expected(3, 7, 0.05)
    assert n == pytest.approx(164.0)
    assert o == pytest.approx(1.0517, abs=5e-5)
    # Standard error of the mean size: sqrt(3280 * 0.05 * 0.95 / 400) = 0.62.
    assert np.mean(sizes) == pytest.approx(n, abs=3 * 0.62)
    assert np.concatenate(degrees).mean() == pytest.approx(o, abs=0.015)


def test_a_path_and_a_node_seen_for_sure_are_limits() -> None:
    n, o = expected([1.0, 4.0], [5.0, 2.0], 1.0)
    assert n == pytest.approx([6, 21])
    assert o == pytest.approx([1, 4])


def test_intervals_cover_a_tree_that_the_model_describes() -> None:
    nodes, p = int(complete_size(3, 7)), 0.5
    parent = (np.arange(nodes) - 1) // 3
    parent[0] = ROOT
    seen = np.random.default_rng(5).random((100, nodes)) < p
    keys, events = np.nonzero(seen)
    cascades = Cascades.of(keys, np.char.zfill(events.astype(str), 5), events.astype(float))
    place = np.full(seen.shape, ROOT)
    place[keys, events] = np.arange(len(keys))
    parents = np.where(events > 0, place[keys, parent[events]], ROOT)
    found = estimate_trees(shapes(cascades, parents), p)
    assert np.mean((found.b_low <= 3) & (found.b_high >= 3)) >= 0.9
    assert np.mean((found.h_low <= 7) & (found.h_high >= 7)) >= 0.95
    assert np.mean((found.size_low <= nodes) & (found.size_high >= nodes)) >= 0.9
    assert found.identified.all()
    assert np.median(found.b) == pytest.approx(3, abs=0.1)


def test_a_pair_of_groups_identifies_no_height() -> None:
    found = estimate_trees(shape(size=2, edges=1, out_degree=1.0))
    assert found.reachable[0]
    assert not found.identified[0]
    assert found.h_low[0] < 3
    assert found.h_high[0] > 10
    assert (found.b_low[0], found.b_high[0]) == (1.1, 10)


def test_an_out_degree_beyond_the_model_is_out_of_reach() -> None:
    # A star of 30: o = 29, where the model can expect 1.2461 at most.
    found = estimate_trees(shape(size=30, edges=29, out_degree=29.0))
    assert not found.reachable[0]
    assert not found.identified[0]
    assert found.b[0] == 10
    assert found.error[0] == pytest.approx(29 - 1.2461, abs=1e-3)
    assert math.isnan(found.h_low[0])


def test_the_complete_size_is_size_over_share_with_a_score_interval() -> None:
    found = estimate_trees(shape(size=10, edges=9, out_degree=1.0), 0.5)
    assert found.size[0] == 20
    # (10 - S/2)^2 = 1.96^2 S / 4: S^2 - 43.8415 S + 400 = 0, S = 12.948 or 30.894.
    assert found.size_low[0] == pytest.approx(12.948, abs=0.01)
    assert found.size_high[0] == pytest.approx(30.894, abs=0.01)


def test_a_cascade_without_edges_has_no_estimate() -> None:
    found = estimate_trees(shape(size=3, edges=0, out_degree=math.nan))
    assert math.isnan(found.b[0])
    assert math.isnan(found.size[0])
    assert not found.reachable[0]
    assert len(estimate_trees(shapes(Cascades.of(*[np.array([])] * 3), np.zeros(0, np.int64))).b) == 0


def test_a_sweep_over_the_share_scales_the_size() -> None:
    found = sweep_trees(shape(size=10, edges=9, out_degree=1.2), [0.02, 0.05, 1.0])
    assert [one.p for one in found] == [0.02, 0.05, 1.0]
    assert [one.size[0] for one in found] == pytest.approx([500, 200, 10])
    with pytest.raises(UsageError, match="expected one share"):
        sweep_trees(shape(size=2, edges=1, out_degree=1.0), [])


@pytest.mark.parametrize("p", [0.0, -0.1, 1.01, math.nan])
def test_a_share_outside_its_range_is_named(p: float) -> None:
    one = shape(size=2, edges=1, out_degree=1.0)
    moments = dag_moments(Cascades.of(np.array([1, 1]), np.array(["a", "b"]), np.array([0.0, 1.0])))
    for use in (
        lambda: estimate_trees(one, p),
        lambda: solve([2.0], [1.0], p),
        lambda: solve_as_published([2.0], [1.0], p),
        lambda: expected(2, 2, p),
        lambda: estimate_dags_as_published(moments, p),
        lambda: expected_edges(2, 2, 1, p),
    ):
        with pytest.raises(UsageError, match=r"\(0, 1\]"):
            use()


def test_the_influenced_population_takes_the_median_group() -> None:
    assert influenced_population([10, 20], [3, 50, 80]).tolist() == [500, 1000]
    with pytest.raises(UsageError, match="sizes of groups"):
        influenced_population([10], [])
    with pytest.raises(UsageError, match="sizes of groups"):
        influenced_population([10], [0, 4])


def times(*values: float) -> Cascades:
    names = np.array([f"{place:03d}" for place in range(len(values))])
    return Cascades.of(np.ones(len(values), np.int64), names, np.array(values))


def test_the_complete_dag_is_a_function_of_its_size() -> None:
    found = dag_moments(times(*range(10)))
    assert (found.size[0], found.edges[0], found.out_degree[0]) == (10, 45, 5)


def test_events_at_one_time_are_not_joined() -> None:
    # Of 0, 1, 1, 2: edges 0 + 1 + 1 + 3, out of the three events that have a later one.
    found = dag_moments(times(0, 1, 1, 2))
    assert (found.edges[0], found.out_degree[0]) == (5, pytest.approx(5 / 3))
    assert math.isnan(dag_moments(times(1, 1)).out_degree[0])


@pytest.mark.parametrize("k", [1, 2, 3])
def test_expected_edges_count_ancestors_within_reach(k: int) -> None:
    # A node of level i has min(i, k) ancestors within k steps.
    b, h, p = 3, 5, 0.02
    counted = sum(b**i * min(i, k) for i in range(h + 1))
    assert expected_edges(b, h, k, p) == pytest.approx(p**2 * counted)
    if k == 1:
        assert expected_edges(b, h, 1, p) == pytest.approx(p**2 * (complete_size(b, h) - 1))


@pytest.mark.parametrize(("b", "h", "k"), [(2, 4, 1), (3, 5, 2), (1.5, 6, 3)])
def test_the_published_out_degree_is_a_multiple_of_the_edges(b: float, h: int, k: int) -> None:
    p = 0.02
    found = expected_out_degree_as_published(b, h, k, p)
    assert found == pytest.approx((1 - p) / p * expected_edges(b, h, k, p))
    assert (1 - p) / p == pytest.approx(49)


@pytest.mark.parametrize(("n", "residual"), [(10, 49.6), (30, 448.8)])
def test_the_dag_estimate_leaves_the_known_residual(n: int, residual: float) -> None:
    found = estimate_dags_as_published(dag_moments(times(*range(n))))
    assert found.residual[0] == pytest.approx(residual, abs=0.5)
    assert 1.1 <= found.b[0] <= 5
    assert 1 <= found.k[0] <= 3


def test_a_forwarding_counter_bounds_the_height_from_below() -> None:
    moments = dag_moments(times(*range(4)))
    free = estimate_dags_as_published(moments, forwarding=[None])
    bound = estimate_dags_as_published(moments, forwarding=[127])
    assert bound.h[0] >= 6
    assert free.h[0] < 6
    with pytest.raises(UsageError, match="one forwarding counter"):
        estimate_dags_as_published(moments, forwarding=[])
    assert math.isnan(estimate_dags_as_published(dag_moments(times(1, 1))).b[0])
