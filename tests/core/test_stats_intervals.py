"""Rates: Wilson's interval, with and without shared sources, and corrected prevalence."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from tocsin.core.errors import UsageError
from tocsin.core.stats import Rate, rogan_gladen, wilson, wilson_clustered

counts = st.integers(1, 5_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def test_wilson_of_eight_in_ten_equals_the_hand_computation() -> None:
    # z = 1.959964, z2 = 3.841459; centre = (0.8 + 3.841459 / 20) / 1.3841459 = 0.992073 / 1.3841459
    # = 0.716740; half = 1.959964 * sqrt(0.16 / 10 + 3.841459 / 400) / 1.3841459 = 0.226578
    rate = wilson(8, 10)
    assert rate.value == 0.8
    assert (rate.low, rate.high) == pytest.approx((0.490162, 0.943318), abs=1e-6)


@given(counts)
def test_wilson_equals_scipy_and_holds_its_estimate(count: tuple[int, int]) -> None:
    k, n = count
    rate = wilson(k, n)
    peer = binomtest(k, n).proportion_ci(method="wilson")
    assert (rate.low, rate.high) == pytest.approx((peer.low, peer.high), abs=1e-12)
    assert 0 <= rate.low <= rate.value <= rate.high <= 1


def test_a_rate_of_no_items_is_unknown_and_its_interval_holds_everything() -> None:
    rate = wilson(0, 0)
    assert math.isnan(rate.value)
    assert (rate.low, rate.high, rate.n) == (0.0, 1.0, 0)


@pytest.mark.parametrize(("k", "n"), [(3, 2), (-1, 2), (1, 0)])
def test_more_hits_than_items_are_refused(k: int, n: int) -> None:
    with pytest.raises(UsageError, match="expected 0 <= k <= n"):
        wilson(k, n)


def test_items_of_their_own_group_give_the_plain_interval() -> None:
    hits = [True, False, True, True]
    assert wilson_clustered(hits, ["a", "b", "c", "d"]) == wilson(3, 4)


def test_copies_of_items_add_no_certainty() -> None:
    # Every item ten times: the effective number is that of the groups, but for the m / (m - 1) of a variance.
    hits = [True, False, True, False, True, False, True, True]
    copied = wilson_clustered(
        [hit for hit in hits for _ in range(10)], [i for i in range(8) for _ in range(10)]
    )
    plain = wilson(5, 8)
    assert copied.value == plain.value
    assert copied.n == 80
    # effective n = n * p * (1 - p) / variance ratio = 8 * 7 / 8 = 7, so a little wider than 8 items.
    seven = wilson(5 / 8 * 7, 7)
    assert (copied.low, copied.high) == pytest.approx((seven.low, seven.high), abs=1e-12)


def test_where_all_items_agree_each_group_counts_once() -> None:
    rate = wilson_clustered([True] * 30, [i // 10 for i in range(30)])
    assert rate.low == pytest.approx(wilson(3, 3).low, abs=1e-12)
    assert rate.high == 1.0


def test_clustered_intervals_cover_the_truth_where_plain_ones_do_not() -> None:
    # 60 groups of 10 items; a group is wholly right with chance 0.7, else wholly wrong.
    generator = np.random.default_rng(0)
    clustered = plain = 0
    for _ in range(400):
        hits = np.repeat(generator.random(60) < 0.7, 10).tolist()
        one, other = wilson_clustered(hits, [i // 10 for i in range(600)]), wilson_clustered(hits)
        clustered += one.low <= 0.7 <= one.high
        plain += other.low <= 0.7 <= other.high
    assert clustered / 400 > 0.92
    assert plain / 400 < 0.6


def test_corrected_prevalence_equals_the_hand_computation() -> None:
    # (0.3 + 0.8 - 1) / (0.9 + 0.8 - 1) = 0.1 / 0.7 = 0.142857
    rate = rogan_gladen(30, 100, wilson(180, 200), wilson(160, 200))
    assert rate.value == pytest.approx(1 / 7, abs=1e-12)
    assert rate.note == ""
    # Lang and Reiczigel, equations 6 to 17, by hand: z2 = 3.841459; n' = 103.841459;
    # AP' = (30 + 1.920729) / n' = 0.307399; Se' = 181 / 202 = 0.896040; Sp' = 161 / 202 = 0.797030;
    # P' = (AP' + Sp' - 1) / 0.693069 = 0.104429 / 0.693069 = 0.150676;
    # vSe = 0.896040 * 0.103960 / 202 = 0.000461150; vSp = 0.797030 * 0.202970 / 202 = 0.000800862;
    # dP = 2 * 3.841459 * (0.150676 * vSe - 0.849324 * vSp) = -0.004692;
    # variance = (0.307399 * 0.692601 / n' + P'^2 * vSe + (1 - P')^2 * vSp) / 0.693069^2
    # = (0.002050 + 0.000010 + 0.000578) / 0.480345 = 0.005493; half = 1.959964 * 0.074114 = 0.145261;
    # bounds 0.150676 - 0.004692 -+ 0.145261.
    assert (rate.low, rate.high) == pytest.approx((0.000723, 0.291245), abs=2e-6)


def test_a_nearly_perfect_detector_on_endless_controls_leaves_the_plain_rate() -> None:
    exact = Rate(1.0, 1.0, 1.0, 10**9)
    rate = rogan_gladen(30, 100, exact, exact)
    assert rate.value == pytest.approx(0.3)
    # What is left is Agresti and Coull's: 0.307399 +- 1.959964 * sqrt(0.307399 * 0.692601 / 103.841459)
    assert (rate.low, rate.high) == pytest.approx((0.218654, 0.396144), abs=1e-5)


def test_fewer_controls_widen_the_interval() -> None:
    few = rogan_gladen(300, 1_000, wilson(18, 20), wilson(18, 20))
    many = rogan_gladen(300, 1_000, wilson(1_800, 2_000), wilson(1_800, 2_000))
    assert few.high - few.low > 2 * (many.high - many.low)


def test_corrected_intervals_cover_the_true_prevalence() -> None:
    generator = np.random.default_rng(1)
    truth, se, sp = 0.2, 0.8, 0.9
    covered = 0
    for _ in range(500):
        flagged = int(generator.binomial(300, truth * se + (1 - truth) * (1 - sp)))
        sensitivity = wilson(int(generator.binomial(80, se)), 80)
        specificity = wilson(int(generator.binomial(80, sp)), 80)
        rate = rogan_gladen(flagged, 300, sensitivity, specificity)
        covered += rate.low <= truth <= rate.high
    assert covered / 500 > 0.92


def test_fewer_flags_than_false_alarms_alone_are_clipped_with_a_note() -> None:
    rate = rogan_gladen(1, 100, wilson(90, 100), wilson(90, 100))
    assert rate.value == 0.0
    assert rate.low == 0.0
    assert "fewer" in rate.note


@given(counts, counts, counts)
def test_corrected_prevalence_stays_in_range_and_inside_its_interval(
    flagged: tuple[int, int], positives: tuple[int, int], negatives: tuple[int, int]
) -> None:
    sensitivity, specificity = wilson(*positives), wilson(*negatives)
    if sensitivity.value + specificity.value <= 1:
        with pytest.raises(UsageError, match="better than chance"):
            rogan_gladen(*flagged, sensitivity, specificity)
        return
    rate = rogan_gladen(*flagged, sensitivity, specificity)
    assert 0 <= rate.low <= rate.value <= rate.high <= 1


def test_a_detector_measured_on_nothing_corrects_nothing() -> None:
    with pytest.raises(UsageError, match="sensitivity from 0 to 1 measured on items"):
        rogan_gladen(1, 10, wilson(0, 0), wilson(9, 10))
