"""Card 05, section 7, checks 1 to 6 and 8 to 9, on models whose effects are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import tiny_mediators as toys
from tiny_models import tiny_local
from tocsin.core.errors import ModelError
from tocsin.explain.mediation import MediationSettings, MediationStudy, PromptPair, study_mediation
from tocsin.internals.anatomy import Site, SiteKind
from tocsin.internals.layout import PromptLayout
from tocsin.internals.outcomes import LogitMargin, SequenceMargin
from tocsin.internals.patching import Clean, Patch, Patcher
from tocsin.models.local import LocalModel

KINDS: tuple[SiteKind, ...] = ("embedding", "layer", "attention", "mlp", "head", "neurons")
LAST = (-1,)


def patcher_of(model: LocalModel, *, max_rows: int = 32) -> Patcher:
    first, second = (toys.WORDS.index(w) for w in ("yes", "no"))
    return Patcher(model, LogitMargin((first,), (second,)), KINDS, max_rows=max_rows)


def both(patcher: Patcher, pair: PromptPair, tail: int = 1) -> tuple[Clean, Clean]:
    """The harmless and the harmful run."""
    layout = PromptLayout(patcher.model, "raw")
    return tuple(  # type: ignore[return-value]
        patcher.clean(layout.build(text).ids, tail) for text in (pair.harmless, pair.harmful)
    )


def study(model: LocalModel, n: int = 30, **changes: object) -> MediationStudy:
    settings = {"compliant": ("yes",), "refusing": ("no",), "n_resamples": 500, "n_verify": 16}
    chosen = MediationSettings(**(settings | changes))  # type: ignore[arg-type]
    return study_mediation(model, toys.pairs(n), chosen)


def all_sites(patcher: Patcher) -> list[Site]:
    return [
        Site(kind, block, last=patcher.anatomy.n_neurons if kind == "neurons" else 0)
        for kind in KINDS
        for block in range(1 if kind == "embedding" else patcher.anatomy.n_blocks)
    ]


@pytest.fixture(scope="module")
def tiny() -> LocalModel:
    return tiny_local()


def test_a_component_patched_with_its_own_value_changes_nothing_to_the_last_bit(tiny: LocalModel) -> None:
    # One row at a time: the shape of a matrix product decides how it is rounded.
    patcher = Patcher(tiny, LogitMargin((5, 6), (7, 8)), KINDS, max_rows=1)
    ids = PromptLayout(tiny).build("why is the sky blue").ids
    for tail in (1, 4):
        run = patcher.clean(ids, tail)
        places = tuple(range(-tail, 0))
        patches = [Patch((site,), places) for site in all_sites(patcher)]
        assert (patcher.patched(run, run, patches) == run.outcome).all()


def test_an_empty_set_of_components_or_places_has_no_effect(tiny: LocalModel) -> None:
    patcher = Patcher(tiny, LogitMargin((5, 6), (7, 8)), KINDS, max_rows=1)
    layout = PromptLayout(tiny)
    a, b = (patcher.clean(layout.build(text).ids, 1) for text in ("bake bread", "write a poem"))
    assert (
        patcher.patched(a, b, [Patch((), LAST), Patch((Site("layer", 0),), ())]).tolist() == [a.outcome] * 2
    )
    assert len(patcher.patched(a, b, [])) == 0


@pytest.mark.parametrize("outcome", [LogitMargin((5, 6), (7, 8)), SequenceMargin((5, 6, 9), (7, 8))])
def test_everything_at_every_place_is_the_total_effect(tiny: LocalModel, outcome: LogitMargin) -> None:
    patcher = Patcher(tiny, outcome, KINDS)
    layout = PromptLayout(tiny)
    texts = "why is the sky blue", "why is the sea wide"
    ids = [[*layout.build(text).prefix, *layout.build(text).ids] for text in texts]
    size = min(map(len, ids))
    a, b = (patcher.clean(each[-size:], size) for each in ids)
    everywhere = tuple(range(-size, 0))
    found = patcher.patched(a, b, [Patch(tuple(all_sites(patcher)), everywhere)])
    assert found[0] == pytest.approx(b.outcome, abs=1e-5)
    # The embedding alone at every place is the other prompt.
    found = patcher.patched(a, b, [Patch((Site("embedding", 0),), everywhere)])
    assert found[0] == pytest.approx(b.outcome, abs=1e-5)


def test_the_last_residual_at_the_last_place_is_the_total_effect_in_both_directions(tiny: LocalModel) -> None:
    patcher = Patcher(tiny, LogitMargin((5, 6), (7, 8)), KINDS)
    layout = PromptLayout(tiny)
    a, b = (patcher.clean(layout.build(text).ids, 1) for text in ("bake bread", "write a poem about the sea"))
    last = [Patch((Site("layer", patcher.anatomy.n_blocks - 1),), LAST)]
    assert patcher.patched(a, b, last)[0] == pytest.approx(b.outcome, abs=1e-5)
    assert patcher.patched(b, a, last)[0] == pytest.approx(a.outcome, abs=1e-5)


def test_kept_keys_and_values_give_what_a_whole_pass_gives(tiny: LocalModel) -> None:
    layout = PromptLayout(tiny)
    tokens = layout.build("why is the sky blue")
    ids = [*tokens.prefix, *tokens.ids]
    plain = Patcher(tiny, LogitMargin((5, 6), (7, 8)), KINDS)
    shared = Patcher(tiny, LogitMargin((5, 6), (7, 8)), KINDS, prefix=layout.prefix)
    whole = plain.clean(ids, len(ids)).outcome
    with torch.no_grad():
        logs = tiny.torch_model(input_ids=torch.tensor([ids])).logits[0, -1].log_softmax(-1)
    expected = float(logs[[5, 6]].logsumexp(0) - logs[[7, 8]].logsumexp(0))
    for found in (
        whole,
        plain.clean(ids, 1).outcome,
        shared.clean(ids, 1).outcome,
        shared.clean(ids, 3).outcome,
    ):
        assert found == pytest.approx(expected, abs=1e-5)


def test_without_bends_the_effects_add_up() -> None:
    patcher = patcher_of(toys.local(toys.linear()))
    for pair in toys.pairs(4):
        harmless, harmful = both(patcher, pair)
        te = harmful.outcome - harmless.outcome
        sites = [s for s in all_sites(patcher) if s.kind != "embedding"]
        patches = [Patch((site,), LAST) for site in sites]
        nie = patcher.patched(harmless, harmful, patches) - harmless.outcome
        nde = patcher.patched(harmful, harmless, patches) - harmless.outcome
        np.testing.assert_allclose(nie + nde, te, atol=1e-6)
        # Heads of one block, and neurons of one block, have no path between them.
        for block in range(3):
            heads = [Patch((Site("head", block, h),), LAST) for h in range(4)]
            neurons = [Patch((Site("neurons", block, j, j + 1),), LAST) for j in range(32)]
            for parts, kind in ((heads, "attention"), (neurons, "mlp")):
                alone = patcher.patched(harmless, harmful, parts) - harmless.outcome
                together = nie[[s.kind == kind and s.block == block for s in sites].index(True)]
                assert alone.sum() == pytest.approx(together, abs=1e-6)


def test_nested_parts_do_not_add_up() -> None:
    # Attention of block 2 feeds the MLP of block 2: the sum counts that path twice.
    patcher = patcher_of(toys.local(toys.linear()))
    harmless, harmful = both(patcher, toys.pairs(1)[0])
    parts = [Site("attention", 1), Site("mlp", 1)]
    alone = patcher.patched(harmless, harmful, [Patch((s,), LAST) for s in parts]) - harmless.outcome
    joint = patcher.patched(harmless, harmful, [Patch(tuple(parts), LAST)])[0] - harmless.outcome
    assert abs(alone.sum() - joint) > 1e-3


def test_first_order_estimates_are_exact_without_bends_and_close_in_a_random_model(tiny: LocalModel) -> None:
    patcher = patcher_of(toys.local(toys.linear()))
    harmless, harmful = both(patcher, toys.pairs(1)[0])
    parts = patcher.attributions(harmless, harmful, ("layer", "attention", "mlp", "neurons"), LAST)
    for (kind, block), values in parts.items():
        site = Site(kind, block, last=32 if kind == "neurons" else 0)
        found = patcher.patched(harmless, harmful, [Patch((site,), LAST)])[0] - harmless.outcome
        assert values.sum() == pytest.approx(found, abs=1e-6)
    found = study(toys.local(toys.linear()), levels=("module", "head"))
    assert (found.level("module").agreement or 0) >= 0.9
    assert (found.level("head").agreement or 0) >= 0.9


def test_an_outcome_of_two_passes_is_estimated_over_both() -> None:
    model = toys.local(toys.linear())
    yes, no, other = (toys.WORDS.index(w) for w in ("yes", "no", "w1"))
    patcher = Patcher(model, SequenceMargin((yes, other), (no,)), KINDS)
    harmless, harmful = both(patcher, toys.pairs(1)[0])
    parts = patcher.attributions(harmless, harmful, ("neurons",), LAST)
    # A small step, since log-likelihoods are bent: neuron 3 of the last block is moved by a thousandth.
    point = ("neurons", 2)
    moved = harmless.values[point] + (harmful.values[point] - harmless.values[point]) / 1000  # type: ignore[index]
    near = harmful._replace(values={**harmful.values, point: moved})  # type: ignore[dict-item]
    step = patcher.patched(harmless, near, [Patch((Site("neurons", 2, 3, 4),), LAST)])[0] - harmless.outcome
    assert step * 1000 == pytest.approx(parts["neurons", 2][3], rel=1e-2)


def test_interaction_has_its_closed_form() -> None:
    # Y(s, m) = s + m - c [s and m]; c = 1.5. Total effect 1 + 1 - 1.5 = 0.5. For the MLP that makes m:
    # NIE = Y(0, 1) - Y(0, 0) = 1; rNIE = Y(1, 1) - Y(1, 0) = 0.5 - 1 = -0.5; NDE = TE - rNIE = 1;
    # interaction = TE - NIE - NDE = -1.5 = -c.
    found = study(toys.local(toys.interacting(1.5)), levels=("module",))
    assert found.te.value == pytest.approx(0.5)
    mlp = next(e for e in found.level("module").effects if e.name == "block 2 mlp")
    expected = {
        "nie": 1.0,
        "rnie": -0.5,
        "nde": 1.0,
        "interaction": -1.5,
        "nie_share": 2.0,
        "rnie_share": -1.0,
    }
    for name, value in expected.items():
        assert getattr(mlp, name).value == pytest.approx(value), name
    assert mlp.nie_mean_share.value == pytest.approx(2.0)


@pytest.mark.parametrize("seed", [0, 1])
def test_planted_mlp_and_gate_are_found_whatever_their_places(seed: int) -> None:
    generator = np.random.default_rng(seed)
    detector = int(generator.integers(128))
    planted = sorted(generator.choice(128, size=4, replace=False).tolist())
    model = toys.local(toys.gated(planted, detector, neurons=128, seed=seed))
    found = study(model, levels=("module", "group", "neuron", "gate"))
    mlps = [e for e in found.level("module").effects if e.name.endswith("mlp")]
    # Block 2 writes what block 4 reads: both carry all of the effect, and nothing else does.
    top = sorted(mlps, key=lambda e: -(e.nie.value or 0))[:2]
    assert {e.name for e in top} == {"block 2 mlp", "block 4 mlp"}
    assert found.spreads[0].block == 4
    assert found.gate is not None
    assert sorted(found.gate.neurons) == planted
    assert found.gate.k == 4
    assert found.gate.sparsity == 4 / 128
    assert {e.block for level in found.levels if level.name == "neuron" for e in level.effects} == {2, 4}
    best = max(
        (e for level in found.levels if level.name == "neuron" for e in level.effects if e.block == 2),
        key=lambda e: e.nie.value or 0,
    )
    assert best.name == f"block 2 neuron {detector}"
    assert (found.spreads[0].gini or 0) > 0.9
    # The curve: every planted neuron adds a quarter, and chance adds next to nothing.
    curve = {
        (p.order, p.k): p.share.value or 0.0
        for p in found.gate.points
        if p.part == "test" and p.intervention == "patch"
    }
    for k, share in ((1, 0.25), (2, 0.5), (4, 1.0)):
        assert curve["effect", k] == pytest.approx(share, abs=0.05)
        assert abs(curve["random", k]) < 0.1 or curve["random", k] < curve["effect", k]
        assert abs(curve["magnitude", k]) < 0.05
    ablated = {
        p.intervention: p.share.value or 0.0
        for p in found.gate.points
        if p.part == "test" and p.order == "effect" and p.k == 4
    }
    # The gate is silent on harmless prompts, so zero, their mean and their 95th percentile all switch it off.
    for name in ("zero", "mean", "clamp"):
        assert ablated[name] == pytest.approx(1.0, abs=0.05)
    assert ablated["scale"] == pytest.approx(0.5, abs=0.05)


def test_a_window_of_neighbours_can_hide_what_single_neurons_show() -> None:
    # Neurons 40 and 41 cancel: one says harm, its neighbour takes it back. Four others fill the beam.
    model = toys.gated([40], 3, neurons=128)
    toys.neuron(model, 3, 41, {toys.WRITTEN: 1.0}, 0.0, {toys.SAID: -1.0})
    for j in (60, 70, 80, 90):
        toys.neuron(model, 3, j, {toys.WRITTEN: 1.0}, 0.0, {toys.SAID: 0.5})
    found = study(toys.local(model), levels=("group", "neuron", "gate"))
    assert found.gate is not None
    assert found.gate.neurons[0] == 40
    hidden = next(e for level in found.levels for e in level.effects if e.name == "block 4 neurons 40-41")
    assert abs(hidden.nie.value or 0) < 0.05
    refined = next(r for r in found.refined if r.block == 4)
    assert {first for first, _, _ in refined.windows} == {60, 70, 80, 90}


def test_leaving_an_intervention_restores_the_logits_to_the_last_bit(tiny: LocalModel) -> None:
    patcher = Patcher(tiny, LogitMargin((5, 6), (7, 8)), KINDS)
    ids = torch.tensor([PromptLayout(tiny).build("bake bread").ids])
    with torch.no_grad():
        before = tiny.torch_model(input_ids=ids).logits
        with patcher.held(Site("neurons", 2, members=(1, 5)), torch.zeros_like):
            under = tiny.torch_model(input_ids=ids).logits
        after = tiny.torch_model(input_ids=ids).logits
    assert not torch.equal(before, under)
    assert torch.equal(before, after)


def test_the_same_seed_gives_the_same_table_and_batches_hardly_matter(tiny: LocalModel) -> None:
    words = ["bread", "sky", "poem", "sea", "rain", "bake", "blue", "write", "cloud", "tree"]
    given = [
        PromptPair(
            f"how do I {words[i % 10]} the {words[(3 * i + 1) % 10]} {i}", f"why is {words[(7 * i) % 10]} {i}"
        )
        for i in range(12)
    ]
    chosen = {"compliant": ("bake",), "refusing": ("sky",), "n_resamples": 200, "levels": ("module", "head")}
    first, again, small = (
        study_mediation(tiny, given, MediationSettings(**chosen, max_rows=rows))  # type: ignore[arg-type]
        for rows in (32, 32, 5)
    )
    assert first.to_json() == again.to_json()
    for one, other in zip(first.levels, small.levels, strict=True):
        for a, b in zip(one.effects, other.effects, strict=True):
            for name in ("nie", "rnie", "control"):
                assert getattr(a, name).value == pytest.approx(getattr(b, name).value, abs=1e-4)


def test_blocks_that_share_a_module_are_refused() -> None:
    model = toys.toy(3)
    model.model.layers[1].mlp = model.model.layers[0].mlp
    with pytest.raises(ModelError, match="two blocks share a module"):
        patcher_of(toys.local(model))
