"""The linear head: fit, calibration, correction for windows and threshold."""

from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.core.errors import FitError
from tocsin.detect.linear_head import FitReport, Floats, LinearHead, choose_threshold, fit_head

HEAD = LinearHead(
    weights=np.array([2.0, -1.0], dtype=np.float32),
    bias=0.5,
    slope=1.5,
    intercept=-0.5,
    null_mean=-2.0,
    null_scale=1.5,
    threshold=0.6,
)


def blobs(n: int = 100, gap: float = 3.0, seed: int = 0) -> tuple[Floats, np.ndarray, list[str]]:
    rng = np.random.default_rng(seed)
    labels = np.arange(2 * n) < n
    features = rng.normal(size=(2 * n, 6)) + np.where(labels[:, None], gap / 2, -gap / 2) * np.eye(6)[2]
    return features, labels, [str(index % n) for index in range(2 * n)]


def fitted(n: int = 100, gap: float = 3.0, **settings: object) -> FitReport:
    features, labels, groups = blobs(n, gap)
    plain = settings.pop("plain", np.zeros_like(labels))
    return fit_head(features.astype(np.float32), labels, groups, plain, **settings)  # type: ignore[arg-type]


def test_logits_and_probability_are_the_formulas() -> None:
    # 2 * 1 - 1 * 3 + 0.5 = -0.5; sigmoid(1.5 * -0.5 - 0.5) = 1 / (1 + e^1.25) = 0.222700
    logits = HEAD.logits(np.array([[1.0, 3.0]], dtype=np.float32))
    assert logits == pytest.approx([-0.5])
    assert HEAD.probability(float(logits[0])) == pytest.approx(0.222700, abs=1e-6)


def test_extreme_logits_stay_probabilities() -> None:
    assert 0 <= HEAD.probability(-1e9) < 1e-20
    assert HEAD.probability(1e9) == pytest.approx(1)


# --- correction for the number of windows -----------------------------------------------------------


def test_one_window_needs_no_correction() -> None:
    assert HEAD.for_windows(1.25, 1) == 1.25


def test_the_correction_is_sidak_s() -> None:
    # z = (1 + 2) / 1.5 = 2, Phi(2) = 0.977250; the 10th power is 0.794461, whose quantile is 0.822
    expected = -2.0 + 1.5 * NormalDist().inv_cdf(NormalDist().cdf(2) ** 10)
    assert HEAD.for_windows(1.0, 10) == pytest.approx(expected, abs=1e-9)


@given(st.floats(-60, 200), st.floats(1e-3, 10), st.integers(2, 400))
def test_the_correction_lowers_without_ties_or_infinities(highest: float, step: float, windows: int) -> None:
    low, high = HEAD.for_windows(highest, windows), HEAD.for_windows(highest + step, windows)
    assert np.isfinite([low, high]).all()
    assert low <= highest
    assert high > low
    assert HEAD.for_windows(highest, windows + 1) <= low


def test_length_alone_raises_no_false_alarms() -> None:
    rng = np.random.default_rng(0)
    cut = NormalDist(-2, 1.5).inv_cdf(0.95)
    for windows in (1, 5, 40):
        highest = rng.normal(-2, 1.5, (4_000, windows)).max(axis=1)
        flagged = np.mean([HEAD.for_windows(float(value), windows) > cut for value in highest])
        # Binomial standard error of 5 % in 4,000: 0.34 points.
        assert flagged == pytest.approx(0.05, abs=0.014)


# --- threshold --------------------------------------------------------------------------------------


def test_the_threshold_has_the_best_balanced_accuracy() -> None:
    logits = np.array([-3.0, -2.0, -1.0, 2.5, 1.0, 2.0, 3.0, -2.5])
    labels = np.array([False] * 4 + [True] * 4)
    # The cut at 0, between -1 and 1: 3 of 4 harmful are above and 3 of 4 harmless below, balanced accuracy
    # 0.75; no other does better.
    cut, facts = choose_threshold(logits, labels, np.zeros(8, dtype=bool))
    assert cut == 0.0
    assert (facts["crossfit_sensitivity"], facts["crossfit_specificity_on_twins"]) == (0.75, 0.75)
    assert facts["crossfit_plain_flagged"] is None


