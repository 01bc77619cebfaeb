"""The study of mediated effects from prompts to page (card 05, section 7, checks 7, 9 and 10)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from interrupts import interrupting, state
from tocsin.api.explain_mediation import TESTBED_SETTINGS, explain_mediation, read_pairs
from tocsin.api.explain_mediation import testbed_pairs as own_pairs
from tocsin.api.explain_mediation_page import mediation_page
from tocsin.cli import main
from tocsin.core.errors import InputError, UsageError
from tocsin.core.stages import Stages
from tocsin.explain.mediation import MediationSettings, MediationStudy, study_mediation
from tocsin.explain.mediation.data import Construction
from tocsin.explain.mediation.estimates import Resamples
from tocsin.internals.patching import Patcher
from tocsin.testbed import TestbedSettings, load_planted, load_testbed

SMALL = MediationSettings(
    compliant=TESTBED_SETTINGS.compliant,
    refusing=TESTBED_SETTINGS.refusing,
    n_pairs=20,
    n_resamples=200,
    n_verify=16,
)


@pytest.mark.parametrize("seed", [0, 1])
def test_planted_parts_are_ranked_first(seed: int, tmp_path: Path) -> None:
    truth = load_planted(seed).truth
    assert truth is not None
    settings = replace(SMALL, levels=("module", "head", "gate"))
    study = explain_mediation(model=f"planted:{seed}", settings=settings, out=tmp_path / "run").study
    assert study.weights_unchanged
    mlps = [e for e in study.level("module").effects if e.name.endswith("mlp")]
    strength = {e.name: abs(e.nie.value or 0.0) for e in mlps}
    assert max(strength, key=lambda name: strength[name]) == f"block {truth.harm_block + 1} mlp"
    assert study.gate is not None
    assert set(study.gate.neurons[: len(truth.gate_neurons)]) == set(truth.gate_neurons)
    heads = sorted(study.level("head").effects, key=lambda e: -abs(e.nie.value or 0.0))
    marks = {f"head {block + 1}.{head + 1}" for block, head in truth.mark_heads}
    assert {e.name for e in heads[: len(marks)]} == marks


def test_the_decision_of_a_trained_testbed_is_fully_mediated_by_its_last_stream(tmp_path: Path) -> None:
    settings = replace(SMALL, levels=("layer", "module"))
    study = explain_mediation(model="testbed:0", settings=settings, out=tmp_path / "run").study
    assert study.te.high is not None
    assert study.te.high < 0
    last = study.level("layer").effects[-1]
    assert last.nie.value == pytest.approx(study.te.value, rel=1e-4)
    assert last.nie_share.value == pytest.approx(1.0, abs=1e-4)
    # The control of equal size moves each module far less than the patch does.
    strongest = max(study.level("module").effects, key=lambda e: abs(e.nie.value or 0.0))
    assert strongest.control is not None
    assert abs(strongest.control.value or 0.0) < 0.3 * abs(strongest.nie.value or 0.0)


def test_the_test_of_no_effect_is_rarely_wrong_on_null_data() -> None:
    # 2,000 components that do nothing to 30 pairs: about 5 % of them may look as if they did.
    values = np.random.default_rng(5).normal(size=(30, 2000))
    p = Resamples(1000, seed=0).p_values(values)
    assert 0.03 <= (p < 0.05).mean() <= 0.07


@pytest.mark.parametrize("construction", ["aligned", "noise"])
def test_refusals_of_harmless_prompts_are_those_of_harmless_prompts(construction: Construction) -> None:
    model = load_planted(0).model
    pairs, _ = own_pairs()
    settings = replace(SMALL, construction=construction, levels=("gate",), n_pairs=12, n_verify=4)
    gate = study_mediation(model, pairs, settings).gate
    assert gate is not None
    # The planted model refuses every marked request, and no plain one.
    assert gate.refusals_before == (0.0, 1.0)
    assert {one.intervention: one.harmless_refusals for one in gate.utility}["mean"] == 0.0


def test_refusals_of_harmless_prompts_are_not_measured_where_there_are_none() -> None:
    pairs = [pair._replace(harmless=pair.harmful) for pair in own_pairs()[0]]
    settings = replace(SMALL, construction="noise", levels=("gate",), n_pairs=12, n_verify=4)
    study = study_mediation(load_planted(0).model, pairs, settings)
    assert study.gate is not None
    assert study.gate.refusals_before == (None, 1.0)
    assert all(one.harmless_refusals is None for one in study.gate.utility)
    assert all(one.perplexity_ratio.value is None for one in study.gate.utility)
    assert mediation_page(study)


@pytest.mark.parametrize(("hook", "at"), [("_writing", 30), ("held", 2), (None, 0)])
def test_an_interrupted_study_leaves_the_model_it_studies(
    hook: str | None, at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inside a patch, inside a gate that is held at every place, and between parts."""
    model = load_testbed(TestbedSettings(seed=0)).model
    before = state(model)
    pairs, _ = own_pairs()
    settings = replace(SMALL, levels=("module", "gate"), n_pairs=12, n_verify=4)

    def stop(what: str, done: int, _total: int) -> None:
        if hook is None and (what, done) == ("patching", 5):
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        if hook is not None:
            block = interrupting(getattr(Patcher, hook), model, at=at, when=lambda *_args, **_options: True)
            patched.setattr(Patcher, hook, block)
        with pytest.raises(KeyboardInterrupt):
            study_mediation(model, pairs, settings, stages=Stages(tmp_path), progress=stop)
    assert state(model) == before
    assert list(tmp_path.glob("sweep-*.npz"))
    again = study_mediation(model, pairs, settings, stages=Stages(tmp_path))
    assert again == study_mediation(model, pairs, settings)
    assert state(model) == before


