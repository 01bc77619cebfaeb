from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest

from tocsin.judges.comparison import bradley_terry, compare, plackett_luce
from tocsin.judges.comparison.strengths import connected, stages_of, wins_of


def sampled(strengths: list[float], n: int, seed: int, *, listed: int | None = None) -> np.ndarray:
    """Plackett-Luce rankings; only the first `listed` are harmful, the others get 0."""
    k = len(strengths)
    noise = np.random.default_rng(seed).gumbel(size=(n, k))
    place = np.argsort(np.argsort(-(np.array(strengths) + noise), axis=1), axis=1)
    m = k if listed is None else listed
    return np.maximum(m - place, 0).astype(float)


def test_bradley_terry_of_two_models_is_the_log_odds() -> None:
    # 30 wins to 10: strengths differ by log 3, and are centred.
    found = bradley_terry(np.array([[0.0, 30.0], [10.0, 0.0]]))
    assert found.tolist() == pytest.approx([math.log(3) / 2, -math.log(3) / 2])


def test_ties_count_as_half_a_win_for_either() -> None:
    # 2 wins, 1 loss, 3 ties: 3.5 against 2.5.
    vectors = np.array([[1, 0]] * 2 + [[0, 1]] + [[0, 0]] * 3, dtype=float)
    found = bradley_terry(wins_of(vectors).sum(0))
    assert found[0] - found[1] == pytest.approx(math.log(3.5 / 2.5))


def test_bradley_terry_equals_choix() -> None:
    choix = pytest.importorskip("choix")
    wins = np.array([[0, 7, 3, 9], [2, 0, 5, 4], [6, 1, 0, 8], [1, 3, 2, 0]], dtype=float)
    theirs = choix.ilsr_pairwise_dense(wins, alpha=0.0, tol=1e-12)
    assert bradley_terry(wins) == pytest.approx(theirs - theirs.mean(), abs=1e-6)


@pytest.mark.parametrize("listed", [1, 2, 3, 4])
def test_plackett_luce_equals_choix_on_partial_rankings(listed: int) -> None:
    choix = pytest.importorskip("choix")
    vectors = sampled([0.8, 0.0, -0.3, -0.5], 60, seed=listed, listed=listed)
    draws = []
    for v in vectors:
        left = set(range(4))
        for j in np.argsort(-v):
            if v[j] > 0 and len(left) > 1:
                left.remove(int(j))
                draws.append((int(j), sorted(left)))
    theirs = choix.ilsr_top1(4, draws, alpha=0.0, tol=1e-12)
    stages = stages_of(vectors)
    beats = (wins_of(vectors) == 1).sum(0).astype(float)
    ours = plackett_luce(stages.wins.sum(0), stages.counts.sum(0), stages.members, beats)
    assert ours == pytest.approx(theirs - theirs.mean(), abs=1e-6)


def test_plackett_luce_recovers_planted_strengths() -> None:
    planted = [1.0, 0.2, -0.4, -0.8]
    vectors = sampled(planted, 8_000, seed=3)
    found = compare("judge", vectors, ("a", "b", "c", "d"), n_resamples=1_000, seed=0)
    for strength, truth in zip(found.strengths, planted, strict=True):
        assert strength.plackett_luce.value == pytest.approx(truth, abs=0.06)
        assert strength.plackett_luce.low is not None
        assert strength.plackett_luce.high is not None
        assert strength.plackett_luce.low < strength.plackett_luce.high
    assert found.friedman_p is not None
    assert found.friedman_p < 1e-6
    assert all(pair.wilcoxon_p is not None and pair.wilcoxon_p < 1e-6 for pair in found.pairs[:2])


def test_strengths_that_the_wins_do_not_determine_are_missing() -> None:
    # The first model always wins: its strength has no bound.
    assert np.isnan(bradley_terry(np.array([[0.0, 3.0, 3.0], [0.0, 0.0, 2.0], [0.0, 1.0, 0.0]]))).all()
    assert connected(np.array([[0.0, 1.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]))
    found = compare("judge", np.array([[2.0, 1.0, 0.0]] * 30), ("a", "b", "c"), n_resamples=1_000, seed=0)
    assert {strength.bradley_terry.value for strength in found.strengths} == {None}


def test_models_that_never_differ_give_no_test() -> None:
    found = compare("judge", np.zeros((30, 3)), ("a", "b", "c"), n_resamples=1_000, seed=0)
    assert found.friedman_p is None
    assert [(pair.ties, pair.sign_p, pair.wilcoxon_p) for pair in found.pairs] == [(30, 1.0, 1.0)] * 3
    assert {strength.bradley_terry.value for strength in found.strengths} == {0.0}
    assert {strength.plackett_luce.value for strength in found.strengths} == {None}


def test_the_sign_test_by_hand_and_holm_over_pairs() -> None:
    # a above b on 8 of 10: 2 (1 + 10 + 45) / 1024; two models have one pair, so Holm changes nothing.
    vectors = np.array([[2.0, 1.0]] * 8 + [[1.0, 2.0]] * 2)
    found = compare("judge", vectors, ("a", "b"), n_resamples=1_000, seed=0)
    assert found.pairs[0].sign_p == pytest.approx(112 / 1024)
    assert found.friedman_p is None


def test_evenly_spread_rankings_give_equal_strengths() -> None:
    vectors = np.array(list(permutations((1, 2, 3))), dtype=float)
    found = compare("judge", vectors, ("a", "b", "c"), n_resamples=1_000, seed=0)
    for strength in found.strengths:
        assert strength.bradley_terry.value == pytest.approx(0, abs=1e-9)
        assert strength.plackett_luce.value == pytest.approx(0, abs=1e-9)
