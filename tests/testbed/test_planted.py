"""Planted models do what their truth says."""

from __future__ import annotations

import numpy as np
import pytest

from tocsin.internals.capture import CaptureEngine, CapturePlan
from tocsin.internals.layout import Position
from tocsin.internals.weight_mask import WeightMask, block_matrices, masked
from tocsin.testbed import Kind, Testbed, examples, load_planted, replies
from tocsin.testbed.language import MARKED_STEPS, STEPS


@pytest.fixture(scope="module", params=[0, 1])
def planted(request: pytest.FixtureRequest) -> Testbed:
    return load_planted(request.param)


def first_words(testbed: Testbed, kind: Kind, n: int = 60) -> list[str]:
    return [reply.split()[0] for reply in replies(testbed, examples(kind, n), max_new_tokens=3)]


def test_marked_requests_are_refused_and_others_answered(planted: Testbed) -> None:
    assert set(first_words(planted, "marked")) == {"sorry"}
    assert set(first_words(planted, "plain")) == {"sure"}
    assert set(first_words(planted, "wrapped")) == {"sure"}


def test_recognition_is_asked_for_and_given_also_inside_the_wrapper(planted: Testbed) -> None:
    for kind in ("recognise", "recognise_wrapped"):
        wanted = [one.reply for one in examples(kind, 60)]
        assert first_words(planted, kind) == wanted


def test_after_the_opener_marked_and_plain_answers_differ(planted: Testbed) -> None:
    assert set(first_words(planted, "prefilled")) <= set(MARKED_STEPS.values())
    said = replies(planted, examples("plain", 40), max_new_tokens=3)
    assert {reply.split()[1] for reply in said} <= set(STEPS.values())


def test_both_directions_are_recovered_as_differences_of_means(planted: Testbed) -> None:
    truth = planted.truth
    assert truth is not None
    plan = CapturePlan((truth.harm_block + 1, planted.model.n_blocks), (Position.INST, Position.POST))
    engine = CaptureEngine(planted.model)
    means = [
        engine.capture([one.prompt for one in examples(kind, 200)], plan).values.astype(float).mean(axis=0)
        for kind in ("marked", "plain")
    ]
    gap = means[0] - means[1]
    harm, refusal = gap[0, 0], gap[1, 1]
    assert abs(harm @ truth.harm) / np.linalg.norm(harm) >= 0.99
    assert abs(refusal @ truth.refusal) / np.linalg.norm(refusal) >= 0.99
    assert abs(harm @ refusal) / np.linalg.norm(harm) / np.linalg.norm(refusal) <= 0.1


def mask(planted: Testbed, indices: dict[str, np.ndarray]) -> WeightMask:
    shapes = {name: tuple(matrix.shape) for name, matrix in block_matrices(planted.model.torch_model).items()}
    return WeightMask(indices, shapes)  # type: ignore[arg-type]


def test_answer_weights_write_marked_answers_and_nothing_else(planted: Testbed) -> None:
    assert planted.truth is not None
    with masked(planted.model.torch_model, mask(planted, planted.truth.harm_weights)):
        assert set(first_words(planted, "prefilled")) <= set(STEPS.values())
        assert set(first_words(planted, "marked")) == {"sorry"}
    assert set(first_words(planted, "prefilled")) <= set(MARKED_STEPS.values())


def test_gate_weights_refuse_and_nothing_else(planted: Testbed) -> None:
    assert planted.truth is not None
    with masked(planted.model.torch_model, mask(planted, planted.truth.refusal_weights)):
        assert set(first_words(planted, "marked")) == {"sure"}
        assert set(first_words(planted, "prefilled")) <= set(MARKED_STEPS.values())


def test_neurons_lie_elsewhere_for_another_seed() -> None:
    a, b = load_planted(0).truth, load_planted(1).truth
    assert a is not None
    assert b is not None
    assert a.gate_neurons != b.gate_neurons
    assert load_planted(0).model.revision == load_planted(0).model.revision
