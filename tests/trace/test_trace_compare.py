"""Comparisons: the published test, its pseudo-replication, and tests inside strata of size."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from tocsin.core.errors import InputError, UsageError
from tocsin.trace.cascades import Cascades
from tocsin.trace.compare.attributes import Attributes
from tocsin.trace.compare.counters import check_counters
from tocsin.trace.compare.family import Pair, Side, compare, published_pairs
from tocsin.trace.compare.ranks import cliffs_delta, rank_sum, rank_sum_weighted_by_size
from tocsin.trace.compare.stratified import size_strata, stratified_test


def test_the_rank_test_has_the_published_settings() -> None:
    found = rank_sum([3, 4, 5, 6], [1, 2, 2, 3])
    assert found is not None
    assert found.u == 15.5
    assert found.p == pytest.approx(0.0204166, abs=5e-8)


@pytest.mark.parametrize(("x", "y"), [([], [1]), ([1], []), ([2, 2], [2])])
def test_a_rank_test_of_nothing_is_none_and_never_nan(x: list[int], y: list[int]) -> None:
    assert rank_sum(x, y) is None


def test_weighting_by_size_repeats_cascades_and_shrinks_p() -> None:
    x, y = [3, 4, 5, 6], [1, 2, 2, 5]
    plain = rank_sum(x, y)
    weighted = rank_sum_weighted_by_size(x, [10] * 4, y, [10] * 4)
    assert plain is not None
    assert weighted is not None
    repeated = rank_sum(np.repeat(x, 10), np.repeat(y, 10))
    assert weighted == repeated
    assert weighted.u == 100 * plain.u
    assert weighted.p < 1e-6 < plain.p
    with pytest.raises(UsageError, match="one size for each"):
        rank_sum_weighted_by_size(x, [1], y, [1] * 4)


def test_delta_counts_pairs_won_and_lost() -> None:
    # Of 16 pairs 15 are won, none lost, one tied.
    found = cliffs_delta([3, 4, 5, 6], [1, 2, 2, 3])
    assert found.value == pytest.approx(15 / 16)
    assert found.low < found.value < found.high <= 1
    assert math.isnan(cliffs_delta([], [1.0]).value)


def test_strata_hold_one_size_or_one_bin_of_sizes_and_modality() -> None:
    exact = size_strata([2, 3, 2, 9])
    assert exact[0] == exact[2]
    assert len(set(exact)) == 3
    # One bin for each doubling: 4 to 7, and 8 to 15.
    binned = size_strata([4, 7, 8, 4], ["chat", "chat", "chat", "image"], per_doubling=1)
    assert binned[0] == binned[1]
    assert len(set(binned)) == 3
    with pytest.raises(UsageError, match="sizes of 1 or more"):
        size_strata([0, 1])


def by_pairs(values: NDArray[np.float64], first: NDArray[np.bool_], strata: NDArray[np.int64]) -> float:
    """Van Elteren's delta over explicit pairs."""
    above = below = 0.0
    for stratum in np.unique(strata):
        inside = strata == stratum
        x, y = values[inside & first], values[inside & ~first]
        if len(x) and len(y):
            weight = 1 / (len(x) + len(y) + 1)
            above += weight * np.sign(x[:, None] - y[None]).sum()
            below += weight * len(x) * len(y)
    return above / below


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans(), st.integers(0, 3)), min_size=1, max_size=25))
def test_the_effect_is_that_of_pairs_inside_strata(rows: list[tuple[int, bool, int]]) -> None:
    values, first, strata = (np.array(column) for column in zip(*rows, strict=True))
    found = stratified_test(values, first, strata, n_permutations=9, n_resamples=20)
    shared = [s for s in set(strata.tolist()) if len(set(first[strata == s].tolist())) == 2]
    assert found.strata == len(shared)
    if not shared:
        assert found.reason == "no stratum holds both kinds"
        assert found.p is None
        assert found.delta is None
    else:
        assert found.delta is not None
        assert found.delta.value == pytest.approx(by_pairs(values.astype(float), first, strata))
        assert found.n_first + found.n_second == sum((strata == s).sum() for s in shared)


