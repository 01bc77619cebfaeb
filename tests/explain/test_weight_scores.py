"""Scores, rankings and masks of card 12, section 7, checks 1 to 6 and 11."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tiny_models import tiny_llama, tiny_local
from tocsin.core.errors import InputError, ModelError, UsageError
from tocsin.explain.weights.attribution import absolute_scores, signed_scores
from tocsin.explain.weights.selection import (
    Scope,
    difference,
    magnitude_mask,
    quota,
    random_mask,
    rank,
)
from tocsin.internals.responses import ResponseTokens, encode_pairs, response_losses
from tocsin.internals.responses import batches as response_batches
from tocsin.internals.weight_mask import (
    WeightMask,
    block_matrices,
    count_zeros,
    load_mask,
    masked,
    save_mask,
)
from tocsin.internals.weights_digest import weights_digest
from tocsin.models.local import LocalModel

Samples = list[ResponseTokens]

PAIRS = [
    ("name a colour", "red and blue are colours"),
    ("count", "one two three"),
    ("what is rain", "water that falls from clouds"),
    ("sing", "la la la la"),
    ("where is the sea", "at the shore"),
]


@pytest.fixture(scope="module")
def model() -> LocalModel:
    return tiny_local()


@pytest.fixture(scope="module")
def samples(model: LocalModel) -> Samples:
    return encode_pairs(model, PAIRS, template="raw")


def shapes_of(model: LocalModel) -> dict[str, tuple[int, int]]:
    return {name: (m.shape[0], m.shape[1]) for name, m in block_matrices(model.torch_model).items()}


def total_loss(model: LocalModel, samples: Samples) -> torch.Tensor:
    return torch.cat([response_losses(model, batch) for batch in response_batches(samples)]).sum()


def test_losses_are_those_of_transformers_sample_by_sample(model: LocalModel, samples: Samples) -> None:
    found = np.empty(len(samples))
    with torch.no_grad():
        for batch in response_batches(samples):
            found[batch.indices] = response_losses(model, batch).numpy()
        for i, sample in enumerate(samples):
            ids = torch.tensor([sample.ids])
            labels = ids.clone()
            labels[0, : sample.start] = -100
            expected = model.torch_model(input_ids=ids, labels=labels).loss
            assert found[i] == pytest.approx(float(expected), abs=1e-5)


def test_a_sample_longer_than_a_batch_gets_the_same_scores(
    model: LocalModel, samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = absolute_scores(model, samples)
    monkeypatch.setattr("tocsin.explain.weights.attribution.TOKENS_PER_BATCH", 1)
    for name, values in absolute_scores(model, samples).items():
        assert torch.equal(values, expected[name])


def test_signed_scores_are_minus_weight_times_gradient(model: LocalModel, samples: Samples) -> None:
    scores = signed_scores(model, samples)
    for name, matrix in block_matrices(model.torch_model).items():
        matrix.requires_grad_(True)
        (gradient,) = torch.autograd.grad(total_loss(model, samples), matrix)
        expected = -(matrix * gradient).detach().reshape(-1)
        torch.testing.assert_close(scores[name], expected, rtol=1e-4, atol=1e-6)


def test_the_score_predicts_what_removing_one_weight_does_to_first_order(
    model: LocalModel, samples: Samples
) -> None:
    scores = signed_scores(model, samples)
    name = max(scores, key=lambda each: float(scores[each].max()))
    best = int(scores[name].argmax())
    shapes = shapes_of(model)
    with torch.no_grad():
        before = float(total_loss(model, samples).double())
        # A small step towards removal, since the prediction is of first order: 1 % of the weight.
        with masked(model.torch_model, WeightMask({name: np.array([best])}, shapes), scale=0.99):
            after = float(total_loss(model, samples).double())
    assert (after - before) / 0.01 == pytest.approx(float(scores[name][best]), rel=0.05)


def test_absolute_scores_do_not_let_samples_cancel(model: LocalModel, samples: Samples) -> None:
    alone = [absolute_scores(model, [sample]) for sample in samples]
    together = absolute_scores(model, samples)
    meaned = absolute_scores(model, samples, order="after_mean")
    for name, values in together.items():
        torch.testing.assert_close(values, sum(each[name] for each in alone), rtol=1e-4, atol=1e-6)
        assert bool((meaned[name] <= values + 1e-6).all())
    assert any(float((together[n] - meaned[n]).max()) > 1e-4 for n in together)


def test_scores_leave_no_gradients_and_the_weights_as_they_were(model: LocalModel, samples: Samples) -> None:
    before = weights_digest(model.torch_model)
    signed_scores(model, samples)
    absolute_scores(model, samples)
    assert weights_digest(model.torch_model) == before
    assert all(parameter.grad is None for parameter in model.torch_model.parameters())


@given(
    values=st.lists(st.integers(-3, 3), min_size=4, max_size=40),
    share=st.floats(0.01, 1),
    skip=st.sampled_from([0.0, 0.2]),
)
@settings(max_examples=100, deadline=None)
def test_a_ranking_of_one_matrix_is_a_stable_sort(values: list[int], share: float, skip: float) -> None:
    scores = {"m": torch.tensor(values, dtype=torch.float32)}
    order = sorted(range(len(values)), key=lambda i: (-values[i], i))
    first, n = quota(skip, len(values)), quota(share, len(values))
    cut = rank(scores, 1.0).cut(share, skip=skip)["m"]
    assert cut.tolist() == order[first : first + n]


@given(
    a=st.lists(st.integers(-3, 3), min_size=1, max_size=20),
    b=st.lists(st.integers(-3, 3), min_size=1, max_size=20),
    share=st.floats(0.05, 1),
)
@settings(max_examples=100, deadline=None)
def test_a_global_ranking_is_that_of_all_matrices_side_by_side(
    a: list[int], b: list[int], share: float
) -> None:
    scores = {"a": torch.tensor(a, dtype=torch.float32), "b": torch.tensor(b, dtype=torch.float32)}
    both = [("a", i, v) for i, v in enumerate(a)] + [("b", i, v) for i, v in enumerate(b)]
    both.sort(key=lambda each: -each[2])
    expected = {(name, i) for name, i, _ in both[: quota(share, len(both))]}
    cut = rank(scores, share, scope="global").cut(share)
    assert {(name, int(i)) for name, chosen in cut.items() for i in chosen} == expected


@pytest.mark.parametrize("scope", ["matrix", "global"])
def test_set_algebra(model: LocalModel, samples: Samples, scope: Scope) -> None:
    shapes = shapes_of(model)
    harm = rank(signed_scores(model, samples[:2]), 0.05, scope=scope).cut(0.05)
    needed = rank(absolute_scores(model, samples[2:]), 0.2, scope=scope).cut(0.2)
    mask = difference(harm, needed, shapes)
    both = sum(len(np.intersect1d(chosen, needed[name])) for name, chosen in harm.items())
    assert both > 0
    assert mask.size == sum(map(len, harm.values())) - both
    assert all(not np.intersect1d(chosen, needed[name]).size for name, chosen in mask.indices.items())
    everything = rank(absolute_scores(model, samples), 1.0, scope=scope).cut(1.0)
    assert difference(harm, everything, shapes).size == 0
    # The same samples on both sides, ranked alike, and q no larger than p: nothing is left.
    alike = rank(absolute_scores(model, samples), 0.1, scope=scope)
    assert difference(alike.cut(0.05), alike.cut(0.1), shapes).size == 0
    assert rank(signed_scores(model, samples), 0.05, scope=scope).cut(0.0).keys() == shapes.keys()
    assert difference(alike.cut(0.0), {}, shapes).size == 0


def test_the_published_counts_of_an_eight_billion_model() -> None:
    # Card 12, section 3.3: q = 1e-5 of 4096 x 4096, 4096 x 1024 and 4096 x 14336.
    assert [quota(1e-5, 4096 * n) for n in (4096, 1024, 14336)] == [167, 41, 587]
    assert quota(1e-5, 4096) == 1
    with pytest.raises(UsageError, match="between 0 and 1"):
        quota(1.5, 10)


def test_removing_the_best_raises_the_loss_and_removing_the_worst_lowers_it(
    model: LocalModel, samples: Samples
) -> None:
    shapes = shapes_of(model)
    scores = signed_scores(model, samples)
    opposite = {name: -values for name, values in scores.items()}
    with torch.no_grad():
        before = float(total_loss(model, samples))
        found = []
        for each in (scores, opposite):
            with masked(model.torch_model, difference(rank(each, 0.002).cut(0.002), {}, shapes)):
                found.append(float(total_loss(model, samples)) - before)
    assert found[0] > 0 > found[1]


def test_a_mask_leaves_no_trace_also_when_the_block_raises(model: LocalModel) -> None:
    shapes = shapes_of(model)
    name = next(iter(shapes))
    mask = WeightMask({name: np.array([0, 3, 5])}, shapes)
    before = weights_digest(model.torch_model)
    with masked(model.torch_model, mask):
        assert count_zeros(block_matrices(model.torch_model), mask) == 3
        assert weights_digest(model.torch_model) != before
    assert weights_digest(model.torch_model) == before
    for error in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(error), masked(model.torch_model, mask):
            raise error
        assert weights_digest(model.torch_model) == before


def test_a_saved_mask_makes_the_same_model_again(model: LocalModel, tmp_path: Path) -> None:
    shapes = shapes_of(model)
    mask = random_mask(WeightMask({name: np.arange(4) for name in shapes}, shapes), seed=3)
    path = tmp_path / "mask.safetensors"
    save_mask(path, mask, model=model.id, revision=model.revision, made_by="test")
    again = load_mask(path, revision=model.revision)
    with masked(model.torch_model, mask):
        expected = weights_digest(model.torch_model)
    with masked(model.torch_model, again):
        assert weights_digest(model.torch_model) == expected
    with pytest.raises(ModelError, match="was made for"):
        load_mask(path, revision="other")
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(InputError, match="damaged"):
        load_mask(path, revision=model.revision)


def test_controls_have_the_size_of_the_mask_and_share_no_weight_with_it(model: LocalModel) -> None:
    matrices = block_matrices(model.torch_model)
    shapes = shapes_of(model)
    generator = np.random.default_rng(0)
    chosen = {
        name: np.sort(generator.choice(a * b, size=20, replace=False)) for name, (a, b) in shapes.items()
    }
    mask = WeightMask(chosen, shapes)
    for control in (random_mask(mask, seed=1), magnitude_mask(mask, matrices, seed=1)):
        assert {name: len(c) for name, c in control.indices.items()} == dict.fromkeys(shapes, 20)
        assert control.overlap(mask) == 0
    sizes = [
        sum(float(matrices[n].detach().view(-1)[torch.from_numpy(c)].abs().sum()) for n, c in m.items())
        for m in (mask.indices, magnitude_mask(mask, matrices, seed=2).indices)
    ]
    assert sizes[1] == pytest.approx(sizes[0], rel=0.1)


def test_what_cannot_be_read_is_refused_by_its_number(model: LocalModel) -> None:
    with pytest.raises(InputError, match="sample 2 has a response without tokens"):
        encode_pairs(model, [("a", "b"), ("c", "  ")], template="raw")
    with pytest.raises(InputError, match=r"sample 1 has .* tokens; this model reads at most"):
        encode_pairs(model, [("a", "b " * 5_000)], template="raw")


def test_a_loss_that_is_no_number_names_its_sample() -> None:
    broken = tiny_local()
    with torch.no_grad():
        next(iter(block_matrices(broken.torch_model).values())).fill_(float("nan"))
    samples = encode_pairs(broken, PAIRS[:1], template="raw")
    with pytest.raises(InputError, match="the loss of sample 1 is not a number"):
        signed_scores(broken, samples)


def test_a_mask_of_another_model_is_refused(model: LocalModel) -> None:
    other = tiny_local(model=tiny_llama(intermediate_size=64))
    mask = WeightMask({}, shapes_of(other))
    with pytest.raises(ModelError, match=r"expects .* of shape"), masked(model.torch_model, mask):
        pass
    with pytest.raises(InputError, match="unsorted or doubled"):
        WeightMask({"m": np.array([3, 3])}, {"m": (2, 2)})
