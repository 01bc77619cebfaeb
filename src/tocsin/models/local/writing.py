"""Greedy writing in batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class Written(NamedTuple):
    """What a model wrote."""

    ids: list[int]
    """Without the token that ends a reply."""
    is_cut: bool
    """Whether the longest length ended it."""


def write_greedily(
    model: PreTrainedModel, sequences: Sequence[Sequence[int]], *, max_tokens: int, ends: Sequence[int]
) -> list[Written]:
    """Continue each sequence with the likeliest token until an end.

    Args:
        model: A causal language model.
        sequences: One batch; shorter ones are padded on the left.
        max_tokens: Longest reply.
        ends: Tokens that end a reply.
    """
    if not sequences:
        return []
    import torch

    longest = max(len(sequence) for sequence in sequences)
    padded = [[0] * (longest - len(sequence)) + list(sequence) for sequence in sequences]
    mask = [[0] * (longest - len(sequence)) + [1] * len(sequence) for sequence in sequences]
    device = model.device
    with torch.inference_mode():
        out = model.generate(  # type: ignore[operator]  # a mixin that torch types as a tensor
            input_ids=torch.tensor(padded, device=device),
            attention_mask=torch.tensor(mask, device=device),
            max_new_tokens=max_tokens,
            do_sample=False,
            pad_token_id=ends[0] if ends else 0,
        )
    found = []
    for row in out[:, longest:].tolist():
        stop = next((place for place, token in enumerate(row) if token in ends), None)
        found.append(Written(row if stop is None else row[:stop], stop is None))
    return found