def test_an_interrupted_command_goes_on(tmp_path: Path) -> None:
    few = replace(SMALL, levels=("layer", "module"))

    def stop(progress: object) -> None:
        if getattr(progress, "what", "") == "patching" and getattr(progress, "done", 0) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        explain_mediation(model="testbed:0", settings=few, out=tmp_path / "a", progress=stop)
    assert len(list((tmp_path / "a" / "stages").glob("sweep-*.npz"))) == 5
    again = explain_mediation(model="testbed:0", settings=few, out=tmp_path / "a").study
    whole = explain_mediation(model="testbed:0", settings=few, out=tmp_path / "b").study
    assert again == whole
    assert not (tmp_path / "a" / "stages").exists()


def test_a_judge_can_be_the_outcome(tmp_path: Path) -> None:
    settings = MediationSettings(
        compliant=SMALL.compliant, refusing=SMALL.refusing, outcome="judge", levels=("layer", "module"),
        n_pairs=10, n_resamples=100, max_reply_tokens=6,
    )  # fmt: skip
    study = explain_mediation(
        model="testbed:0", settings=settings, judge="refusal-words", out=tmp_path / "run"
    ).study
    # Replies to marked requests begin with "sorry", which the list of words knows.
    assert abs(study.te.value or 0.0) == pytest.approx(1.0)
    assert study.level("layer").effects[-1].nie_share.value == pytest.approx(1.0)


def test_the_fast_mode_states_its_agreement(tmp_path: Path) -> None:
    settings = MediationSettings(
        compliant=SMALL.compliant, refusing=SMALL.refusing, levels=("module", "head"), n_pairs=12,
        n_resamples=100, fast=True,
    )  # fmt: skip
    study = explain_mediation(model="planted:0", settings=settings, out=tmp_path / "run").study
    for level in study.levels:
        assert level.is_estimated
        assert level.agreement is not None
        assert level.n_agreement > 0


def test_the_command_writes_a_page_and_a_twin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = "explain mediation --model planted:0 --pairs 10 --level module --level gate --out run --json"
    assert main(words.split()) == 0
    found = json.loads(capsys.readouterr().out)
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "Gate neurons" in page
    assert MediationStudy.model_validate(found) == MediationStudy.model_validate_json(
        (tmp_path / "run" / "result.json").read_text("utf-8")
    )


def test_files_and_settings_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    harmful, harmless = tmp_path / "harmful.jsonl", tmp_path / "harmless.jsonl"
    harmful.write_text("\n".join(json.dumps({"prompt": f"kite {i}"}) for i in range(12)), "utf-8")
    harmless.write_text("\n".join(json.dumps({"prompt": f"kite {i}"}) for i in range(12)), "utf-8")
    with pytest.raises(InputError, match="at least 10 pairs of different prompts, got 0"):
        explain_mediation(harmful, harmless, out=tmp_path / "a", offline=True)
    with pytest.raises(UsageError, match="got one of them"):
        explain_mediation(harmful, out=tmp_path / "b")
    with pytest.raises(UsageError, match="brings its own prompts"):
        explain_mediation(harmful, harmless, model="testbed", out=tmp_path / "c")
    with pytest.raises(UsageError, match="exactly where the outcome is 'judge'"):
        explain_mediation(model="testbed", judge="refusal-words", out=tmp_path / "d")
    with pytest.raises(UsageError, match="no gradient"):
        MediationSettings(outcome="judge", fast=True)
    with pytest.raises(UsageError, match="only last places"):
        MediationSettings(at="content")
    blank = MediationSettings(compliant=(" ",), refusing=("sorry",), n_pairs=10)
    with pytest.raises((InputError, UsageError), match="opener"):
        explain_mediation(model="testbed:0", settings=blank, out=tmp_path / "e")
    same = MediationSettings(compliant=("the",), refusing=("the",), n_pairs=10, levels=("layer",))
    with pytest.raises((InputError, UsageError)):
        explain_mediation(model="testbed:0", settings=same, out=tmp_path / "f")


def test_prompts_without_a_partner_are_counted(tmp_path: Path) -> None:
    harmful, harmless = tmp_path / "harmful.csv", tmp_path / "harmless.csv"
    harmful.write_text("prompt,topic\none bad,a\ntwo bad,b\nthree bad,c\n", "utf-8")
    harmless.write_text("prompt,topic\none good,a\ntwo good,b\nagain good,a\nlast good,d\n", "utf-8")
    names = {"prompt": "prompt", "harmless_prompt": "prompt"}
    by_order, _, notes = read_pairs(harmful, harmless, **names, pair=None)
    assert [pair.harmless for pair in by_order] == ["one good", "two good", "again good"]
    assert notes == ("0 harmful and 1 harmless prompts have no partner and were not used.",)
    by_name, _, notes = read_pairs(harmful, harmless, **names, pair="topic")
    assert by_name == [("one bad", "one good"), ("two bad", "two good")]
    assert notes == ("1 harmful and 2 harmless prompts have no partner and were not used.",)
    harmless.write_text("prompt,topic\none good,a\ntwo good,b\nthree good,c\n", "utf-8")
    assert read_pairs(harmful, harmless, **names, pair="topic")[2] == ()
