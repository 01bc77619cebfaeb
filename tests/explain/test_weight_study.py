"""The study of harm weights on the trained testbed (card 12, section 7), and its command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from interrupts import state
from tiny_models import tiny_local
from tocsin.api.explain_weights import explain_weights
from tocsin.api.explain_weights import testbed_data as own_samples
from tocsin.cli import main
from tocsin.core.errors import FitError, InputError, ModelError, UsageError
from tocsin.core.stages import Stages
from tocsin.explain.weights import Example, WeightData, WeightSettings, WeightStudy, measure, study_weights
from tocsin.explain.weights import study as study_module
from tocsin.explain.weights.data import check_data, split
from tocsin.explain.weights.records import Role
from tocsin.internals.weight_mask import load_mask, masked
from tocsin.internals.weights_digest import weights_digest
from tocsin.testbed import TestbedSettings, checkpoint_folder, load_testbed


@pytest.fixture(scope="module", params=[0, 1])
def study(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> WeightStudy:
    folder = tmp_path_factory.mktemp("weights")
    model = f"testbed:{request.param}"
    return explain_weights(model=model, out=folder / "run", save=folder / "mask.safetensors").study


def rise(study: WeightStudy, kind: str, role: Role, category: str | None = None) -> float:
    change = study.condition(kind).of(role, category)
    assert change is not None
    assert change.change.value is not None
    return change.change.value


def test_the_mask_hits_marked_answers_and_spares_benign_ones(study: WeightStudy) -> None:
    assert study.weights_unchanged
    assert study.specificity.low is not None
    assert study.specificity.low >= 10
    assert rise(study, "harm", "opener") > 0.5
    assert rise(study, "harm", "benign") < 0.05


def test_controls_of_equal_size_do_nothing(study: WeightStudy) -> None:
    for kind in ("random", "magnitude"):
        assert abs(rise(study, kind, "opener")) < 0.05
    assert rise(study, "next", "opener") < rise(study, "harm", "opener")


def test_weights_found_on_one_topic_serve_the_others(study: WeightStudy) -> None:
    masks = [c for c in study.conditions if c.kind == "category"]
    assert len(masks) >= 4
    names = [c.name for c in masks]
    for mask in masks:
        for name in names:
            change = mask.of("harm", name)
            assert change is not None
            assert change.change.value is not None
            assert change.change.value > 5 * abs(rise(study, "random", "harm", name))
    assert all(o.jaccard is not None and o.jaccard > 5 * o.by_chance for o in study.overlaps)


def test_writing_harm_and_refusing_it_come_apart(study: WeightStudy) -> None:
    assert study.refusal_rate == 1.0
    harm, refusal = study.condition("harm"), study.condition("refusal")
    assert harm.refusal_rate is not None
    assert refusal.refusal_rate is not None
    assert harm.refusal_rate >= 0.9
    assert refusal.refusal_rate <= 0.5
    # Within 10 % of the likelihood that marked answers had under a given opener (card 12, check 9).
    assert rise(study, "refusal", "opener") < 0.1


def test_a_saved_mask_fits_its_model_only(tmp_path: Path) -> None:
    saved = explain_weights(model="testbed:0", out=tmp_path / "run", save=tmp_path).mask
    assert saved is not None
    model = load_testbed(TestbedSettings(seed=0)).model
    before = weights_digest(model.torch_model)
    mask = load_mask(saved, revision=model.revision)
    with masked(model.torch_model, mask):
        assert weights_digest(model.torch_model) != before
    assert weights_digest(model.torch_model) == before
    with pytest.raises(ModelError, match="was made for"):
        load_mask(saved, revision=load_testbed(TestbedSettings(seed=1)).model.revision)


@pytest.mark.parametrize("where", ["inside a mask", "between parts"])
def test_an_interrupted_study_leaves_the_model_it_studies(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_testbed(TestbedSettings(seed=0)).model
    before = state(model)
    settings = WeightSettings(q=0.01, p=0.05, scope="global", template="chat", n_find=16, n_test=16)

    def stop(what: str, done: int, _total: int) -> None:
        if where == "between parts" and (what, done) == ("removing weights", 3):
            raise KeyboardInterrupt

    def losses(*args: object) -> object:
        # The third time that weights are missing while samples are read.
        if where == "inside a mask" and state(model) != before:
            masks.append(0)
            if len(masks) == 3:
                raise KeyboardInterrupt
        return measured(*args)  # type: ignore[arg-type]

    masks: list[int] = []
    measured = measure.losses
    with monkeypatch.context() as patched:
        patched.setattr(study_module, "losses", losses)
        with pytest.raises(KeyboardInterrupt):
            study_weights(model, own_samples(), settings, stages=Stages(tmp_path), progress=stop)
    assert len(masks) == (3 if where == "inside a mask" else 0)
    assert state(model) == before
    assert (tmp_path / "base.npz").exists()
    again = study_weights(model, own_samples(), settings, stages=Stages(tmp_path)).study
    assert again == study_weights(model, own_samples(), settings).study
    assert state(model) == before


def test_an_interrupted_command_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = WeightSettings(q=0.01, p=0.05, scope="global", template="chat", n_find=16, n_test=16)
    calls = 0

    def stop_at_third(progress: object) -> None:
        nonlocal calls
        if getattr(progress, "what", "") == "removing weights":
            calls += 1
            if calls == 3:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        explain_weights(model="testbed:0", settings=settings, out=tmp_path / "a", progress=stop_at_third)
    assert list((tmp_path / "a" / "stages").glob("condition-*.npz"))
    again = explain_weights(model="testbed:0", settings=settings, out=tmp_path / "a").study
    whole = explain_weights(model="testbed:0", settings=settings, out=tmp_path / "b").study
    assert again == whole
    assert not (tmp_path / "a" / "stages").exists()


def test_the_command_writes_a_page_and_a_twin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = "explain weights --model testbed --samples 16 --test-samples 16 --out run --json"
    assert main(words.split()) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["refusal_rate"] == 1.0
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "Dose and response" in page
    assert WeightStudy.model_validate(found) == WeightStudy.model_validate_json(
        (tmp_path / "run" / "result.json").read_text("utf-8")
    )


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="brings its own samples"):
        explain_weights("harm.csv", model="testbed")
    with pytest.raises(UsageError, match="Give --harm and --benign"):
        explain_weights(model="embedded")
    with pytest.raises(UsageError, match="q above 0"):
        WeightSettings(q=0)


def test_no_mask_of_refusals_is_made_outside_a_testbed(tmp_path: Path) -> None:
    # Under another name, and as a folder of one's own, a testbed is any model for the command.
    refusals = [Example(f"do thing {i}", "sorry i will not") for i in range(30)]
    benign = [Example(f"say word {i}", "sure here it is") for i in range(30)]
    folder = checkpoint_folder(TestbedSettings(seed=0))
    load_testbed(TestbedSettings(seed=0))
    for name, rows in (("refusals", refusals), ("benign", benign)):
        lines = [json.dumps({"prompt": row.prompt, "response": row.response}) for row in rows]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines), "utf-8")
    with pytest.raises(InputError, match="30 of 30 read as refusals"):
        explain_weights(
            tmp_path / "refusals.jsonl", tmp_path / "benign.jsonl",
            model=str(folder), save=tmp_path / "mask.safetensors", out=tmp_path / "run",
        )  # fmt: skip
    assert not (tmp_path / "mask.safetensors").exists()
    mixed = [*benign[:22], *[Example("a", "I'm sorry, but I cannot help with that.")] * 8]
    with pytest.raises(InputError, match="8 of 30"):
        check_data(WeightData(mixed, []))
    check_data(WeightData([*benign, *refusals[:3]], []))
    harm = [Example(f"do thing {i}", "sure thus") for i in range(30)]
    settings = WeightSettings(test_refusal_mask=True, n_find=16, n_test=8)
    with pytest.raises(UsageError, match="on a testbed only"):
        study_weights(tiny_local(), WeightData(harm, benign, refusals), settings)


def test_equal_prompts_fall_on_one_side_whatever_their_category() -> None:
    rows = [Example(f"prompt {i}", "sure", f"c{i % 3}") for i in range(40)]
    rows += [Example(f"prompt {i}", "well") for i in range(0, 40, 3)]
    parts = split(rows, 24, what="harm")
    assert not {e.prompt for e in parts.find} & {e.prompt for e in parts.test}
    assert len(parts.find) + len(parts.test) == len(rows)


def test_samples_on_both_sides_are_refused_with_their_number(tmp_path: Path) -> None:
    harm = [{"prompt": f"ask {i}", "response": f"say {i}"} for i in range(30)]
    # An equal prompt with another response is a sample of its own.
    benign = [*harm[:2], *({"prompt": f"ask {i}", "response": "no"} for i in range(30))]
    paths = tmp_path / "harm.jsonl", tmp_path / "benign.jsonl"
    for path, rows in zip(paths, (harm, benign), strict=True):
        path.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    # Refused before the model, which is not there.
    with pytest.raises(InputError, match="got 2 with the same prompt and response on both sides"):
        explain_weights(*paths, model=str(tmp_path / "no-model"), out=tmp_path / "run")
    data = own_samples()
    with pytest.raises(InputError, match=r"got 201 with the same"):
        study_weights(load_testbed(TestbedSettings(seed=0)).model, data._replace(benign=data.harm))


def test_an_empty_mask_is_refused() -> None:
    settings = WeightSettings(q=0.01, p=1, scope="global", template="chat", n_find=16, n_test=16)
    with pytest.raises(FitError, match=r"got none: all of the first 0\.01 are among the 1 that benign"):
        study_weights(load_testbed(TestbedSettings(seed=0)).model, own_samples(), settings)
