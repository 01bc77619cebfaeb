"""The capture engine: one pass for all plans, only as deep as needed, right values at right positions."""

from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch

from tiny_models import tiny_llama, tiny_local
from tocsin.core.records import Turn
from tocsin.core.registry import DetectorContext
from tocsin.internals import CaptureEngine, CapturePlan, Position, capture_engine
from tocsin.models.base import Hidden
from tocsin.models.embedded import EmbeddedModel
from tocsin.models.local import LocalModel

TEXTS = ["How do I bake bread?", "Why?", "Write a poem about the sea and the quick brown fox", "Why?", "🙂"]
EVERY = tuple(Position)


class CountingModel(LocalModel):
    """A real model that counts its passes, and how many sequences each was given."""

    passes: list[tuple[int, int]]

    def hidden(
        self, sequences: Sequence[Sequence[int]], rows: Sequence[int], *, prefix: Sequence[int] = ()
    ) -> Iterator[Hidden]:
        self.passes.append((len(sequences), max(rows)))
        return super().hidden(sequences, rows, prefix=prefix)


@pytest.fixture
def counting() -> CountingModel:
    model = tiny_local()
    model.__class__ = CountingModel
    assert isinstance(model, CountingModel)
    model.passes = []
    return model


def reference(model: LocalModel, text: str, context: Sequence[Turn] = ()) -> tuple[list[int], np.ndarray]:
    """Ids of the whole rendered prompt, and transformers' own hidden states of a plain full forward pass."""
    ids = model.encode(model.render([*context, Turn(role="user", text=text)])).ids
    with torch.inference_mode():
        states = model.torch_model(torch.tensor([ids]), output_hidden_states=True).hidden_states
    return ids, torch.stack(states[:-1])[:, 0].numpy()


def test_values_are_those_of_the_plain_forward_pass_at_each_position(counting: CountingModel) -> None:
    plan = CapturePlan((0, 1, 3), EVERY)
    got = CaptureEngine(counting).capture(TEXTS, plan)
    assert got.values.shape == (5, 3, 4, counting.width)
    for index, text in enumerate(TEXTS):
        ids, states = reference(counting, text)
        own = counting.encode_untrusted(text).ids
        tail = len(counting.encode("<|im_end|>\n<|im_start|>assistant\n").ids)
        inst = len(ids) - tail - 1
        for row in plan.rows:
            expected = {
                Position.INST: states[row, inst],
                Position.POST: states[row, -1],
                Position.MEAN: states[row, inst + 1 - len(own) : inst + 1].mean(axis=0),
                Position.TAIL: states[row, inst + 1 :].mean(axis=0),
            }
            for position in EVERY:
                # float32 sums in another order: 1e-5 of values of about 1.
                np.testing.assert_allclose(
                    got.at(row, position)[index], expected[position], atol=2e-5, rtol=2e-5
                )


def test_one_pass_serves_every_registered_plan(counting: CountingModel) -> None:
    engine = CaptureEngine(counting)
    shallow, deep = CapturePlan((1,), (Position.INST,)), CapturePlan((0, 3), (Position.POST,))
    engine.register(shallow)
    engine.register(deep)
    first, second = engine.capture(TEXTS, shallow), engine.capture(TEXTS, deep)
    assert len(counting.passes) == 1
    assert first.values.shape[1:3] == (1, 1)
    assert second.values.shape[1:3] == (2, 1)
    alone = CaptureEngine(tiny_local()).capture(TEXTS, deep)
    np.testing.assert_allclose(second.values, alone.values, atol=2e-5)


def test_pass_stops_at_the_last_block_needed_and_computes_the_prefix_once() -> None:
    torch_model = tiny_llama()
    calls = [0, 0, 0, 0]

    def count(block: int) -> None:
        calls[block] += 1

    for index, block in enumerate(torch_model.model.layers):
        block.register_forward_hook(lambda *_args, index=index: count(index))
    engine = CaptureEngine(tiny_local(model=torch_model))
    plan = CapturePlan((2,), (Position.INST,))
    engine.capture(["one"], plan)
    assert calls == [2, 2, 0, 0]  # the prefix, then the batch
    engine.capture(["two"], plan)
    assert calls == [3, 3, 0, 0]


