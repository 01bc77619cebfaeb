"""A transformers model behind the common activation interface."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import JsonValue

from tocsin.core.errors import ModelError
from tocsin.core.records import Turn
from tocsin.models.base import Array, Encoded, Hidden, check_request, length_batches
from tocsin.models.local.blocks import find_blocks, find_final_norm, residual_rows, text_config
from tocsin.models.template import ChatTemplate, no_chat_template
from tocsin.models.tokens import TextTokenizer

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedConfig, PreTrainedModel

TOKENS_PER_BATCH = 2048
MAX_PREFIXES = 8
_PLAIN_ATTENTION = {"full_attention", "sliding_attention", "chunked_attention"}

KeyValue = tuple["Tensor", "Tensor"]
Padding = Literal["left", "right"]


class LocalModel:
    """A causal language model in PyTorch (implements `ActivationModel`).

    Args:
        model: The loaded model, on its device.
        tokenizer: Its tokenizer.
        template: Its chat template; None for a base model, which then works with the raw template only.
        id: Name for provenance.
        revision: Hash of its weights.
        batch_size: Most sequences in a batch; by default as many as make `TOKENS_PER_BATCH` tokens.
        padding: Side on which shorter sequences are filled up. The results are the same.

    Raises:
        ModelError: If the architecture is not a decoder of equal attention blocks.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: TextTokenizer,
        template: ChatTemplate | None,
        *,
        id: str,  # noqa: A002 - the name of the attribute
        revision: str,
        batch_size: int | None = None,
        padding: Padding = "right",
    ) -> None:
        self.torch_model = model.train(mode=False)
        config = text_config(model)
        self._blocks = find_blocks(model)
        kinds = set(getattr(config, "layer_types", None) or _kinds_of_old(config))
        if (
            model.config.is_encoder_decoder
            or not hasattr(config, "num_attention_heads")
            or kinds - _PLAIN_ATTENTION
        ):
            message = (
                f"the architecture {type(model).__name__} is not supported: expected a decoder of attention "
                "blocks."
            )
            raise ModelError(message)
        # A sliding window is counted in slots, so padding between a prefix and its sequence would shift it;
        # chunks begin at the start of a sequence, so a prefix apart would shift them.
        self._reuses_prefix = kinds == {"full_attention"} or (
            padding == "right" and "chunked_attention" not in kinds
        )
        self._takes_positions = "position_ids" in inspect.signature(model.base_model.forward).parameters
        self._tokenizer = tokenizer
        self._template = template
        self._batch_size = batch_size
        self._padding = padding
        self._prefixes: dict[tuple[int, ...], list[KeyValue]] = {}
        self.id = id
        self.revision = revision
        self.n_blocks = len(self._blocks)
        self.width = int(config.hidden_size)
        self.context = int(getattr(config, "max_position_embeddings", None) or _UNLIMITED)
        self.template_hash = template.hash if template else "none"
        self.raw_prefix = tokenizer.raw_prefix

    @property
    def has_template(self) -> bool:
        """Whether the model ships a chat template."""
        return self._template is not None

    def encode(self, text: str) -> Encoded:
        """Tokens of a rendered template."""
        return self._tokenizer.encode(text, is_trusted=True)

    def encode_untrusted(self, text: str) -> Encoded:
        """Tokens of text from outside: special tokens written in it stay ordinary characters."""
        return self._tokenizer.encode(text, is_trusted=False)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of tokens, without special ones."""
        return self._tokenizer.decode(ids)

    @property
    def vocabulary(self) -> dict[str, int]:
        """Tokens and their ids, special ones included."""
        return self._tokenizer.vocabulary

    def beside(self, model: PreTrainedModel, *, id: str, revision: str) -> LocalModel:  # noqa: A002 - as above
        """Another model of this architecture behind the same tokenizer and template.

        Args:
            model: Such as a fine-tuned copy, on its device.
            id: Its name.
            revision: Hash of its weights.
        """
        return LocalModel(
            model, self._tokenizer, self._template,
            id=id, revision=revision, batch_size=self._batch_size, padding=self._padding,
        )  # fmt: skip

    @property
    def end_ids(self) -> tuple[int, ...]:
        """Tokens that end a reply, by the model's generation settings, else by its configuration."""
        for source in (self.torch_model.generation_config, text_config(self.torch_model)):
            found = getattr(source, "eos_token_id", None)
            if found is not None:
                return tuple(found) if isinstance(found, list | tuple) else (int(found),)
        return ()

    def render(
        self,
        turns: Sequence[Turn],
        *,
        generation_prompt: bool = True,
        options: Mapping[str, JsonValue] | None = None,
    ) -> str:
        """The chat template applied to turns; `options` are further names that it may ask for.

        Raises:
            ModelError: If the model has no chat template, or it refuses the roles.
        """
        if self._template is None:
            raise no_chat_template(self.id)
        return self._template.render(turns, generation_prompt=generation_prompt, options=options)

    def final_norm(self, states: Array) -> Array:
        """The norm after the last block."""
        import torch

        norm = find_final_norm(self.torch_model)
        with torch.inference_mode():
            given = torch.from_numpy(np.ascontiguousarray(states)).to(
                self.torch_model.device, self.torch_model.dtype
            )
            normed: Array = norm(given).float().cpu().numpy()
        return normed

    def hidden(
        self, sequences: Sequence[Sequence[int]], rows: Sequence[int], *, prefix: Sequence[int] = ()
    ) -> Iterator[Hidden]:
        """Hidden states in batches (see `ActivationModel.hidden`).

        Raises:
            ModelError: If the request makes no sense, or a batch does not fit into the device's memory.
        """
        check_request(sequences, rows, prefix, n_blocks=self.n_blocks, context=self.context)
        before = len(prefix)
        if prefix and not self._reuses_prefix:
            sequences = [[*prefix, *sequence] for sequence in sequences]
            before = 0
        past = self._prefix(tuple(prefix), max(rows)) if before else []
        limit = None if self._batch_size else TOKENS_PER_BATCH
        for batch in length_batches(sequences, max_tokens=limit, max_sequences=self._batch_size):
            states = self._run([sequences[index] for index in batch], rows, before, past)
            skipped = len(prefix) - before
            yield Hidden(batch, [len(sequences[index]) - skipped for index in batch], states[:, :, skipped:])

    def _run(
        self, sequences: list[Sequence[int]], rows: Sequence[int], before: int, past: list[KeyValue]
    ) -> Array:
        """States of one batch, shape (batch, rows, longest, width), each sequence from the left."""
        import torch

        lengths = [len(sequence) for sequence in sequences]
        longest = max(lengths)
        starts = [longest - length if self._padding == "left" else 0 for length in lengths]
        ids = np.zeros((len(sequences), longest), dtype=np.int64)
        mask = np.zeros((len(sequences), before + longest), dtype=np.int64)
        mask[:, :before] = 1
        for row, (sequence, start) in enumerate(zip(sequences, starts, strict=True)):
            ids[row, start : start + len(sequence)] = sequence
            mask[row, before + start : before + start + len(sequence)] = 1
        try:
            taken = self._forward(ids, mask, rows, past, keep_keys=False)[0]
            states: Array = torch.stack([taken[row].float() for row in rows], dim=1).cpu().numpy()
        except torch.OutOfMemoryError as error:
            message = (
                f"a batch of {len(sequences)} sequences of {longest} tokens does not fit into the memory of "
                f"{self.torch_model.device}. Use a smaller --batch-size."
            )
            raise ModelError(message) from error
        if self._padding == "left":
            for row, start in enumerate(starts):
                states[row] = np.roll(states[row], -start, axis=1)
        return states

    def _prefix(self, prefix: tuple[int, ...], depth: int) -> list[KeyValue]:
        """Keys and values of the prefix in the first `depth` blocks: (1, kv heads, tokens, head width)."""
        known = self._prefixes.get(prefix)
        if known is None or len(known) < depth:
            ids = np.asarray([prefix], dtype=np.int64)
            known = self._forward(ids, np.ones_like(ids), [depth], [], keep_keys=True)[1]
            if len(self._prefixes) >= MAX_PREFIXES:
                self._prefixes.pop(next(iter(self._prefixes)))
            self._prefixes[prefix] = known
        return known

    def _forward(
        self, ids: np.ndarray, mask: np.ndarray, rows: Sequence[int], past: list[KeyValue], *, keep_keys: bool
    ) -> tuple[dict[int, Tensor], list[KeyValue]]:
        import torch
        from transformers import DynamicCache

        device, batch = self.torch_model.device, len(ids)
        arguments = {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
        if self._takes_positions:
            # Padding takes the position before it, so that none lies outside the table of absolute positions.
            positions = np.maximum(mask.cumsum(axis=1) - 1, 0)[:, mask.shape[1] - ids.shape[1] :]
            arguments["position_ids"] = torch.from_numpy(positions)
        # Full layers hold every key of a prefix; the attention mask applies a sliding window where there is
        # one.
        cache = DynamicCache(
            [(key.expand(batch, -1, -1, -1), value.expand(batch, -1, -1, -1)) for key, value in past]
        )
        use_cache = keep_keys or bool(past)
        with torch.inference_mode(), residual_rows(self._blocks, rows) as taken:
            self.torch_model.base_model(
                **{name: tensor.to(device) for name, tensor in arguments.items()},
                past_key_values=cache if use_cache else None,
                use_cache=use_cache,
            )
        kept = [(key, value) for key, value, _ in cache][: max(rows)] if keep_keys else []
        return taken, kept


_UNLIMITED = 1 << 20
"""Context of models without a table of positions, such as those with ALiBi."""


def _kinds_of_old(config: PreTrainedConfig) -> list[str]:
    """Kinds of attention of a configuration that does not list them for each block."""
    return ["sliding_attention" if getattr(config, "sliding_window", None) else "full_attention"]
