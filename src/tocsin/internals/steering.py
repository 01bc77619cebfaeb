"""Greedy replies for many prompts, with a vector added to the residual stream while the prompt is read.

Card 03 (arXiv 2507.11878, section 3.5): the vector is added to the input of one block at the prompt's tokens,
in the first forward pass only; the steps that generate are untouched.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tocsin.core.errors import ModelError
from tocsin.models.base import Array, length_batches
from tocsin.models.local.blocks import find_blocks

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tocsin.models.local import LocalModel

MAX_TOKENS = 2048


@dataclass(frozen=True, slots=True)
class Steering:
    """A vector to add at one block."""

    row: int
    """0-based block whose input is changed; row 0 acts on embeddings."""
    vector: Array
    """Shape (width,)."""
    coefficient: float = 1.0
    last: int = 0
    """Tokens at the prompt's end that are left alone, such as a question and the template's tail."""


def greedy_replies(
    model: LocalModel,
    prompts: Sequence[Sequence[int]],
    *,
    end_ids: Sequence[int],
    max_new_tokens: int,
    steering: Steering | None = None,
    max_tokens: int = MAX_TOKENS,
) -> list[list[int]]:
    """Greedy continuations, one for each prompt, without the end token.

    Args:
        model: In float32 for reproducible replies.
        prompts: Token ids, none empty.
        end_ids: Tokens that end a reply.
        max_new_tokens: Most tokens of a reply.
        steering: Acts while the prompts are read.
        max_tokens: Most tokens of a padded batch.

    Raises:
        ModelError: If a prompt is empty or leaves no room, or the vector does not fit.
    """
    replies: list[list[int]] = [[] for _ in prompts]
    for index, ids in enumerate(prompts):
        if not ids or len(ids) + max_new_tokens > model.context:
            message = (
                f"prompt {index} has {len(ids)} tokens; expected 1 to {model.context - max_new_tokens}, so "
                f"that {max_new_tokens} more fit into the model's context."
            )
            raise ModelError(message)
    for batch in length_batches(prompts, max_tokens=max_tokens):
        rows = [prompts[index] for index in batch]
        for index, reply in zip(
            batch, _generate(model, rows, end_ids, max_new_tokens, steering), strict=True
        ):
            replies[index] = reply
    return replies


def next_token_logs(
    model: LocalModel,
    prompts: Sequence[Sequence[int]],
    *,
    steering: Steering | None = None,
    max_tokens: int = MAX_TOKENS,
) -> Array:
    """Log-probabilities of the first token after each prompt, shape (prompts, vocabulary), in nats."""
    import torch

    found: list[Array | None] = [None] * len(prompts)
    for batch in length_batches(prompts, max_tokens=max_tokens):
        rows = [prompts[index] for index in batch]
        ids, mask, positions = left_padded(model, rows)
        with torch.inference_mode(), _steered(model, rows, ids.shape[1], steering):
            logits = model.torch_model(
                input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False, logits_to_keep=1
            ).logits[:, -1]
        for index, row in zip(batch, logits.float().log_softmax(dim=-1).cpu().numpy(), strict=True):
            found[index] = row
    return np.stack([row for row in found if row is not None])


def _generate(
    model: LocalModel,
    rows: Sequence[Sequence[int]],
    end_ids: Sequence[int],
    max_new_tokens: int,
    steering: Steering | None,
) -> list[list[int]]:
    import torch
    from transformers import DynamicCache

    ids, mask, positions = left_padded(model, rows)
    ends = torch.tensor(list(end_ids), device=ids.device)
    cache = DynamicCache()
    done = torch.zeros(len(rows), dtype=torch.bool, device=ids.device)
    steps: list[Tensor] = []
    with torch.inference_mode():
        for step in range(max_new_tokens):
            during: AbstractContextManager[None] = (
                _steered(model, rows, ids.shape[1], steering) if step == 0 else nullcontext()
            )
            with during:
                logits = model.torch_model(
                    input_ids=ids,
                    attention_mask=mask,
                    position_ids=positions,
                    past_key_values=cache,
                    use_cache=True,
                    logits_to_keep=1,
                ).logits[:, -1]
            chosen = logits.argmax(dim=-1)
            done = done | torch.isin(chosen, ends)
            steps.append(torch.where(done, -1, chosen))
            if bool(done.all()):
                break
            ids, positions = chosen[:, None], positions[:, -1:] + 1
            mask = torch.cat([mask, mask.new_ones((len(rows), 1))], dim=1)
    table = torch.stack(steps, dim=1).tolist()
    return [[token for token in row if token >= 0] for row in table]


def left_padded(model: LocalModel, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, mask and positions, padded on the left so that every prompt ends in the last column."""
    import torch

    longest = max(map(len, rows))
    ids = torch.zeros((len(rows), longest), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, longest - len(row) :] = torch.tensor(list(row))
        mask[i, longest - len(row) :] = 1
    positions = (mask.cumsum(dim=1) - 1).clamp_min(0)
    device = model.torch_model.device
    return ids.to(device), mask.to(device), positions.to(device)


@contextmanager
def _steered(
    model: LocalModel, rows: Sequence[Sequence[int]], longest: int, steering: Steering | None
) -> Iterator[None]:
    """Add the vector at the prompts' own tokens, of rows padded on the left, while the block is open."""
    import torch

    if steering is None:
        yield
        return
    places = torch.zeros((len(rows), longest))
    for i, row in enumerate(rows):
        places[i, longest - len(row) : longest - steering.last] = 1
    with steered_at(model, places, steering):
        yield


@contextmanager
def steered_at(model: LocalModel, places: Tensor, steering: Steering) -> Iterator[None]:
    """Add the vector to one block's input at given tokens while the block is open.

    Args:
        model: Whose forward passes inside the block are changed.
        places: 1 where the vector is added and 0 elsewhere, of the shape (batch, tokens) of these passes.
        steering: Vector, block and coefficient; its `last` is not looked at.

    Raises:
        ModelError: If the vector or the block does not fit.
    """
    import torch

    if steering.coefficient == 0:
        yield
        return
    blocks = find_blocks(model.torch_model)
    if not 0 <= steering.row < len(blocks) or steering.vector.shape != (model.width,):
        message = (
            f"expected a vector of shape ({model.width},) at a block from 0 to {len(blocks) - 1}, got shape "
            f"{steering.vector.shape} at block {steering.row}."
        )
        raise ModelError(message)
    device, kind = model.torch_model.device, model.torch_model.dtype
    added = (places * steering.coefficient).to(device, kind)[..., None]
    shift = added * torch.from_numpy(np.ascontiguousarray(steering.vector)).to(device, kind)

    def change(
        _module: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]
    ) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
        if args:
            return (args[0] + shift, *args[1:]), kwargs
        return args, {**kwargs, "hidden_states": kwargs["hidden_states"] + shift}

    handle = blocks[steering.row].register_forward_pre_hook(change, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
