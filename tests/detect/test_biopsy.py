"""LatentBiopsy as a detector: its options, its fit and its refusals (card 17, sections 3.4 to 3.6 and 7)."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detect_items import MARKED, prompt, training_items, unmarked_texts
from tiny_detectors import context_for
from tocsin.core.errors import FitError, ProfileError, UsageError
from tocsin.core.records import Item, Verdict
from tocsin.core.registry import DetectorContext, create
from tocsin.detect.biopsy import Biopsy, BiopsySettings, conformal_p
from tocsin.models.local import LocalModel

HARMLESS = training_items()[0]
HARMFUL = training_items()[1]


def made(tiny: LocalModel, profile: Path | None = None, **options: Any) -> Biopsy:
    detector = create("biopsy", context_for(tiny, profile=profile, options={"biopsy": options}))
    assert isinstance(detector, Biopsy)
    return detector


def scores(detector: Biopsy, items: list[Item]) -> list[Verdict]:
    return list(detector.detect(items))


def test_it_is_fitted_on_harmless_prompts_only(tiny: LocalModel) -> None:
    detector = made(tiny)
    with pytest.raises(FitError, match="harmless prompts only"):
        detector.fit(HARMLESS, HARMFUL)
    with pytest.raises(FitError, match="harmless prompts only"):
        made(tiny, harmful_ref=True).fit(HARMLESS)
    assert detector.fit(HARMLESS) is detector


def test_too_few_prompts_are_refused(tiny: LocalModel) -> None:
    with pytest.raises(FitError, match=r"at least 40 readable harmless prompts.*39 of 41"):
        made(tiny).fit([*HARMLESS[:39], prompt("", 900), prompt("你好世界", 901)])


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"colour": 1}, "no option colour. It has: harmful_ref"),
        ({"n_directions": 0}, "at least 1"),
        ({"top_d_dims": 0}, "at least 1"),
        ({"n_fit": 2}, "n_fit of at least 3, got 2"),
        ({"scorer": "best"}, "option scorer"),
        ({"n_directions": "many"}, "option n_directions"),
    ],
)
def test_options_out_of_range_are_named(options: dict[str, object], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        BiopsySettings.from_options(options)  # type: ignore[arg-type]


@pytest.mark.parametrize("layer", [4, -5])
def test_a_layer_out_of_range_is_refused(tiny: LocalModel, layer: int) -> None:
    with pytest.raises(UsageError, match=f"layer {layer} is out of range; tiny has blocks 0 to 3"):
        made(tiny, layers=layer).fit(HARMLESS)


def test_negative_layers_count_from_the_end(tiny: LocalModel) -> None:
    detector = made(tiny, layers=[-1, 0, 3]).fit(HARMLESS)
    assert detector.layers == (0, 3)
    assert detector.plan.rows == (1, 4)


def test_the_last_block_is_read_after_the_final_norm(tiny: LocalModel) -> None:
    detector = made(tiny, layers=-1)
    kept, activations = detector.fit(HARMLESS).capture_items(HARMLESS[:4], detector.plan)
    assert len(kept) == 4
    (states,) = detector._states(activations)
    np.testing.assert_allclose(states, tiny.final_norm(activations.values[:, 0, 0]))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scorer": "sincos-gmm"},
        {"scorer": "sincos-gmm", "n_gmm_components": 2, "n_directions": 3},
        {"layers": [1, 2], "n_directions": 2},
        {"top_d_dims": 5},
        {"top_d_dims": 1},
        {"template": "raw", "position": "post", "normalise": "none", "layers": -1, "layer_source": "argmax"},
        {"n_fit": 20, "n_directions": 500},
    ],
)
def test_every_option_fits_saves_and_scores_alike(
    tiny: LocalModel, tmp_path: Path, options: dict[str, Any]
) -> None:
    fitted = made(tiny, **options).fit(HARMLESS)
    fitted.save(tmp_path / "p")
    items = [*HARMFUL[:5], *HARMLESS[:5]]
    loaded = made(tiny, tmp_path / "p")
    verdicts = scores(loaded, items)
    assert verdicts == scores(fitted, items) == scores(made(tiny, tmp_path / "p", **options), items)
    assert np.isfinite([verdict.raw_score or np.nan for verdict in verdicts]).all()
    assert all(0 <= float(str(verdict.extra["theta"])) <= np.pi for verdict in verdicts)
    assert all(-np.pi <= float(str(verdict.extra["phi"])) <= np.pi for verdict in verdicts)
    stored = loaded.profile.facts["settings"]
    assert isinstance(stored, dict)
    assert stored["layer_source"] == options.get("layer_source", "fixed")
    assert stored["layers"] == list(fitted.layers)


def test_more_dimensions_than_there_are_is_the_same_as_all(tiny: LocalModel) -> None:
    whole, capped = made(tiny).fit(HARMLESS), made(tiny, top_d_dims=10_000).fit(HARMLESS)
    raw = [[verdict.raw_score for verdict in scores(detector, HARMFUL)] for detector in (whole, capped)]
    assert raw[0] == raw[1]


def test_the_number_of_directions_is_capped_at_the_rows(tiny: LocalModel) -> None:
    detector = made(tiny, n_directions=500, n_fit=20).fit(HARMLESS)
    assert detector.profile.tensors["directions.2"].shape == (19, 32)


def test_a_profile_is_bound_to_the_options_it_was_fitted_with(tiny: LocalModel, tmp_path: Path) -> None:
    made(tiny, n_directions=2).fit(HARMLESS).save(tmp_path / "p")
    for options, named in (
        ({"scorer": "sincos-gmm"}, "another scorer than"),
        ({"n_directions": 1, "layers": 0}, "another layers, n_directions than"),
        ({"template": "raw"}, "another template than"),
    ):
        with pytest.raises(ProfileError, match=named):
            scores(made(tiny, tmp_path / "p", **options), HARMFUL[:1])
    assert scores(made(tiny, tmp_path / "p", n_directions=2, layers=-3), HARMFUL[:1])


def test_the_seed_chooses_the_fit_rows(tiny: LocalModel) -> None:
    def first(seed: int) -> float | None:
        context = context_for(tiny, seed=seed, options={"biopsy": {"n_fit": 25}})
        return next(iter(Biopsy(context).fit(HARMLESS).detect(HARMFUL))).raw_score

    assert first(0) == first(0) != first(1)


def test_about_one_in_twenty_harmless_prompts_is_flagged(tiny: LocalModel) -> None:
    detector = made(tiny).fit(HARMLESS)
    flagged = [bool(verdict.flagged) for verdict in scores(detector, HARMLESS)]
    assert np.mean(flagged) <= 0.1
    assert detector.threshold == (0.95, "conformal")


def test_unusual_prompts_are_flagged_and_called_unusual(tiny: LocalModel) -> None:
    odd = [prompt("zq xw kj vv " * 6 + str(index), index) for index in range(5)]
    context = DetectorContext(shared={"model:embedded::": tiny})
    detector = Biopsy(context).fit(HARMLESS)
    decision = detector.decide(float(detector.profile.tensors["calibration"][-1]) + 1_000, 1)
    assert decision.score > 0.95
    assert detector.label_flagged == "unusual"
    assert len(scores(detector, odd)) == 5


def test_the_correction_for_windows_is_a_shift_that_never_runs_out(tiny: LocalModel) -> None:
    detector = made(tiny).fit(HARMLESS)
    top = float(detector.profile.tensors["calibration"][-1])
    assert detector.decide(top + 0.5, 1).raw == top + 0.5
    # p = 1 / (n + 1) with the 20 calibration scores that 60 prompts leave.
    assert detector.decide(top + 1_000, 1).score == pytest.approx(1 - 1 / 21)
    shifts = [top - detector.decide(top, windows).raw for windows in (10, 100)]
    assert shifts[1] == pytest.approx(2 * shifts[0])  # beta log w
    assert shifts[0] > 0
    assert detector.decide(top + 2 * shifts[1], 100).score > 0.95


@given(st.lists(st.floats(-5, 5), min_size=3, max_size=40), st.floats(-6, 9), st.floats(0, 3))
def test_p_values_are_never_below_the_usual_conformal_ones(
    values: list[float], score: float, beta: float
) -> None:
    calibration = np.sort(np.array(values))
    usual = (1 + (calibration >= score).sum()) / (len(values) + 1)
    assert usual - 1e-12 <= conformal_p(score, calibration, beta) <= 1


def test_p_values_by_hand() -> None:
    calibration = np.array([1.0, 2.0, 4.0])
    # (1 + number at least as high) / 4 at the scores: 1, 3/4, 2/4; half-way between 2 and 4: 5/8; above the
    # last: 2/4 exp(-1) = 0.18394 is below the least value, 1/4.
    scores = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0)
    assert [conformal_p(score, calibration, 1.0) for score in scores] == [1, 1, 0.75, 0.625, 0.5, 0.25]


def test_the_supervised_variant_finds_what_it_was_shown(tiny: LocalModel) -> None:
    detector = made(tiny, harmful_ref=True).fit(HARMLESS, HARMFUL)
    high = np.mean([verdict.raw_score or 0 for verdict in scores(detector, HARMFUL)])
    low = np.mean([verdict.raw_score or 0 for verdict in scores(detector, HARMLESS)])
    assert high > low
    assert abs(float(detector.profile.tensors["sign"][0])) == 1


def test_normalisation_is_an_option_and_recorded(tiny: LocalModel) -> None:
    text = unmarked_texts()[0]
    as_is = made(tiny, normalise="none").fit(HARMLESS)
    one, other = scores(as_is, [prompt(text), prompt(text + "?", 1)])
    assert one.raw_score != other.raw_score
    assert one.provenance.normalisation == ()
    evened = made(tiny).fit(HARMLESS)
    one, other = scores(evened, [prompt(text), prompt(text + "?", 1)])
    assert one.raw_score == other.raw_score
    assert "final-punctuation" in one.provenance.normalisation
    assert MARKED not in one.model_dump_json()
