"""What a model does with prompts and holds while it reads them: refusals, and states at two places."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tocsin.core.stages import Stages
from tocsin.explain.directions.data import DirectionData
from tocsin.internals.capture import CaptureEngine, CapturePlan
from tocsin.internals.layout import Position, PromptLayout
from tocsin.internals.steering import Steering, greedy_replies
from tocsin.models.local import LocalModel

_CHUNK = 256


class Side(NamedTuple):
    """Prompts of one label or kind, with what the model does and holds."""

    texts: list[str]
    refused: NDArray[np.bool_]
    inst: NDArray[np.float32]
    """Last token of the request, shape (n, rows, width)."""
    post: NDArray[np.float32]
    """Last token before the reply."""

    def part(self, where: slice | NDArray[np.bool_]) -> Side:
        """Some of the prompts, in their order."""
        texts = list(np.array(self.texts, dtype=object)[where])
        return Side(texts, self.refused[where], self.inst[where], self.post[where])


class Observer:
    """Reads one model, and variants of it that share its template.

    Args:
        model: With a chat template.
        data: Tells how replies are read and which tokens end them.
        max_new_tokens: Of a reply.
        stages: Where finished parts are kept.
        progress: Told of a part's name, how far it is and of how many.

    Raises:
        ModelError: If the model has no chat template.
    """

    def __init__(
        self,
        model: LocalModel,
        data: DirectionData,
        *,
        max_new_tokens: int,
        stages: Stages,
        progress: Callable[[str, int, int], None],
    ) -> None:
        self.model = model
        self.data = data
        self.max_new_tokens = max_new_tokens
        self.stages = stages
        self.progress = progress
        self.layout = PromptLayout(model)
        self.rows = tuple(range(model.n_blocks + 1))
        """The embeddings, then the output of each block."""

    def side(self, name: str, texts: Sequence[str]) -> Side:
        """Replies and activations of prompts, kept as a finished part."""

        def make() -> dict[str, NDArray[np.generic]]:
            refused = []
            inst, post = [], []
            for start in range(0, len(texts), _CHUNK):
                chunk = texts[start : start + _CHUNK]
                self.progress(f"replies to {name} prompts", start, len(texts))
                refused += self.refusals(self.model, chunk)
                taken = self.states(self.model, chunk)
                inst.append(taken[:, :, 0])
                post.append(taken[:, :, 1])
            return {
                "refused": np.array(refused, dtype=bool),
                "inst": np.concatenate(inst),
                "post": np.concatenate(post),
            }

        kept = self.stages.arrays(f"side-{name}", make)
        return Side(list(texts), kept["refused"], kept["inst"], kept["post"])  # type: ignore[arg-type]

    def states(self, model: LocalModel, texts: Sequence[str]) -> NDArray[np.float32]:
        """Hidden states at the two places, shape (n, rows, 2, width)."""
        plan = CapturePlan(self.rows, (Position.INST, Position.POST))
        return CaptureEngine(model).capture(list(texts), plan).values

    def refusals(
        self, model: LocalModel, texts: Sequence[str], steering: Steering | None = None
    ) -> list[bool]:
        """Which prompts the model refuses."""
        return [self.data.refuses(text) for text in self.replies(model, texts, steering)]

    def replies(self, model: LocalModel, texts: Sequence[str], steering: Steering | None) -> list[str]:
        """The model's own replies, each token the likeliest one."""
        prompts = []
        for text in texts:
            built = self.layout.build(text)
            prompts.append([*built.prefix, *built.ids])
        replies = greedy_replies(
            model,
            prompts,
            end_ids=self.data.end_ids,
            max_new_tokens=self.max_new_tokens,
            steering=steering,
        )
        return [model.decode(reply) for reply in replies]
