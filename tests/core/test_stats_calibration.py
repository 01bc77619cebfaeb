"""Calibration, and p-values of many tests."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss

from tocsin.core.errors import UsageError
from tocsin.core.stats import (
    benjamini_hochberg,
    brier,
    expected_calibration_error,
    holm,
    reliability_bins,
)

p_values = st.lists(st.floats(0, 1), min_size=1, max_size=30)


def test_brier_equals_the_hand_computation_and_scikit_learn() -> None:
    # ((0.8 - 1)^2 + (0.4 - 0)^2 + (0.5 - 1)^2) / 3 = (0.04 + 0.16 + 0.25) / 3 = 0.15
    probabilities, labels = [0.8, 0.4, 0.5], [True, False, True]
    assert brier(probabilities, labels) == pytest.approx(0.15)
    assert brier(probabilities, labels) == pytest.approx(brier_score_loss(labels, probabilities))


def test_calibration_error_weighs_bins_by_their_items() -> None:
    # Bin 0.2-0.3: two items at 0.25, half positive, gap 0.25. Bin 0.9-1: one at 1.0, positive, gap 0.
    # (2 * 0.25 + 1 * 0) / 3 = 1/6
    assert expected_calibration_error([0.25, 0.25, 1.0], [True, False, True]) == pytest.approx(1 / 6)


def test_bins_hold_every_item_once_and_skip_empty_ones() -> None:
    parts = reliability_bins([0.0, 0.05, 0.1, 1.0], [False, True, True, True])
    assert [(part.low, part.high, part.n) for part in parts] == [(0.0, 0.1, 2), (0.1, 0.2, 1), (0.9, 1.0, 1)]
    assert parts[0].mean_probability == pytest.approx(0.025)
    assert parts[0].rate.value == 0.5


@pytest.mark.parametrize("values", [[1.2], [-0.1], [float("nan")], []])
def test_what_is_no_probability_is_refused(values: list[float]) -> None:
    with pytest.raises(UsageError, match="expected probabilities"):
        brier(values, [True] * len(values))


def test_holm_equals_the_hand_computation() -> None:
    # Sorted 0.01, 0.03, 0.04: 3 * 0.01 = 0.03; 2 * 0.03 = 0.06; 1 * 0.04 = 0.04, raised to 0.06.
    assert holm([0.01, 0.04, 0.03]).tolist() == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.6, 0.9]).tolist() == [1.0, 1.0]


def test_benjamini_hochberg_equals_the_hand_computation() -> None:
    # Sorted 0.01, 0.03, 0.04: 3/1 * 0.01 = 0.03; 3/2 * 0.03 = 0.045, lowered to 0.04; 3/3 * 0.04 = 0.04.
    assert benjamini_hochberg([0.01, 0.04, 0.03]).tolist() == pytest.approx([0.03, 0.04, 0.04])


@given(p_values)
def test_holm_is_between_the_plain_value_and_bonferroni_and_above_benjamini_hochberg(
    values: list[float],
) -> None:
    plain = np.array(values)
    adjusted = holm(values)
    assert (adjusted >= plain).all()
    assert (adjusted <= np.minimum(1, plain * len(plain)) + 1e-12).all()
    assert (benjamini_hochberg(values) <= adjusted + 1e-12).all()


@given(p_values)
def test_corrections_do_not_depend_on_order(values: list[float]) -> None:
    order = np.random.default_rng(len(values)).permutation(len(values))
    shuffled = [values[index] for index in order]
    assert holm(shuffled).tolist() == pytest.approx(holm(values)[order].tolist())
    assert benjamini_hochberg(shuffled).tolist() == pytest.approx(benjamini_hochberg(values)[order].tolist())


def test_no_tests_need_no_correction_and_bad_values_are_refused() -> None:
    assert holm([]).tolist() == []
    assert benjamini_hochberg([]).tolist() == []
    with pytest.raises(UsageError, match="p-values from 0 to 1"):
        holm([0.5, 1.5])
