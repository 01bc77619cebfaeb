"""On the trained testbed: beliefs of the buckets, what the refusal direction does, and fine-tuned copies."""

from __future__ import annotations

from pathlib import Path

import pytest

from tocsin.api.explain_directions import explain_directions
from tocsin.explain.directions import DirectionSettings

SETTINGS = DirectionSettings(n_fit=60, n_test=40, n_steered=24, n_rows=3, max_new_tokens=8, coefficient=2)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_harmfulness_and_refusal_come_apart(seed: int, tmp_path: Path) -> None:
    study = explain_directions(model=f"testbed:{seed}", settings=SETTINGS, out=tmp_path / "run").study
    beliefs = {bucket.name: bucket for bucket in study.buckets}
    for name, sign in {"refused harmful": 1, "accepted harmless": -1, "wrapped harmful": 1}.items():
        assert sign * (beliefs[name].harmfulness.value or 0) > 0, name
    assert (beliefs["wrapped harmful"].refusal.value or 0) < (beliefs["refused harmful"].refusal.value or 0)
    assert (study.auroc.value or 0) >= 0.95
    # Adding the refusal direction at some block makes every harmless request refused, while the question is
    # still answered by "no"; a random direction of equal length does not.
    added = [one for one in study.steering if one.sign == 1]
    assert any(
        (one.refused.value or 0) >= 0.9 and (one.says_no.value or 0) >= 0.8
        for one in added
        if one.direction == "refusal"
    )
    assert max(one.refused.value or 0 for one in added if one.direction == "random") <= 0.3
    tuned = {one.name: one for one in study.tuned}
    # The belief survives training by reward, by the original centres, though refusal is gone.
    assert tuned["reward"].refused <= 0.1
    assert (tuned["reward"].harmfulness.low or 0) > (tuned["reward"].harmless.high or 0)
