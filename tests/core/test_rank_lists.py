from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy.stats import kendalltau

from tocsin.core.errors import UsageError
from tocsin.core.stats.rank_lists import kendall_tau_b, rbo_ext, rbo_truncated, top_one
from tocsin.judges.agreement import normalise

VALID = sorted(
    {v for raw in product(range(4), repeat=3) if isinstance(v := normalise(raw), tuple)}
)  # all 16 vectors


@pytest.mark.parametrize(
    ("a", "b", "at_90", "at_50"),
    [
        # Lists of A, B, C as vectors: the first of m has rank m. Two full lists that differ, p = .9:
        # reversed: X = 0, 1, 3 of depths 1..3, so .1/.9 (1/2 .81 + .729) + .729 = .855.
        ((3, 2, 1), (1, 2, 3), 0.855, 0.375),
        ((3, 2, 1), (2, 3, 1), 0.900, 0.500),
        ((1, 0, 0), (2, 1, 0), 1.0, 1.0),
        ((2, 1, 0), (0, 2, 1), 0.45, 0.25),
        ((2, 1, 0), (3, 1, 2), 0.82, 0.8333),
        ((1, 0, 0), (0, 1, 0), 0.0, 0.0),
        ((0, 0, 0), (0, 0, 0), 1.0, 1.0),
        ((0, 0, 0), (1, 0, 0), 0.0, 0.0),
    ],
)
def test_rbo_gives_the_values_of_the_closed_form(
    a: tuple[int, ...], b: tuple[int, ...], at_90: float, at_50: float
) -> None:
    assert rbo_ext(a, b, 0.9) == pytest.approx(at_90, abs=1e-4)
    assert rbo_ext(a, b, 0.5) == pytest.approx(at_50, abs=1e-4)


def test_rbo_is_symmetric_bounded_and_one_for_equal_lists() -> None:
    v = np.array(VALID)
    for p in (0.1, 0.5, 0.9, 0.99):
        table = rbo_ext(v[:, None], v[None], p)
        assert np.allclose(table, table.T)
        assert table.min() >= 0
        assert table.max() <= 1
        assert np.allclose(np.diag(table), 1)


def lists_rbo_ext(s: list[int], t: list[int], p: float) -> float:
    """The published formula over lists, term by term."""
    short, long = sorted((s, t), key=len)
    if not long:
        return 1.0
    if not short:
        return 0.0
    x = [len({*short[:d]} & {*long[:d]}) for d in range(len(long) + 1)]
    k, n = len(short), len(long)
    total = sum(x[d] / d * p**d for d in range(1, n + 1))
    total += sum(x[k] * (d - k) / (k * d) * p**d for d in range(k + 1, n + 1))
    return (1 - p) / p * total + ((x[n] - x[k]) / n + x[k] / k) * p**n


def test_rbo_of_vectors_is_rbo_of_lists() -> None:
    def as_list(v: tuple[int, ...]) -> list[int]:
        return sorted((i for i, rank in enumerate(v) if rank), key=lambda i: -v[i])

    for a, b in product(VALID, repeat=2):
        assert rbo_ext(a, b, 0.7) == pytest.approx(lists_rbo_ext(as_list(a), as_list(b), 0.7), abs=1e-12)


def test_truncated_rbo_is_low_even_for_equal_short_lists() -> None:
    # (1 - p) / p (p + p^2 + p^3) = 1 - p^3 = 0.271.
    assert rbo_truncated([3, 2, 1], [3, 2, 1], 0.9) == pytest.approx(1 - 0.9**3)
    assert rbo_truncated([0, 0, 0], [0, 0, 0]) == 1
    assert rbo_truncated([0, 0, 0], [1, 0, 0]) == 0


def test_tau_b_equals_scipy_and_is_undefined_for_constant_vectors() -> None:
    for a, b in product(VALID, repeat=2):
        ours = float(kendall_tau_b(a, b))
        if len(set(a)) == 1 or len(set(b)) == 1:
            assert np.isnan(ours)
        else:
            assert ours == pytest.approx(kendalltau(a, b).statistic, abs=1e-12)


def test_two_empty_lists_agree_on_the_first_place() -> None:
    assert top_one([[0, 0], [0, 0], [2, 1]], [[0, 0], [0, 1], [1, 0]]).tolist() == [True, False, True]


def test_bad_arguments_are_refused() -> None:
    with pytest.raises(UsageError, match="persistence"):
        rbo_ext([1, 0], [1, 0], 1.0)
    with pytest.raises(UsageError, match="same subjects"):
        rbo_ext([1, 0], [1, 0, 0])
