"""How likely chosen tokens are to come next."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from tocsin.core.errors import ModelError
from tocsin.models.base import Array, length_batches

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel

MAX_TOKENS = 4096
"""Of a batch, padding included, where no batch size is given."""


def next_log_probs(
    model: PreTrainedModel,
    sequences: Sequence[Sequence[int]],
    tokens: Sequence[int],
    *,
    batch_size: int | None = None,
) -> Array:
    """Natural logarithm of the probability that each token follows each sequence.

    One forward pass; the softmax is over the whole vocabulary, in float32.

    Args:
        model: A causal language model with its head.
        sequences: Not empty, none longer than the model's context.
        tokens: Ids.
        batch_size: Most sequences of a batch.

    Returns:
        Shape (sequences, tokens).

    Raises:
        ModelError: If a batch does not fit into the device's memory.
    """
    import torch

    found = np.empty((len(sequences), len(tokens)), dtype=np.float32)
    limit = None if batch_size else MAX_TOKENS
    for batch in length_batches(sequences, max_tokens=limit, max_sequences=batch_size):
        chosen = [sequences[index] for index in batch]
        try:
            logits = _last_logits(model, chosen)
        except torch.OutOfMemoryError as error:
            longest = max(len(sequence) for sequence in chosen)
            message = (
                f"a batch of {len(chosen)} sequences of {longest} tokens does not fit into the memory of "
                f"{model.device}. Use a smaller --batch-size."
            )
            raise ModelError(message) from error
        found[batch] = torch.log_softmax(logits.float(), dim=-1)[:, list(tokens)].cpu().numpy()
    return found


def _last_logits(model: PreTrainedModel, sequences: Sequence[Sequence[int]]) -> Tensor:
    """Logits behind the last token of each sequence, shape (batch, vocabulary)."""
    import torch

    longest = max(len(sequence) for sequence in sequences)
    ids = np.zeros((len(sequences), longest), dtype=np.int64)
    mask = np.zeros_like(ids)
    for row, sequence in enumerate(sequences):
        # Padding goes to the left, so that one place is the last of all.
        ids[row, longest - len(sequence) :] = sequence
        mask[row, longest - len(sequence) :] = 1
    arguments = {"input_ids": ids, "attention_mask": mask}
    takes = inspect.signature(model.forward).parameters
    if "position_ids" in takes:
        arguments["position_ids"] = np.maximum(mask.cumsum(axis=1) - 1, 0)
    # The head is run on the last place only: over all places its output is larger than the model.
    kept = {"logits_to_keep": 1} if "logits_to_keep" in takes else {}
    with torch.inference_mode():
        out = model(
            **{name: torch.from_numpy(value).to(model.device) for name, value in arguments.items()},
            use_cache=False,
            **kept,
        )
    logits: Tensor = out.logits[:, -1]
    return logits