@given(st.integers(0, 500), st.floats(-3, 6), st.booleans())
def test_at_most_five_percent_of_plain_rows_are_flagged(seed: int, shift: float, sensitive: bool) -> None:
    rng = np.random.default_rng(seed)
    logits = np.concatenate([rng.normal(2, 1, 40), rng.normal(0, 1, 40), rng.normal(shift, 1, 60)])
    labels, plain = np.arange(140) < 40, np.arange(140) >= 80
    cut, _ = choose_threshold(logits, labels, plain, sensitive=sensitive)
    assert (logits[plain] > cut).mean() <= 0.05


def test_sensitive_never_takes_a_higher_cut() -> None:
    features, labels, groups = blobs(40, gap=1.0)
    logits, none = features[:, 2], np.zeros_like(labels)
    assert (
        choose_threshold(logits, labels, none, sensitive=True)[0] <= choose_threshold(logits, labels, none)[0]
    )
    assert len(groups) == len(labels)


# --- fit --------------------------------------------------------------------------------------------


def test_a_planted_direction_is_recovered() -> None:
    head = fitted(gap=4).head
    direction = head.weights / np.linalg.norm(head.weights)
    assert direction[2] > 0.85
    features, labels, _ = blobs(gap=4, seed=1)
    logits = head.logits(features.astype(np.float32))
    flagged = np.array([head.probability(logit) > head.threshold for logit in logits])
    assert (flagged == labels).mean() > 0.9


def test_probabilities_are_calibrated_on_new_rows() -> None:
    head = fitted(400, gap=2).head
    features, labels, _ = blobs(2_000, gap=2, seed=3)
    p = np.array([head.probability(logit) for logit in head.logits(features.astype(np.float32))])
    for low in (0.1, 0.3, 0.5, 0.7):
        inside = (p >= low) & (p < low + 0.2)
        assert labels[inside].mean() == pytest.approx(p[inside].mean(), abs=0.1)


def test_a_head_never_scores_a_row_whose_twin_it_saw() -> None:
    # Twins have equal features and opposite labels, and nothing else to learn from: a fold that split them
    # would learn each row's label from its twin and score at the far end; kept together it is at chance.
    rng = np.random.default_rng(4)
    half = rng.normal(size=(60, 200))
    features = np.concatenate([half, half]).astype(np.float32)
    labels = np.arange(120) < 60
    with pytest.raises(FitError, match="better than chance"):
        fit_head(features, labels, [str(index % 60) for index in range(120)], np.zeros_like(labels))


def test_features_on_very_different_scales_and_constant_ones_do_no_harm() -> None:
    features, labels, groups = blobs(gap=4)
    scaled = (features * [1e-3, 1, 1e4, 1, 1, 0] + [0, 0, 0, 0, 50, 7]).astype(np.float32)
    head = fit_head(scaled, labels, groups, np.zeros_like(labels)).head
    logits = head.logits(scaled)
    assert np.isfinite(logits).all()
    assert ((logits > np.median(logits)) == labels).mean() > 0.9


def test_equal_input_gives_an_equal_head() -> None:
    first, second = fitted(), fitted()
    np.testing.assert_array_equal(first.head.weights, second.head.weights)
    assert first.head.numbers() == second.head.numbers()
    assert first.facts == second.facts


def test_the_threshold_can_be_chosen_on_a_part() -> None:
    labels = blobs()[1]
    part = np.arange(len(labels)) % 2 == 0
    assert fitted(decide_on=part).head.null_mean != fitted().head.null_mean


def test_numbers_and_weights_make_the_same_head() -> None:
    numbers = {name: float(str(value)) for name, value in HEAD.numbers().items()}
    again = LinearHead.from_parts(HEAD.weights, numbers)
    assert replace(again, weights=HEAD.weights) == HEAD


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ("few harmful", "at least 10 harmful items; 9"),
        ("few harmless", "at least 10 harmless items; 0"),
        ("few to decide on", "of the kind on which the threshold is chosen"),
        ("not a number", "not finite"),
        ("one group", "at least 5 groups"),
        ("constant", "better than chance"),
    ],
)
def test_what_cannot_be_fitted_is_named(change: str, named: str) -> None:
    features, labels, groups = blobs(30)
    decide_on = None
    if change == "few harmful":
        labels = np.arange(60) < 9
    elif change == "few harmless":
        labels = np.ones(60, dtype=bool)
    elif change == "few to decide on":
        decide_on = ~labels
    elif change == "not a number":
        features[3, 1] = np.nan
    elif change == "one group":
        groups = ["same"] * 60
    elif change == "constant":
        features[:] = 1
    with pytest.raises(FitError, match=named):
        fit_head(features.astype(np.float32), labels, groups, np.zeros(60, dtype=bool), decide_on=decide_on)
