"""Ranking metrics against hand computations and scikit-learn, and their bootstrap intervals."""

import math
import time
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from tocsin.core.errors import UsageError
from tocsin.core.stats import (
    auroc,
    auroc_interval,
    average_precision,
    bootstrap_interval,
    ranking_intervals,
    recall_at_fpr,
)

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
# Few distinct values, so that ties are common.
rows = st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=2, max_size=40).filter(
    lambda pairs: len({label for _, label in pairs}) == 2
)


def test_auroc_counts_pairs_and_half_of_ties() -> None:
    # Positives 0.4 and 0.9 against negatives 0.1 and 0.4: won, tied, won, won = 3.5 of 4.
    assert auroc([0.1, 0.4, 0.4, 0.9], [False, False, True, True]) == 0.875


def test_average_precision_takes_tied_scores_together() -> None:
    # Level 0.9: 1 of 1 right, recall 1/2; level 0.4: 2 of 3 right, recall 1. AP = 1/2 * 1 + 1/2 * 2/3 = 5/6.
    assert average_precision([0.1, 0.4, 0.4, 0.9], [False, False, True, True]) == pytest.approx(5 / 6)


def test_recall_at_a_false_positive_rate_never_splits_a_tie() -> None:
    scores = [5, 4, 4, 3, 2, 1]
    labels = [True, True, False, True, False, False]
    assert recall_at_fpr(scores, labels, 0.0) == pytest.approx(1 / 3)  # only the score 5 is free of negatives
    assert (
        recall_at_fpr(scores, labels, 1 / 3) == 1.0
    )  # one of three negatives may be flagged: down to score 3
    assert recall_at_fpr([1, 1], [True, False], 0.5) == 0.0  # one tie, and half of one negative is none


@given(rows)
def test_estimates_equal_scikit_learn(pairs: list[tuple[int, bool]]) -> None:
    scores, labels = [float(score) for score, _ in pairs], [label for _, label in pairs]
    assert auroc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert average_precision(scores, labels) == pytest.approx(
        average_precision_score(labels, scores), abs=1e-12
    )
    alarms, caught, _ = roc_curve(labels, scores, drop_intermediate=False)
    for limit in (0.0, 0.05, 0.3, 1.0):
        assert recall_at_fpr(scores, labels, limit) == pytest.approx(
            caught[alarms <= limit + 1e-9].max(), abs=1e-12
        )


@given(rows)
def test_auroc_ignores_monotone_rescaling_and_turns_round_with_the_sign(
    pairs: list[tuple[int, bool]],
) -> None:
    scores, labels = np.array([score for score, _ in pairs], dtype=float), [label for _, label in pairs]
    assert auroc(np.exp(scores), labels) == auroc(scores, labels)
    assert auroc(-scores, labels) == pytest.approx(1 - auroc(scores, labels), abs=1e-12)


def test_one_class_gives_nothing_to_rank() -> None:
    assert math.isnan(auroc([1, 2], [True, True]))
    assert math.isnan(recall_at_fpr([1, 2], [False, False], 0.1))
    assert math.isnan(average_precision([1, 2], [False, False]))
    found = ranking_intervals([1, 2], [True, True])
    assert math.isnan(found.auroc.value)
    assert found.auroc.interval is None


def test_infinite_scores_rank_and_missing_ones_are_refused() -> None:
    assert auroc([-math.inf, 0, math.inf], [False, False, True]) == 1.0
    with pytest.raises(UsageError, match="1 NaN"):
        auroc([math.nan, 0], [True, False])
    with pytest.raises(UsageError, match="one length"):
        auroc([0.1], [True, False])