def test_p_is_the_share_of_permutations_inside_strata() -> None:
    values = np.array([1.0, 2, 3, 4, 5, 2, 7, 8, 4])
    first = np.array([0, 0, 1, 0, 1, 1, 0, 1, 1], bool)
    strata = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1])
    observed = abs(by_pairs(values, first, strata))
    extreme = total = 0
    for a in itertools.combinations(range(5), 2):
        for b in itertools.combinations(range(5, 9), 3):
            kinds = np.isin(np.arange(9), [*a, *b])
            extreme += abs(by_pairs(values, kinds, strata)) >= observed - 1e-12
            total += 1
    found = stratified_test(values, first, strata, n_permutations=20_000)
    assert found.p == pytest.approx(extreme / total, abs=0.012)


def test_a_difference_of_size_alone_vanishes_at_equal_size() -> None:
    generator = np.random.default_rng(7)
    first = np.arange(600) < 300
    sizes = np.where(first, generator.integers(8, 30, 600), generator.integers(2, 24, 600))
    depth = generator.binomial(sizes, 0.3)
    plain = rank_sum(depth[first], depth[~first])
    matched = stratified_test(depth, first, size_strata(sizes))
    assert plain is not None
    assert plain.p < 1e-6
    assert matched.p is not None
    assert matched.p > 0.05
    assert matched.delta is not None
    assert matched.delta.low < 0 < matched.delta.high


def test_a_difference_at_equal_size_is_found() -> None:
    generator = np.random.default_rng(8)
    first = np.arange(400) < 150
    sizes = generator.integers(4, 20, 400)
    depth = generator.binomial(sizes, np.where(first, 0.5, 0.3))
    matched = stratified_test(depth, first, size_strata(sizes))
    assert matched.p == 1 / 2000
    assert matched.delta is not None
    assert matched.delta.low > 0


def test_without_an_effect_p_is_rarely_small() -> None:
    generator = np.random.default_rng(99)
    small = 0
    for seed in range(400):
        sizes = generator.integers(2, 8, 60)
        depth = generator.binomial(sizes, 0.4)
        found = stratified_test(
            depth,
            generator.random(60) < 0.4,
            size_strata(sizes),
            n_permutations=199,
            n_resamples=2,
            seed=seed,
        )
        assert found.p is not None
        small += found.p <= 0.05
    # 20 are expected; more than 34 have a probability of 0.1 %.
    assert small <= 34


def test_values_that_do_not_differ_inside_strata_have_no_p() -> None:
    found = stratified_test([1, 1, 2, 2], [True, False, True, False], [0, 0, 1, 1])
    assert found.p is None
    assert found.reason == "values do not differ inside a stratum"
    with pytest.raises(UsageError, match="1 others"):
        stratified_test([math.nan], [True], [0])
    with pytest.raises(UsageError, match="one value, kind and stratum"):
        stratified_test([1.0, 2.0], [True], [0])


