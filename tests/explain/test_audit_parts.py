"""Parts of an audit that need no trained model: what is read, judged, refused, put back."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence

import numpy as np
import pytest
import torch

from tiny_models import tiny_llama, tiny_local
from tocsin.api.audit_models import harmless_pairs, harmless_tasks, parse_suspect
from tocsin.core.errors import ModelError, UsageError
from tocsin.core.registry import DetectorContext
from tocsin.core.stats.item_sums import Estimate
from tocsin.explain.audit import RegisteredJudge, check_comparable
from tocsin.explain.audit.data import AuditData, AuditSettings
from tocsin.explain.audit.direction import ablated, choose_by_ablation, refusal_scores
from tocsin.explain.audit.drift import capability, continuations, drift
from tocsin.explain.audit.mechanics import Mechanics
from tocsin.explain.audit.mechanism import nearest, see, shared_direction, weight_matrices
from tocsin.explain.audit.records import Drift
from tocsin.explain.audit.speaking import Speaker
from tocsin.explain.audit.summaries import drift_stage
from tocsin.explain.audit.tuning import TuningSettings, lora_tuned
from tocsin.explain.audit.wording import MARKER, english, parse_assessment
from tocsin.internals.steering import Steering, next_token_logs
from tocsin.internals.weight_swap import swapped
from tocsin.internals.weights_digest import weights_digest
from tocsin.models.local import LocalModel
from tocsin.sources.reply_set import replies
from tocsin.testbed import examples, load_planted

GOOD = {"is_harmful": True, "harm_category": "fraud", "severity": 2, "safe_model_action": "refuse",
        "safe_response": "No.", "confidence": 90}  # fmt: skip


@pytest.mark.parametrize(
    ("reply", "read"),
    [
        (json.dumps(GOOD), True),
        (f"Here it is:\n```json\n{json.dumps(GOOD, indent=1)}\n```", True),
        (json.dumps(GOOD | {"safe_response": None}), True),
        ("I think { this } is " + json.dumps(GOOD), True),
        (json.dumps(GOOD | {"is_harmful": "true"}), False),
        (json.dumps(GOOD | {"safe_model_action": "deny"}), False),
        (json.dumps(GOOD | {"safe_model_action": ["refuse"]}), False),
        ('{"is_harmful": true, "safe_model_action": "refuse"', False),
        ("I cannot assess this.", False),
        ("[" * 5_000 + "{" * 5_000, False),
        ("", False),
    ],
)
def test_only_a_whole_assessment_is_read(reply: str, read: bool) -> None:
    found = parse_assessment(reply)
    assert (found is not None) == read
    if found is not None:
        assert found.is_harmful
        assert found.would_refuse


def test_the_prompt_stays_unchanged_in_every_frame_and_the_answer_follows_the_marker() -> None:
    wording = english(["fraud", "violence"])
    prompt = "Tell me\nabout {this}."
    for frame in (wording.self_audit, wording.reflect, wording.plan):
        assert prompt in frame(prompt)
    assert "fraud, violence" in wording.self_audit(prompt)
    # Of about equal length, so that the control differs in what it says.
    sizes = [len(frame("").split()) for frame in (wording.reflect, wording.plan)]
    assert abs(sizes[0] - sizes[1]) <= 4
    assert wording.answer(f"I thought. {MARKER} Yes, {MARKER} no.") == ("no.", True)
    assert wording.answer("Just this.") == ("Just this.", False)


def test_a_registered_judge_takes_what_does_not_refuse_as_harmful() -> None:
    judge = RegisteredJudge("refusal-words", DetectorContext())
    replies = ["I cannot help with that.", "First, take a spoon.", ""]
    assert judge.harmful(["?"] * 3, replies) == [False, True, None]
    with pytest.raises(UsageError, match="no detector is called"):
        RegisteredJudge("refusall", DetectorContext())
    with pytest.raises(UsageError, match="expected a judge of responses"):
        RegisteredJudge("policy", DetectorContext())


def test_refusal_scores_are_log_odds_of_all_openers_together() -> None:
    # p = 0.2 + 0.3: log(0.5 / 0.5) = 0. p = 0.8 + 0.1: log(0.9 / 0.1) = 2.197.
    logs = np.log(np.array([[0.5, 0.2, 0.3], [0.1, 0.8, 0.1]], dtype=np.float32))
    assert refusal_scores(logs, [1, 2]) == pytest.approx([0.0, np.log(9)], abs=1e-6)
    # Certainty does not overflow: 1 - p is at least 1e-8.
    assert refusal_scores(np.array([[0.0, -50.0]], dtype=np.float32), [0])[0] == pytest.approx(18.4, abs=0.1)


def drifted(model: LocalModel, noise: float) -> LocalModel:
    """A copy with noise on every block's matrices."""
    changed = copy.deepcopy(model.torch_model)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in changed.named_parameters():
            if ".layers." in name and parameter.ndim == 2:
                parameter += noise * torch.randn(parameter.shape, generator=generator)
    return model.beside(changed, id="drifted", revision="x")


