"""Putting prompts to a model under audit and taking its greedy replies."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tocsin.core.records import Turn
from tocsin.internals.layout import PromptLayout
from tocsin.internals.steering import Steering, greedy_replies

if TYPE_CHECKING:
    from tocsin.models.local import LocalModel


class Speaker:
    """A model in its own chat template.

    Args:
        model: In float32 for repeatable replies.

    Raises:
        ModelError: If it has no chat template.
    """

    def __init__(self, model: LocalModel) -> None:
        self.model = model
        self._layout = PromptLayout(model)

    def ids(self, prompt: str, context: Sequence[Turn] = ()) -> list[int]:
        """Tokens of a conversation that ends with a prompt."""
        built = self._layout.build(prompt, context=context)
        return [*built.prefix, *built.ids]

    def reply_ids(
        self,
        prompts: Sequence[str],
        max_new_tokens: int,
        *,
        contexts: Sequence[Sequence[Turn]] | None = None,
        steering: Steering | None = None,
    ) -> list[list[int]]:
        """Tokens of each reply, without the one that ends it."""
        before = contexts or [()] * len(prompts)
        return greedy_replies(
            self.model,
            [self.ids(prompt, context) for prompt, context in zip(prompts, before, strict=True)],
            end_ids=self.model.end_ids,
            max_new_tokens=max_new_tokens,
            steering=steering,
        )

    def replies(
        self,
        prompts: Sequence[str],
        max_new_tokens: int,
        *,
        contexts: Sequence[Sequence[Turn]] | None = None,
        steering: Steering | None = None,
    ) -> list[str]:
        """Each reply as text."""
        found = self.reply_ids(prompts, max_new_tokens, contexts=contexts, steering=steering)
        return [self.model.decode(ids).strip() for ids in found]