def attributes(n: int) -> Attributes:
    """Half misinfo and half other, counters from 0 to 127."""
    labels = ["misinfo", "other"] * (n // 2)
    return Attributes.of(labels, ["chat"] * n, np.resize([0, 3, 5, 127], n))


def test_all_published_comparisons_are_made() -> None:
    names = [(str(pair.first), str(pair.second)) for pair in published_pairs()]
    assert len(names) == 12
    assert ("hateful", "normal, forwarded 5+") in names
    assert names[-3:] == [("propaganda", "hateful"), ("propaganda", "misinfo"), ("hateful", "misinfo")]
    assert len(published_pairs(["a", "b"], normal=None, other=None)) == 1


def test_a_label_without_cascades_is_not_computable() -> None:
    generator = np.random.default_rng(1)
    sizes = generator.integers(2, 6, 40)
    found = compare({"depth": generator.binomial(sizes, 0.5)}, sizes, attributes(40), published_pairs())
    assert len(found) == 12
    computed = [one for one in found if not one.reason]
    assert [(one.first, one.second) for one in computed] == [("misinfo", "other")]
    assert computed[0].ranks is not None
    # One test alone is its own family.
    assert computed[0].ranks_holm == computed[0].ranks.p
    absent = next(one for one in found if one.first == "hateful" and one.second == "normal, forwarded 5+")
    assert absent.reason == "not computable: no cascade of hateful or normal, forwarded 5+"
    tests = (absent.ranks, absent.weighted, absent.matched, absent.binned, absent.delta, absent.ranks_holm)
    assert tests == (None,) * 6


def test_holm_corrects_over_measures_and_pairs() -> None:
    generator = np.random.default_rng(2)
    sizes = generator.integers(3, 6, 60)
    measures = {name: generator.binomial(sizes, 0.5).astype(float) for name in ("depth", "breadth")}
    measures["depth"][::2] += 1
    found = compare(measures, sizes, attributes(60), [Pair(Side("misinfo"), Side("other"))])
    assert [one.measure for one in found] == ["depth", "breadth"]
    least = min(found, key=lambda one: one.ranks.p if one.ranks else 1)
    assert least.ranks is not None
    assert least.ranks_holm == pytest.approx(2 * least.ranks.p)
    assert least.matched is not None
    assert least.matched.p is not None
    assert least.matched.holm == pytest.approx(2 * least.matched.p)


def test_cascades_without_a_value_are_left_out_and_counted() -> None:
    values = np.array([1.0, 2.0, math.nan, 3.0, 5.0, math.nan, 4.0, 6.0])
    pair = [Pair(Side("misinfo"), Side("other"))]
    found = compare({"virality": values}, [3] * 8, attributes(8), pair)[0]
    assert (found.n_first, found.n_second) == (3, 3)
    equal = compare({"depth": [1] * 8}, [3] * 8, attributes(8), pair)[0]
    assert equal.reason == "not computable: all values are equal"
    with pytest.raises(UsageError, match="expected 8 values of depth"):
        compare({"depth": [1]}, [3] * 8, attributes(8), pair)


def test_many_times_counts_as_five() -> None:
    found = attributes(8)
    assert found.forwarding.tolist() == [0, 3, 5, 5] * 2
    assert Side("other", 5).of(found).tolist() == [False, False, False, True] * 2


def test_attributes_that_cannot_be_are_named_by_their_row() -> None:
    with pytest.raises(InputError, match=r"row 2: expected a label of misinfo, other \(1 rows"):
        Attributes.of(["misinfo", "rumour", "other"], known=["misinfo", "other"])
    with pytest.raises(InputError, match=r"row 1: expected a forwarding counter"):
        Attributes.of(["misinfo"], forwarding=[-1])
    with pytest.raises(InputError, match="2 labels, 2 modalities and 1 counters"):
        Attributes.of(["a", "b"], forwarding=[1])


def test_attributes_are_read_in_the_order_of_the_cascades(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "cascades.parquet"
    table = {
        "cascade": [9, 4, 7],
        "label": ["x", "y", "z"],
        "modality": ["chat"] * 3,
        "forwarding_max": [5, None, 1],
    }
    pq.write_table(pa.table(table), path)
    cascades = Cascades.of(np.array([9, 4]), np.array(["a", "a"]), np.array([0.0, 1.0]))
    found = Attributes.read(path, cascades)
    assert found.labels.tolist() == ["y", "x"]
    assert math.isnan(found.forwarding[0])
    other = Cascades.of(np.array([5]), np.array(["a"]), np.array([0.0]))
    with pytest.raises(InputError, match="none for 1"):
        Attributes.read(path, other)


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=2, max_size=30))
def test_counters_correlate_as_scipy_says(rows: list[tuple[int, int]]) -> None:
    depth, hops = (np.array(column) for column in zip(*rows, strict=True))
    found = check_counters(depth, hops, n_resamples=10)
    assert found.below.value == np.mean(depth < hops)
    if len(set(depth)) > 1 and len(set(hops)) > 1:
        assert found.spearman.value == pytest.approx(stats.spearmanr(depth, hops).statistic)
        assert found.kendall.value == pytest.approx(stats.kendalltau(depth, hops).statistic)
    else:
        assert math.isnan(found.spearman.value)
        assert math.isnan(found.kendall.value)


def test_counters_that_are_unknown_are_left_out() -> None:
    found = check_counters([1, 2, 3, 4, 5, 1], [1, 2, 3, 4, 5, math.nan])
    assert found.n == 5
    assert found.spearman.value == pytest.approx(1)
    assert found.below.value == 0
    assert found.below.high < 0.5
    none = check_counters([1], [math.nan])
    assert none.n == 0
    assert math.isnan(none.spearman.value)
    with pytest.raises(UsageError, match="counter for each depth"):
        check_counters([1, 2], [1])


def test_counters_of_deep_cascades_have_an_interval_above_zero() -> None:
    generator = np.random.default_rng(4)
    depth = generator.integers(1, 9, 300)
    found = check_counters(depth, np.minimum(generator.binomial(depth, 0.8), 5))
    assert 0.5 < found.spearman.low < found.spearman.value < found.spearman.high < 1
    assert found.kendall.value < found.spearman.value