def test_the_fast_interval_equals_the_plain_bootstrap_of_the_same_draws() -> None:
    generator = np.random.default_rng(3)
    labels = generator.random(80) < 0.4
    scores = np.round(generator.normal(size=80) + labels, 1)
    groups = [index // 2 for index in range(80)]
    for chosen in (None, groups):
        fast = ranking_intervals(scores, labels, chosen, n_resamples=300, seed=5)
        drawn: list[float] = []

        def both(chosen_scores: Floats, chosen_labels: Flags, drawn: list[float] = drawn) -> float:
            drawn.append(auroc(chosen_scores, chosen_labels))
            return recall_at_fpr(chosen_scores, chosen_labels, 0.1)

        plain = bootstrap_interval(
            both, scores, labels, groups=chosen, strata=labels.astype(int), n_resamples=300, seed=5
        )
        recall = fast.recall_at_fpr[0.1]
        assert (recall.low, recall.high) == pytest.approx((plain.low, plain.high), abs=1e-12)
        # The first call is the estimate itself. On the logit scale: logit(a) +- z * sd / (a * (1 - a)).
        estimate, spread = drawn[0], float(np.std(drawn[1:], ddof=1))
        half = 1.959964 * spread / (estimate * (1 - estimate))
        odds = math.log(estimate / (1 - estimate))
        expected = [1 / (1 + math.exp(-(odds + side * half))) for side in (-1, 1)]
        assert [fast.auroc.low, fast.auroc.high] == pytest.approx(expected, abs=1e-6)


def test_copies_of_rows_narrow_the_interval_only_without_groups() -> None:
    generator = np.random.default_rng(4)
    labels = np.arange(60) < 30
    scores = generator.normal(size=60) + labels
    many = [np.repeat(array, 10) for array in (scores, labels, np.arange(60))]
    one = auroc_interval(scores, labels)
    grouped = auroc_interval(many[0], many[1], many[2].tolist())
    alone = auroc_interval(many[0], many[1])
    width = one.high - one.low
    assert grouped.high - grouped.low == pytest.approx(width, rel=0.15)
    assert alone.high - alone.low < 0.5 * width


def test_intervals_cover_the_true_auroc() -> None:
    # Unit normals 2 apart: AUROC = Phi(2 / sqrt 2) = 0.921350; a small sample near 1 is the hard case.
    generator = np.random.default_rng(0)
    labels = np.arange(50) < 20
    covered = 0
    for trial in range(400):
        rate = auroc_interval(generator.normal(size=50) + 2 * labels, labels, n_resamples=300, seed=trial)
        covered += rate.low <= 0.921350 <= rate.high
    # The standard error of a share of 0.95 is 0.011 here.
    assert 0.92 < covered / 400 < 0.985


def test_perfect_separation_is_not_reported_as_certain() -> None:
    rate = auroc_interval([1, 2, 3, 4, 5, 6], [False, False, False, True, True, True])
    assert rate.value == 1.0
    # Wilson with 3 of 3: 3 / (3 + 3.841459) = 0.438503.
    assert rate.low == pytest.approx(0.438503, abs=1e-6)
    assert rate.high == 1.0


def test_a_class_from_one_group_has_no_interval() -> None:
    rate = auroc_interval([1, 2, 3, 4], [False, False, True, True], ["a", "b", "c", "c"])
    assert rate.value == 1.0
    assert rate.interval is None
    assert "single group" in rate.note


def test_equal_seeds_give_equal_intervals() -> None:
    scores, labels = np.random.default_rng(1).normal(size=50), np.arange(50) % 2 == 0
    assert auroc_interval(scores, labels, seed=7) == auroc_interval(scores, labels, seed=7)


@settings(max_examples=25, deadline=None)
@given(rows)
def test_every_interval_lies_between_0_and_1(pairs: list[tuple[int, bool]]) -> None:
    found = ranking_intervals([score for score, _ in pairs], [label for _, label in pairs], n_resamples=50)
    for rate in (found.auroc, found.average_precision, *found.recall_at_fpr.values()):
        if rate.interval is not None:
            assert -1e-12 <= rate.low <= rate.high <= 1 + 1e-12


def test_ten_thousand_rows_take_seconds() -> None:
    generator = np.random.default_rng(0)
    labels = generator.random(10_000) < 0.3
    started = time.process_time()
    ranking_intervals(generator.normal(size=10_000) + labels, labels, n_resamples=1_000)
    # Processor time, about 0.7 s; the margin is for slow machines.
    assert time.process_time() - started < 10


def test_the_general_bootstrap_takes_any_metric_of_any_number_of_arrays() -> None:
    values = np.arange(100.0)
    rate = bootstrap_interval(lambda rows: float(rows.mean()), values, n_resamples=1_000)
    # Standard error of the mean: 28.87 / 10 = 2.887, so about 49.5 +- 5.66.
    assert (rate.low, rate.high) == pytest.approx((49.5 - 5.66, 49.5 + 5.66), abs=0.6)
    with pytest.raises(UsageError, match="lengths 2, 3"):
        bootstrap_interval(lambda a, b: 0.0, np.ones(2), np.ones(3))


def test_no_warning_comes_from_scores_that_all_tie() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = ranking_intervals([0.5] * 20, [True, False] * 10)
    assert found.auroc.value == 0.5
    assert found.recall_at_fpr[0.01].value == 0.0
