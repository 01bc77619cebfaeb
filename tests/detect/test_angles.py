"""Card 17, section 7: the geometry of LatentBiopsy on plain arrays."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.mixture import GaussianMixture
from sklearn.preprocessing import StandardScaler

from tocsin.core.errors import FitError
from tocsin.core.stats import auroc
from tocsin.detect.angles import (
    Floats,
    angles,
    fit_mixture,
    gaussian_score,
    mixture_score,
    polar_angle,
    polar_basis,
    principal_directions,
    sincos,
)

E1, E2 = np.eye(4)[0], np.eye(4)[1]


def ring(theta: Floats, seed: int = 0) -> Floats:
    """States of width 4 at given angles to the first axis, any length and any place around it."""
    rng = np.random.default_rng(seed)
    around = rng.normal(size=(len(theta), 3))
    around /= np.linalg.norm(around, axis=1, keepdims=True)
    unit = np.concatenate([np.cos(theta)[:, None], np.sin(theta)[:, None] * around], axis=1)
    return np.asarray(unit * rng.uniform(0.5, 2, size=(len(theta), 1)))


# --- check 1 ----------------------------------------------------------------------------------------


def test_same_opposite_and_orthogonal_states() -> None:
    theta = angles(np.stack([E1, -E1, E2, E1 + E2]), E1[None])
    np.testing.assert_allclose(theta[:, 0], [0, np.pi, np.pi / 2, np.pi / 4], atol=1e-6)


def test_tiny_angles_keep_their_precision() -> None:
    # arccos of a float64 cosine loses everything below 1e-8; atan2 does not.
    theta = angles(np.array([[1.0, 1e-9, 0, 0], [-1.0, 1e-9, 0, 0]]), E1[None])
    np.testing.assert_allclose(theta[:, 0], [1e-9, np.pi - 1e-9], rtol=1e-12)


@given(st.integers(0, 1_000), st.floats(1e-3, 1e3))
def test_the_angle_does_not_depend_on_length(seed: int, factor: float) -> None:
    states = np.random.default_rng(seed).normal(size=(5, 4))
    np.testing.assert_allclose(angles(states * factor, E1[None]), angles(states, E1[None]), atol=1e-9)


def test_a_zero_state_has_no_angle() -> None:
    assert np.isnan(angles(np.zeros((1, 4)), E1[None])).all()


# --- check 2 ----------------------------------------------------------------------------------------


def test_the_sign_of_a_direction_is_arbitrary_and_leaves_the_score() -> None:
    theta = angles(ring(np.linspace(0.2, 2, 40)), E1[None])
    flipped = angles(ring(np.linspace(0.2, 2, 40)), -E1[None])
    np.testing.assert_allclose(flipped, np.pi - theta, atol=1e-12)
    scores = [gaussian_score(t, t.mean(axis=0), t.std(axis=0)) for t in (theta, flipped)]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-9)


# --- check 3 ----------------------------------------------------------------------------------------


def test_the_gaussian_score_is_the_formula_of_the_text() -> None:
    # theta = 1.3, mu = 1.0, sigma = 0.1: z = 3, 4.5 + ln 0.1 + ln(2 pi) / 2 = 4.5 - 2.302585 + 0.918939
    score = gaussian_score(np.array([[1.3]]), np.array([1.0]), np.array([0.1]))
    np.testing.assert_allclose(score, [3.116354], atol=1e-6)


@given(st.floats(0, 2, allow_subnormal=False))
def test_the_gaussian_score_is_even_about_its_mean_and_least_there(distance: float) -> None:
    mean, scale = np.array([0.0]), np.array([0.25])
    below, at, above = gaussian_score(np.array([[-distance], [0], [distance]]), mean, scale)
    assert below == above >= at


def test_the_gaussian_score_ranks_like_the_distance_from_the_mean() -> None:
    rng = np.random.default_rng(1)
    theta = np.concatenate([rng.normal(1, 0.2, 200), rng.normal(1.3, 0.3, 200)])
    labels = np.arange(400) >= 200
    score = gaussian_score(theta[:, None], np.array([1.0]), np.array([0.2]))
    assert auroc(score, labels) == pytest.approx(auroc(np.abs(theta - 1.0), labels), abs=1e-12)


# --- check 4 ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 3])
def test_the_mixture_score_equals_scikit_learn(k: int) -> None:
    rng = np.random.default_rng(2)
    theta, new = rng.normal(1.05, 0.27, (200, k)), rng.normal(1.05, 0.5, (50, k))
    scaler = StandardScaler().fit(sincos(theta))
    model = GaussianMixture(
        1, covariance_type="full", reg_covar=1e-6, max_iter=200, n_init=5, random_state=42
    )
    model.fit(scaler.transform(sincos(theta)))
    expected = -model.score_samples(scaler.transform(sincos(new)))
    np.testing.assert_allclose(mixture_score(new, fit_mixture(theta, 1, 42)), expected, atol=1e-6)


def test_the_two_scorers_differ_on_wide_angles() -> None:
    # Card 17, trap 1: for mu 1.05, sigma 0.27 the formula gives z^2 / 2 = 2.7 on both sides of the mean; the
    # mixture on (sin, cos) gives several times that, and not the same on both sides.
    theta = np.random.default_rng(3).normal(1.05, 0.27, (2_000, 1))
    far = np.array([[1.05 - 0.63], [1.05], [1.05 + 0.63]])
    gauss = gaussian_score(far, theta.mean(axis=0), theta.std(axis=0))
    mixture = mixture_score(far, fit_mixture(theta, 1, 0))
    assert gauss[0] - gauss[1] == pytest.approx(2.7, abs=0.3)
    assert min(mixture[0] - mixture[1], mixture[2] - mixture[1]) > 2 * 2.7
    assert abs(mixture[0] - mixture[2]) > 0.3


def test_several_components_fit_two_clusters_better_than_one() -> None:
    rng = np.random.default_rng(4)
    theta = np.concatenate([rng.normal(0.5, 0.05, (90, 1)), rng.normal(1.6, 0.05, (90, 1))])
    between = np.array([[1.05]])
    one, two = fit_mixture(theta, 1, 0), fit_mixture(theta, 2, 0)
    assert mixture_score(between, two) > mixture_score(between, one)
    assert len(two.weights) == 2
    assert len(fit_mixture(theta[:4], 9, 0).weights) == 4  # capped at n


# --- check 5 ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("scorer", ["gaussian", "sincos-gmm"])
@pytest.mark.parametrize("ring_at", [1.8, 0.2])
def test_inner_and_outer_rings_are_both_found(scorer: str, ring_at: float) -> None:
    rng = np.random.default_rng(5)
    harmless, odd = rng.normal(1.0, 0.1, 400), rng.normal(ring_at, 0.03, 200)
    fit, held = angles(ring(harmless[:200]), E1[None]), angles(ring(harmless[200:]), E1[None])
    new = np.concatenate([held, angles(ring(odd, 9), E1[None])])
    if scorer == "gaussian":
        scores = gaussian_score(new, fit.mean(axis=0), fit.std(axis=0))
    else:
        scores = mixture_score(new, fit_mixture(fit, 1, 42))
    assert auroc(scores, np.arange(400) >= 200) > 0.99


# --- check 6 ----------------------------------------------------------------------------------------


def test_a_batch_equals_a_loop() -> None:
    states = ring(np.linspace(0.1, 3, 30))
    directions = principal_directions(states, 2)
    mixture = fit_mixture(angles(states, directions), 2, 0)
    batch = mixture_score(angles(states, directions), mixture)
    loop = [mixture_score(angles(state[None], directions), mixture)[0] for state in states]
    np.testing.assert_allclose(batch, loop, atol=1e-9)
    assert np.isfinite(batch).all()


@pytest.mark.parametrize(("rows", "width", "asked", "given_"), [(4, 9, 50, 3), (30, 5, 50, 5), (30, 5, 2, 2)])
def test_the_number_of_directions_is_capped(rows: int, width: int, asked: int, given_: int) -> None:
    states = np.random.default_rng(6).normal(1, 1, (rows, width))
    directions = principal_directions(states, asked)
    assert directions.shape == (given_, width)
    np.testing.assert_allclose(directions @ directions.T, np.eye(given_), atol=1e-9)


def test_the_first_direction_is_that_of_the_largest_spread() -> None:
    rng = np.random.default_rng(7)
    states = 3 * E1 + rng.normal(size=(200, 4)) * [0.1, 5.0, 1.0, 0.1]
    first = principal_directions(states, 1)[0]
    assert abs(first[1]) > 0.99


# --- check 7 ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("states", "named"),
    [
        (np.ones((2, 4)), "at least 3 prompts"),
        (np.ones((3, 2, 4)), "as an \\(n, width\\) array"),
        (np.ones(4), "as an \\(n, width\\) array"),
        (np.full((5, 4), np.nan), "not finite"),
        (np.where(np.eye(5, 4) > 0, np.inf, 1.0), "not finite"),
        (np.array([[1.0, 0], [-1.0, 0], [0, 0]]), "centroid of zero length"),
    ],
)
def test_what_gives_no_direction_is_refused(states: Floats, named: str) -> None:
    with pytest.raises(FitError, match=named):
        principal_directions(states, 1)


def test_states_of_another_width_are_refused() -> None:
    with pytest.raises(ValueError, match="expected states of shape \\(n, 4\\)"):
        angles(np.ones((2, 5)), E1[None])


# --- section 3.5 ------------------------------------------------------------------------------------


def test_the_polar_angle_turns_with_the_state() -> None:
    rng = np.random.default_rng(8)
    states = np.concatenate([rng.normal(2, 0.1, (300, 1)), rng.normal(size=(300, 2)) * [3.0, 1.0]], axis=1)
    basis = polar_basis(states, np.eye(3)[0])
    turned = basis[0] + np.cos([[0.3], [2.0]]) * basis[1] + np.sin([[0.3], [2.0]]) * basis[2]
    np.testing.assert_allclose(polar_angle(turned, np.eye(3)[0], basis), [0.3, 2.0], atol=1e-9)
    # Moving along the reference direction does not turn it.
    np.testing.assert_allclose(
        polar_angle(turned + 7 * np.eye(3)[0], np.eye(3)[0], basis), [0.3, 2.0], atol=1e-9
    )


@pytest.mark.parametrize("width", [1, 2])
def test_too_few_features_for_a_plane_give_angles_all_the_same(width: int) -> None:
    states = np.random.default_rng(9).normal(2, 1, (10, width))
    direction = principal_directions(states, 1)[0]
    phi = polar_angle(states, direction, polar_basis(states, direction))
    assert phi.shape == (10,)
    assert np.isfinite(phi).all()
