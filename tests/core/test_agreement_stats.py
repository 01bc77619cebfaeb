from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score

from tocsin.core.errors import UsageError
from tocsin.core.stats.agreement import (
    Level,
    Weights,
    alpha_of,
    cohen_kappa,
    coincidences,
    confusion,
    disagreement_weights,
    exact_match,
    fleiss_kappa,
    gwet_ac,
    kappa_of,
    krippendorff_alpha,
)

NAN = float("nan")
# Krippendorff's worked example (Computing Krippendorff's alpha-reliability, 2011, part C): four observers,
# twelve units, ratings missing.
WORKED = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, NAN, NAN, NAN],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, NAN, 3],
        [NAN, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, NAN],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, NAN],
    ]
)
LEVELS: tuple[Level, ...] = ("nominal", "ordinal", "interval", "ratio")


@pytest.mark.parametrize(
    ("level", "published"), [("nominal", 0.743), ("ordinal", 0.815), ("interval", 0.849), ("ratio", 0.797)]
)
def test_alpha_gives_the_published_values_of_the_worked_example(level: Level, published: float) -> None:
    assert krippendorff_alpha(WORKED, level=level) == pytest.approx(published, abs=5e-4)


def test_alpha_of_two_observers_and_two_values_by_hand() -> None:
    # 10 units, 4 differ: o01 = 4; 14 zeros and 6 ones among n = 20 ratings.
    # alpha = 1 - (n - 1) o01 / (n0 n1) = 1 - 19 * 4 / 84.
    a, b = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
    for level in LEVELS:
        assert krippendorff_alpha([a, b], level=level) == pytest.approx(1 - 19 * 4 / 84, abs=1e-12)


def test_ordinal_alpha_by_hand() -> None:
    # Units (0,0), (0,1), (1,2), (2,2): n = 8, counts 3, 2, 3; mid-ranks 1.5, 4, 6.5.
    # D_o: units two and three each give 2 * 2.5^2 = 12.5, so 25 (all m_u - 1 = 1).
    # D_e: 2 [3*2*6.25 + 3*3*25 + 2*3*6.25] = 600; alpha = 1 - 7 * 25 / 600.
    assert krippendorff_alpha([[0, 0, 1, 2], [0, 1, 2, 2]]) == pytest.approx(1 - 175 / 600, abs=1e-12)


def naive_alpha(table: np.ndarray[tuple[int, int], np.dtype[np.float64]], level: Level) -> float:
    """The definition, pair by pair."""
    units = [column[~np.isnan(column)] for column in table.T]
    units = [unit for unit in units if len(unit) >= 2]
    values = np.concatenate(units) if units else np.zeros(0)
    n = len(values)

    def distance(x: float, y: float) -> float:
        if level == "nominal":
            return float(x != y)
        if level == "interval":
            return (x - y) ** 2
        if level == "ratio":
            return ((x - y) / (x + y)) ** 2 if x + y else 0.0
        low, high = min(x, y), max(x, y)
        between = ((values >= low) & (values <= high)).sum()
        ends = ((values == low).sum() + (values == high).sum()) / 2
        return float(between - ends) ** 2 if x != y else 0.0

    expected = sum(distance(x, y) for x in values for y in values)
    observed = sum(sum(distance(x, y) for x in unit for y in unit) / (len(unit) - 1) for unit in units)
    return 1 - (n - 1) * observed / expected if expected else NAN


@given(
    st.lists(
        st.lists(st.sampled_from([0.0, 1.0, 2.0, 3.5, NAN]), min_size=3, max_size=3), min_size=1, max_size=8
    ),
    st.sampled_from(LEVELS),
)
def test_alpha_equals_its_definition_with_missing_ratings(units: list[list[float]], level: Level) -> None:
    table = np.array(units).T
    assert krippendorff_alpha(table, level=level) == pytest.approx(
        naive_alpha(table, level), abs=1e-9, nan_ok=True
    )


@given(st.lists(st.lists(st.sampled_from([0, 1, 2, 3, NAN]), min_size=4, max_size=4), min_size=1, max_size=8))
def test_alpha_of_summed_coincidences_is_alpha_of_the_ratings(units: list[list[float]]) -> None:
    table = np.array(units).T
    for level in LEVELS:
        ours = float(alpha_of(coincidences(table, 4), level=level))
        assert ours == pytest.approx(krippendorff_alpha(table, level=level), abs=1e-9, nan_ok=True)


