"""What a detector's forward passes cost in arithmetic, and how fast the machine could do it."""

from __future__ import annotations

from collections.abc import Sequence

from common import Json, matrix_rate

from tocsin.core.records import Turn
from tocsin.internals import Activations, CaptureEngine, CapturePlan, Position
from tocsin.models.base import ActivationModel
from tocsin.models.embedded.weights import LlamaShape


class RecordingEngine(CaptureEngine):
    """A capture engine that notes which windows it was given."""

    def __init__(self, model: ActivationModel) -> None:
        super().__init__(model)
        self.windows: list[str] = []

    def capture(
        self, texts: Sequence[str], plan: CapturePlan, *, contexts: Sequence[Sequence[Turn]] | None = None
    ) -> Activations:
        """As the engine does it."""
        self.windows += dict.fromkeys(texts)  # equal texts of a chunk are computed once
        return super().capture(texts, plan, contexts=contexts)


def limits(engine: RecordingEngine, plan: CapturePlan, shape: LlamaShape, n: int, seconds: float) -> Json:
    """Arithmetic of the recorded windows, the share of the matrix rate that was reached, and the ceiling.

    Args:
        engine: After it has captured the windows of all items.
        plan: What was captured.
        shape: Sizes of the model.
        n: Items.
        seconds: Time taken for all of them.
    """
    layout, blocks = engine.layout(plan.template), max(plan.rows)
    with_tail = not {Position.POST, Position.TAIL}.isdisjoint(plan.positions)
    own = [len(layout.build(text, with_tail=with_tail).ids) for text in engine.windows]
    prefix = len(layout.prefix)
    matrices = float(sum(own)) * blocks * flop_per_token_and_block(shape)
    # Scores and weighted sums over all keys, as they are computed before the causal mask.
    attention = sum(4.0 * shape.width * length * (prefix + length) for length in own) * blocks
    flop = matrices + attention
    gflops = matrix_rate(shape)
    return {
        "windows": len(own),
        "tokens_per_item": sum(own) / n,
        "shared_prefix_tokens": prefix,
        "blocks": blocks,
        "gflop_per_item": flop / n / 1e9,
        "attention_share_of_flop": attention / flop,
        "matrix_rate_gflops": gflops,
        "share_of_matrix_rate": flop / seconds / (gflops * 1e9),
        "ceiling_items_per_second": n * gflops * 1e9 / flop,
    }


def flop_per_token_and_block(shape: LlamaShape) -> float:
    """Multiplications and additions of one block's matrices for one token (attention scores come on top)."""
    keys_and_values = 2 * shape.width * shape.n_kv_heads * shape.head_width
    mlp = 3 * shape.width * shape.hidden
    return 2.0 * (2 * shape.width * shape.width + keys_and_values + mlp)