def test_equal_texts_are_computed_once_and_get_equal_values(counting: CountingModel) -> None:
    values = CaptureEngine(counting).capture(TEXTS, CapturePlan((3,), EVERY)).values
    assert counting.passes == [(4, 3)]
    np.testing.assert_array_equal(values[1], values[3])


@pytest.mark.parametrize("order", [[4, 3, 2, 1, 0], [2, 0, 1, 4, 3]])
def test_values_follow_their_texts_in_any_order(order: list[int]) -> None:
    plan = CapturePlan((1, 3), EVERY)
    straight = CaptureEngine(tiny_local()).capture(TEXTS, plan).values
    shuffled = CaptureEngine(tiny_local()).capture([TEXTS[index] for index in order], plan).values
    np.testing.assert_allclose(shuffled, straight[order], atol=2e-5)


def test_batch_equals_one_by_one() -> None:
    plan = CapturePlan((3,), EVERY)
    engine = CaptureEngine(tiny_local())
    together = engine.capture(TEXTS, plan).values
    alone = np.concatenate([engine.capture([text], plan).values for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=2e-5)


def test_texts_are_not_confused_when_one_could_pass_for_two(counting: CountingModel) -> None:
    engine = CaptureEngine(counting)
    plan = CapturePlan((1,), (Position.INST,))
    assert len(engine.capture(["a\x00b"], plan).values) == 1
    assert len(engine.capture(["a", "b"], plan).values) == 2
    engine.capture(["b"], plan, contexts=[[Turn(role="user", text="a")]])
    assert len(counting.passes) == 3


def test_chats_are_read_with_their_context() -> None:
    model = tiny_local()
    context = [Turn(role="user", text="Be a baker"), Turn(role="assistant", text="Yes")]
    plan = CapturePlan((3,), (Position.INST, Position.POST))
    values = CaptureEngine(model).capture(["How?", "How?"], plan, contexts=[context, ()]).values
    for index, turns in enumerate([context, []]):
        ids, states = reference(model, "How?", turns)
        np.testing.assert_allclose(values[index, 0, 1], states[3, len(ids) - 1], atol=2e-5, rtol=2e-5)
    assert not np.allclose(values[0], values[1], atol=1e-2)


def test_contexts_must_be_one_for_each_text() -> None:
    with pytest.raises(ValueError, match="one context for each text"):
        CaptureEngine(tiny_local()).capture(["a", "b"], CapturePlan((1,), (Position.INST,)), contexts=[()])


def test_no_texts_give_no_rows() -> None:
    assert CaptureEngine(tiny_local()).capture([], CapturePlan((1,), EVERY)).values.shape == (0, 1, 4, 32)


def test_a_run_has_one_engine_for_a_model() -> None:
    context, model = DetectorContext(), tiny_local()
    assert capture_engine(model, context) is capture_engine(model, context)


def test_embedded_activations_equal_the_plain_forward_pass(
    embedded: EmbeddedModel, reference_model: LocalModel
) -> None:
    texts = [
        "How do I kill a Python process?",
        "Write a poem.",
        "Name three rivers of Europe and their sources",
    ]
    plan = CapturePlan((0, 10, 16, 29), (Position.INST, Position.POST))
    values = CaptureEngine(embedded).capture(texts, plan).values
    for index, text in enumerate(texts):
        ids, states = reference(reference_model, text)
        for slot, row in enumerate(plan.rows):
            for place, token in ((0, len(ids) - 7), (1, len(ids) - 1)):
                # Measured: at most 3e-4 at these positions, where the largest values are about 100.
                assert np.abs(values[index, slot, place] - states[row, token]).max() < 1e-3