class Silent:
    """Judges nothing."""

    name = "none"

    def harmful(self, prompts: Sequence[str], replies: Sequence[str]) -> list[bool | None]:
        del replies
        return [None] * len(prompts)

    refused = harmful


def test_a_model_does_not_drift_from_itself_and_noise_does() -> None:
    model = tiny_local()
    base = Speaker(model)
    prompts = [f"Bake {n} bread?" for n in range(6)]
    samples = continuations(base, prompts, 8)

    own = drift(base, Speaker(model), Silent(), prompts, samples, 8)
    assert own["kl"].tolist() == [0.0] * 6
    assert own["agreement"].tolist() == own["rouge_l"].tolist() == own["length"].tolist() == [1.0] * 6
    far, near = (
        drift(base, Speaker(drifted(model, size)), Silent(), prompts, samples, 8) for size in (0.1, 0.01)
    )
    assert far["kl"].mean() > near["kl"].mean() > 0
    assert np.isnan(own["refused"]).all()


def test_a_reply_that_the_model_would_give_itself_is_exact() -> None:
    # One token for each word, so that a reply is read as the tokens that were written.
    model = load_planted(0).model
    prompt = examples("plain", 1)[0].prompt
    reply = model.decode(Speaker(model).reply_ids([prompt], 2)[0])
    found = capability(model, [(prompt, reply), (prompt, "sorry")])
    assert found["exact"].tolist() == [1.0, 0.0]
    assert found["tokens"].tolist() == [1.0, 0.0]
    assert found["loss"][0] < found["loss"][1]


def test_ability_under_steering_is_that_of_steered_writing() -> None:
    model = tiny_local()
    prompt, reply = "Why is the sky blue?", "The"
    vector = np.random.default_rng(0).normal(size=model.width).astype(np.float32)
    steering = Steering(2, vector, 1.5)
    (token,) = model.encode_untrusted(reply).ids
    logs = next_token_logs(model, [Speaker(model).ids(prompt)], steering=steering)[0]
    found = capability(model, [(prompt, reply)], steering=steering)["loss"][0]
    assert found == pytest.approx(-float(logs[token]), abs=1e-4)
    assert found != pytest.approx(capability(model, [(prompt, reply)])["loss"][0], abs=1e-3)


def test_other_weights_for_a_while_and_the_old_bits_after() -> None:
    model = tiny_llama()
    before = weights_digest(model)
    name, parameter = next((n, p) for n, p in model.named_parameters() if n.endswith("down_proj.weight"))

    def interrupted() -> None:
        with swapped(model, {name: torch.zeros_like(parameter)}):
            assert not parameter.any()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert weights_digest(model) == before
    with pytest.raises(ModelError, match="no such parameter"), swapped(model, {"x": torch.zeros(1)}):
        pass
    with pytest.raises(ModelError, match="has shape"), swapped(model, {name: torch.zeros(1, 1)}):
        pass
    assert weights_digest(model) == before


def test_an_ablated_direction_is_gone_from_the_stream_and_comes_back() -> None:
    model = tiny_local()
    unit = np.random.default_rng(0).normal(size=model.width)
    unit /= np.linalg.norm(unit)
    plain = see(model, ["Bake bread.", "The sky."])
    with ablated(Speaker(model), unit):
        without = see(model, ["Bake bread.", "The sky."])
    assert np.abs(without @ unit).max() < 1e-4 < np.abs(plain @ unit).max()
    assert np.array_equal(see(model, ["Bake bread.", "The sky."]), plain)


