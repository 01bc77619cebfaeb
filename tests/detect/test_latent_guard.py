"""Card 03, section 7: Latent Guard on plain arrays, and as a detector."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detect_items import marked_texts, prompt, training_items, unmarked_texts
from tiny_detectors import Build, context_for
from tocsin.core.errors import FitError
from tocsin.core.registry import create
from tocsin.detect.latent_guard import LatentGuard, belief
from tocsin.internals import Activations
from tocsin.models.base import Array
from tocsin.models.local import LocalModel

GOLDEN = os.environ.get("TOCSIN_CARD03_TENSORS")


def draw(seed: int, *shape: int) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


# --- check 1 ----------------------------------------------------------------------------------------


@pytest.mark.skipif(GOLDEN is None, reason="TOCSIN_CARD03_TENSORS names no .npz of the released tensors")
def test_golden_values_of_the_released_tensors() -> None:
    assert GOLDEN is not None
    with np.load(GOLDEN) as kept:
        harm = belief(kept["inst"], kept["harmful"], kept["harmless"])
        refuse = belief(kept["post"], kept["refused"], kept["accepted"])
    np.testing.assert_allclose(harm, [-0.0561, -0.0278, -0.0449, -0.0431, -0.0399], atol=2e-4)
    np.testing.assert_allclose(refuse, [0.0092, 0.0096, 0.0159, 0.0088, 0.0146], atol=2e-4)


# --- check 2 ----------------------------------------------------------------------------------------


def test_a_row_that_is_equal_in_both_centres_adds_nothing_but_a_row() -> None:
    states, one, other = draw(0, 5, 4, 8), draw(1, 4, 8), draw(2, 4, 8)
    other[0] = one[0]
    # L + 1 = 4 rows of which row 0 gives zero: the mean over 3 rows is 4 / 3 of that over 4.
    np.testing.assert_allclose(
        belief(states[:, 1:], one[1:], other[1:]), belief(states, one, other) * 4 / 3, rtol=1e-6
    )


# --- check 3 ----------------------------------------------------------------------------------------


@given(st.integers(0, 500), st.floats(0.01, 100))
def test_swapping_negates_scaling_leaves_and_the_range_holds(seed: int, factor: float) -> None:
    states, one, other = draw(seed, 3, 2, 4), draw(seed + 1, 2, 4), draw(seed + 2, 2, 4)
    delta = belief(states, one, other)
    np.testing.assert_allclose(belief(states, other, one), -delta, atol=1e-12)
    np.testing.assert_allclose(belief(states * np.float32(factor), one, other), delta, atol=1e-5)
    assert (np.abs(delta) <= 2).all()


def test_a_state_at_the_one_centre_scores_one_minus_their_cosine() -> None:
    one, other = np.array([[1.0, 0.0]], dtype=np.float32), np.array([[1.0, 1.0]], dtype=np.float32)
    np.testing.assert_allclose(belief(one[None], one, other), [1 - np.sqrt(0.5)], atol=1e-7)


def test_a_zero_state_has_no_side() -> None:
    assert belief(np.zeros((1, 2, 4), dtype=np.float32), draw(0, 2, 4), draw(1, 2, 4)) == [0.0]


# --- check 6 ----------------------------------------------------------------------------------------


def test_two_planted_concepts_are_recovered_apart() -> None:
    rng = np.random.default_rng(3)
    harm, refusal = np.eye(64)[0], np.eye(64)[1]
    is_harmful, is_refused = rng.random(400) < 0.5, rng.random(400) < 0.5
    inst = rng.normal(size=(400, 64)) * 0.1 + np.where(is_harmful[:, None], 1, -1) * harm
    post = rng.normal(size=(400, 64)) * 0.1 + np.where(is_refused[:, None], 1, -1) * refusal
    v_harm = inst[is_harmful].mean(axis=0) - inst[~is_harmful].mean(axis=0)
    v_refusal = post[is_refused].mean(axis=0) - post[~is_refused].mean(axis=0)
    v_harm, v_refusal = v_harm / np.linalg.norm(v_harm), v_refusal / np.linalg.norm(v_refusal)
    assert abs(v_harm @ harm) >= 0.99
    assert abs(v_refusal @ refusal) >= 0.99
    assert abs(v_harm @ v_refusal) <= 0.1
    centres = [
        inst[side].mean(axis=0, keepdims=True).astype(np.float32) for side in (is_harmful, ~is_harmful)
    ]
    delta = belief(inst[:, None].astype(np.float32), *centres)
    assert ((delta > 0) == is_harmful).all()


# --- the detector, and check 9 ----------------------------------------------------------------------


def test_centres_are_the_means_and_scores_are_the_beliefs(tiny: LocalModel) -> None:
    harmless, harmful = training_items()
    detector = LatentGuard(context_for(tiny)).fit(harmless, harmful)
    assert detector.plan.rows == (1, 2, 3, 4)  # every block, without the embedding
    _, bad = detector.capture_items(harmful, detector.plan)
    _, good = detector.capture_items(harmless, detector.plan)
    centres = [block.values[:, :, 0].mean(axis=0) for block in (bad, good)]
    expected = belief(bad.values[:, :, 0], *centres)
    verdicts = list(detector.detect(harmful))
    assert [verdict.raw_score for verdict in verdicts] == pytest.approx(list(expected), abs=1e-6)
    assert [verdict.score for verdict in verdicts] == pytest.approx(list((expected + 2) / 4), abs=1e-6)
    assert [verdict.flagged for verdict in verdicts] == list(expected > 0)
    assert not verdicts[0].calibrated
    assert verdicts[0].provenance.threshold_source == "published"


def test_models_that_refuse_give_both_beliefs(tiny: LocalModel, tmp_path: Path) -> None:
    harmless, harmful = training_items()
    detector = LatentGuard(context_for(tiny)).fit(harmless, harmful, refused=harmful, accepted=harmless)
    detector.save(tmp_path / "p")
    again = create("latent-guard", context_for(tiny, profile=tmp_path / "p"))
    (verdict,) = again.detect([prompt(marked_texts()[0])])
    assert set(verdict.extra) == {"harmfulness_belief", "refusal_belief"}
    assert verdict.extra["harmfulness_belief"] == verdict.raw_score
    (plain,) = LatentGuard(context_for(tiny)).fit(harmless, harmful).detect([prompt(unmarked_texts()[0])])
    assert set(plain.extra) == {"harmfulness_belief"}


def test_what_cannot_be_fitted_is_named(tiny: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    harmless, harmful = training_items()
    detector = LatentGuard(context_for(tiny))
    with pytest.raises(FitError, match="one readable harmful item; none of 0"):
        detector.fit(harmless)
    with pytest.raises(FitError, match="one readable harmless item; none of 1"):
        detector.fit([prompt("")], harmful)
    with pytest.raises(FitError, match="both refused and accepted"):
        detector.fit(harmless, harmful, refused=harmful)
    capture = detector.engine.capture

    def spoiled(*args: object, **options: object) -> Activations:
        activations = capture(*args, **options)  # type: ignore[arg-type]
        return Activations(activations.plan, activations.values * np.float32(np.nan))

    monkeypatch.setattr(detector.engine, "capture", spoiled)
    with pytest.raises(FitError, match="activations of harmful items are not finite"):
        detector.fit(harmless, harmful)


def test_the_marker_s_sentence_is_closer_to_its_centre(build: Build) -> None:
    marked, unmarked = build("latent-guard").detect(
        [prompt(marked_texts()[0]), prompt(unmarked_texts()[0], 1)]
    )
    assert marked.raw_score is not None
    assert unmarked.raw_score is not None
    assert marked.raw_score > unmarked.raw_score