def test_alpha_is_undefined_without_two_values_and_refuses_what_it_cannot_rate() -> None:
    assert np.isnan(krippendorff_alpha([[1, 1], [1, 1]]))
    assert np.isnan(krippendorff_alpha([[1, NAN], [NAN, 2]]))
    with pytest.raises(UsageError, match="finite"):
        krippendorff_alpha([[1.0, float("inf")], [1.0, 2.0]])
    with pytest.raises(UsageError, match="below 0"):
        krippendorff_alpha([[1, -1], [1, 2]], level="ratio")


def test_kappa_by_hand() -> None:
    # [[20, 5], [10, 15]]: p_o = 35/50 = 0.7; chance 0.5*0.6 + 0.5*0.4 = 0.5; kappa = 0.2 / 0.5.
    assert float(kappa_of([[20, 5], [10, 15]])) == pytest.approx(0.4, abs=1e-12)
    assert np.isnan(cohen_kappa([1, 1], [1, 1]))


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=30),
    st.sampled_from(["none", "linear", "quadratic"]),
)
def test_kappa_equals_scikit_learn(pairs: list[tuple[int, int]], weights: Weights) -> None:
    a, b = [x for x, _ in pairs], [y for _, y in pairs]
    ours = cohen_kappa(a, b, weights=weights)
    if len({*a, *b}) < 2:
        assert np.isnan(ours)
        return
    # The library takes the labels that occur as neighbours, as ours does.
    theirs = cohen_kappa_score(a, b, weights=None if weights == "none" else weights)
    assert ours == pytest.approx(theirs, abs=1e-9)


def test_gwet_ac1_is_steady_where_kappa_is_not() -> None:
    # [[118, 5], [2, 0]]: p_o = 118/125 = 0.944; share of yes (123 + 120) / 250 = 0.972.
    # AC1: p_e = 2 * 0.972 * 0.028 = 0.054432; (0.944 - 0.054432) / 0.945568 = 0.940777.
    a = ["yes"] * 123 + ["no"] * 2
    b = ["yes"] * 118 + ["no"] * 5 + ["yes"] * 2
    assert gwet_ac(a, b) == pytest.approx(0.889568 / 0.945568, abs=1e-12)
    assert cohen_kappa(a, b) < 0


def test_gwet_ac2_by_hand() -> None:
    # [[2, 1, 0], [0, 2, 0], [0, 0, 1]], quadratic: agreement weights 1, 3/4, 0.
    # p_o = 5.75 / 6; shares 5/12, 5/12, 2/12, sum pi (1 - pi) = 90/144; sum of weights 6 over q (q - 1) = 6.
    # AC2 = (5.75/6 - 0.625) / 0.375 = 8/9.
    assert gwet_ac([0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 1, 2], weights="quadratic") == pytest.approx(8 / 9)


def test_fleiss_kappa_of_his_shape_of_data() -> None:
    # 14 raters, 10 subjects, 5 categories; P = 0.378, P_e = 0.213, kappa = 0.210.
    counts = [
        [0, 0, 0, 0, 14],
        [0, 2, 6, 4, 2],
        [0, 0, 3, 5, 6],
        [0, 3, 9, 2, 0],
        [2, 2, 8, 1, 1],
        [7, 7, 0, 0, 0],
        [3, 2, 6, 3, 0],
        [2, 5, 3, 2, 2],
        [6, 5, 2, 1, 0],
        [0, 2, 2, 3, 7],
    ]
    assert fleiss_kappa(counts) == pytest.approx(0.210, abs=5e-4)
    assert fleiss_kappa([[2, 0], [0, 2]]) == 1.0
    with pytest.raises(UsageError, match="same number"):
        fleiss_kappa([[2, 0], [1, 2]])


def test_confusion_counts_the_last_axis() -> None:
    assert confusion([[0, 1, 1]], [[0, 0, 1]], 2).tolist() == [[[1, 0], [1, 1]]]
    assert exact_match([[1, 0], [0, 1]], [[1, 0], [1, 0]]).tolist() == [True, False]
    assert disagreement_weights(3, "quadratic")[0].tolist() == [0, 0.25, 1]


def test_lists_of_different_length_are_refused() -> None:
    for measure in (cohen_kappa, gwet_ac):
        with pytest.raises(UsageError, match="lengths 1 and 2"):
            measure([1], [1, 2])