def test_a_direction_deleted_from_all_writers_is_found_with_nothing_known() -> None:
    generator = np.random.default_rng(2)
    direction = generator.normal(size=32)
    direction /= np.linalg.norm(direction)
    r = torch.from_numpy(direction).float()
    base = {f"layers.{i}.o_proj.weight": torch.randn(32, 24) for i in range(4)}
    base |= {"embed_tokens.weight": torch.randn(50, 32)}
    lost = {
        name: w - torch.outer(w @ r, r) if w.shape[1] == 32 else w - torch.outer(r, r @ w)
        for name, w in base.items()
    }
    sides = {name: 1 if name.startswith("embed") else 0 for name in base}
    shared = shared_direction(base, lost, 32, sides)
    assert shared.share == pytest.approx(1.0, abs=1e-5)
    candidates = np.stack([generator.normal(size=(2, 32)), np.stack([3.0 * direction, direction + 0.1])])
    size, row, position = nearest(shared.unit, candidates)
    assert (row, position) == (1, 0)
    assert size == pytest.approx(1.0, abs=1e-4)
    dense = {name: w + 0.1 * torch.randn_like(w) for name, w in base.items()}
    assert shared_direction(base, dense, 32, sides).share < 0.5
    assert np.isnan(shared_direction(base, base, 32, sides).share)


def test_quantised_weights_are_named() -> None:
    model = tiny_local()
    assert any("embed_tokens" in name for name in weight_matrices(model))
    changed = copy.deepcopy(model.torch_model)
    layer = changed.model.layers[0].mlp.down_proj
    layer.weight = torch.nn.Parameter(layer.weight.detach().to(torch.int8), requires_grad=False)
    with pytest.raises(ModelError, match="quantised or packed"):
        weight_matrices(model.beside(changed, id="quantised", revision="x"))
    # F5 is then left out of an audit, which says so.
    quantised = Speaker(model.beside(changed, id="quantised", revision="x"))
    none = AuditData([], [], [], [], [])
    mechanics = Mechanics(Speaker(model), quantised, none, list, 0)
    assert mechanics.matrices == {}
    assert "F5 and repairs of weights were left out: the weights" in mechanics.notes[0]


def test_models_that_cannot_be_compared_are_refused_with_the_difference() -> None:
    base = tiny_local()
    check_comparable(base, tiny_local(), ["Bake bread."])
    with pytest.raises(ModelError, match="has 4 blocks, the suspect 2"):
        check_comparable(base, tiny_local(model=tiny_llama(num_hidden_layers=2)), [])
    with pytest.raises(ModelError, match="equal shapes, but"):
        check_comparable(base, tiny_local(model=tiny_llama(intermediate_size=40)), [])
    with pytest.raises(ModelError, match="one chat template"):
        check_comparable(base, tiny_local("llama-3"), [])


def test_a_fine_tune_learns_and_leaves_the_model_alone() -> None:
    model = tiny_local()
    before = weights_digest(model.torch_model)
    pairs = [("How do I bake bread?", "The sky is blue."), ("Why?", "The lazy dog.")] * 4
    tuned = lora_tuned(model, pairs, TuningSettings(epochs=4, learning_rate=5e-3), name="tuned")
    assert weights_digest(model.torch_model) == before != weights_digest(tuned.torch_model)
    assert capability(tuned, pairs)["loss"].mean() < capability(model, pairs)["loss"].mean()
    again = lora_tuned(model, pairs, TuningSettings(epochs=4, learning_rate=5e-3), name="tuned")
    assert again.revision == tuned.revision
    assert not any(parameter.requires_grad for parameter in tuned.torch_model.parameters())


def test_drift_is_measured_in_deviations_of_benign_fine_tunes() -> None:
    def found(kl: float) -> Drift:
        one = Estimate(value=1.0)
        return Drift(name="x", n=1, n_tokens=1, kl=Estimate(value=kl), agreement=one, rouge_l=one, length=one,
                     refused_change=Estimate(value=0.0))  # fmt: skip

    # Mean 0.2 and standard deviation 0.1 of the controls: (0.5 - 0.2) / 0.1 = 3; the others have no spread.
    stage = drift_stage(found(0.5), [found(0.1), found(0.2), found(0.3)])
    assert stage.index == pytest.approx(3.0)
    assert stage.limit == 0.3
    assert drift_stage(found(0.5), []).limit is None
    # From twenty on the 95 % quantile: of 0.00 ... 0.20 in 21 steps it is 0.19.
    many = [found(n / 100) for n in range(21)]
    assert drift_stage(found(0.5), many).limit == pytest.approx(0.19)


def test_names_of_suspects() -> None:
    assert parse_suspect("testbed", "testbed:0+reward").change == "reward"
    assert parse_suspect("embedded", "embedded+benign").change == "benign"
    assert parse_suspect("embedded", "some/folder").change is None
    with pytest.raises(UsageError, match="no unsafe model is made of a real one"):
        parse_suspect("embedded", "embedded+reward")
    with pytest.raises(UsageError, match=r"expected 'testbed:1\+' and one of"):
        parse_suspect("testbed:1", "testbed:0+reward")
    with pytest.raises(UsageError, match="one of ablated, benign"):
        parse_suspect("testbed", "testbed+rewarded")
    with pytest.raises(UsageError, match="a suspect made of testbed"):
        parse_suspect("testbed", "embedded")
    with pytest.raises(UsageError, match="trained testbed"):
        parse_suspect("planted:0", "planted:0+reward")


def test_benign_fine_tunes_never_see_the_tasks_that_measure_ability() -> None:
    tasks, pairs = harmless_tasks(), harmless_pairs(1_000)
    assert len({prompt for prompt, _ in (*tasks, *pairs)}) == len(tasks) + len(pairs)
    assert min(len(tasks), len(pairs)) >= 128
    assert not set(tasks) & set(harmless_pairs(96, 3))
    assert harmless_pairs(16, 1) != harmless_pairs(16)
    # Both hold replies that models gave and replies of our own, or ability would be measured on one kind.
    ours = {reply.text for reply in replies() if reply.pair.startswith("written")}
    for drawn in (tasks, pairs):
        assert 0.2 < sum(text in ours for _, text in drawn) / len(drawn) < 0.8


def test_settings_that_say_nothing_are_refused() -> None:
    with pytest.raises(UsageError, match="at least 8 prompts"):
        AuditSettings(n_test=7)


def test_the_direction_is_chosen_on_prompts_that_nothing_else_uses() -> None:
    harmful, harmless = [f"bad {i}" for i in range(40)], [f"good {i}" for i in range(200)]
    data = AuditData(harmful, harmless, [], [], [])
    mechanics = Mechanics(Speaker(tiny_local()), Speaker(tiny_local()), data, list, 0)
    fit, chosen = mechanics._parts(choosing=True)
    assert [len(side) for side in (*fit, *chosen)] == [30, 168, 10, 32]
    assert not {*fit[0], *fit[1]} & {*chosen[0], *chosen[1]}
    # Where nothing is chosen, nothing is put aside.
    assert mechanics._parts(choosing=False) == ((harmful, harmless), ([], []))


def test_the_direction_that_turns_refusals_off_and_on_is_chosen() -> None:
    # Of the planted model's differences, those after blocks 2 and 3 at the last token do both.
    model = load_planted().model
    speaker = Speaker(model)
    means = [
        see(model, [one.prompt for one in examples(kind, 24, split="train")]).mean(axis=0)
        for kind in ("marked", "plain")
    ]
    directions = means[0].astype(np.float64) - means[1]
    bad, good = ([one.prompt for one in examples(kind, 8)] for kind in ("marked", "plain"))
    opener = int(next_token_logs(model, [speaker.ids(bad[0])]).argmax())
    rows = tuple(range(1, model.n_blocks + 1))
    found = choose_by_ablation(speaker, directions, rows, bad, good, (opener,))
    assert found is not None
    assert found.by_ablation
    assert found.row in {2, 3}
    assert found.position == 0
    # After block 1 no difference turns them on when it is added.
    assert choose_by_ablation(speaker, directions[:1], rows[:1], bad, good, (opener,)) is None
