"""Prompt and response as one sequence of tokens, and how likely the response is: teacher forcing.

The loss of a sample is the mean over its response tokens (arXiv 2604.09544, section 3.1), so that every
sample weighs equally whatever its length. Prompt and response are tokenised apart and joined, as published;
the response is text from outside, so special tokens in it are ordinary characters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from tocsin.core.errors import InputError
from tocsin.internals.layout import PromptLayout, Template
from tocsin.models.base import length_batches

if TYPE_CHECKING:
    from torch import Tensor

    from tocsin.models.local import LocalModel

JOINER = "\n"
"""Between prompt and response without a chat template."""
TOKENS_PER_BATCH = 512
"""Tokens of a padded batch: the output layer of a large vocabulary holds a number for each token and word."""


class ResponseTokens(NamedTuple):
    """Tokens of a prompt with its response."""

    ids: list[int]
    start: int
    """Index of the response's first token."""


class ResponseBatch(NamedTuple):
    """Samples side by side, padded on the right."""

    indices: list[int]
    """Which samples."""
    ids: Tensor
    """Token ids, shape (batch, longest)."""
    mask: Tensor
    """1 where a token is, shape (batch, longest)."""
    targets: Tensor
    """The token that each place should predict, -100 outside the response, shape (batch, longest)."""
    first: int
    """No place before this one predicts a token of a response."""


def encode_pairs(
    model: LocalModel, pairs: Sequence[tuple[str, str]], *, template: Template = "chat"
) -> list[ResponseTokens]:
    """Tokens of (prompt, response) pairs.

    Args:
        model: Gives tokens and template.
        pairs: Prompts with their responses.
        template: `chat` for the model's own; `raw` for the prompt, a line break and the response.

    Raises:
        InputError: If a response holds no token, or a sample exceeds the model's context; names its number.
    """
    layout = PromptLayout(model, template)
    found = []
    for number, (prompt, response) in enumerate(pairs, start=1):
        built = layout.build(prompt)
        before = [*built.prefix, *built.ids]
        if template == "raw":
            before += model.encode_untrusted(JOINER).ids
        after = model.encode_untrusted(response.strip()).ids
        if not after:
            message = f"sample {number} has a response without tokens. Leave it out, or give its response."
            raise InputError(message)
        if len(before) + len(after) > model.context:
            message = (
                f"sample {number} has {len(before) + len(after)} tokens; this model reads at most "
                f"{model.context}. Shorten it."
            )
            raise InputError(message)
        found.append(ResponseTokens(before + after, len(before)))
    return found


def batches(
    samples: Sequence[ResponseTokens], device: object = "cpu", *, max_tokens: int = TOKENS_PER_BATCH
) -> Iterator[ResponseBatch]:
    """Samples in padded batches of similar length, each once.

    Args:
        samples: Of any length.
        device: Where the tensors go.
        max_tokens: Most tokens of a padded batch; a single longer sample is a batch of its own.
    """
    import torch

    for indices in length_batches([sample.ids for sample in samples], max_tokens=max_tokens):
        longest = max(len(samples[i].ids) for i in indices)
        ids = torch.zeros((len(indices), longest), dtype=torch.long)
        mask = torch.zeros_like(ids)
        targets = torch.full_like(ids, -100)
        for row, i in enumerate(indices):
            tokens = torch.tensor(samples[i].ids)
            end, start = len(tokens), samples[i].start
            ids[row, :end] = tokens
            mask[row, :end] = 1
            targets[row, start - 1 : end - 1] = tokens[start:]
        first = min(samples[i].start for i in indices) - 1
        where = torch.device(str(device))
        yield ResponseBatch(indices, ids.to(where), mask.to(where), targets.to(where), first)


def response_losses(model: LocalModel, batch: ResponseBatch) -> Tensor:
    """Mean negative log-likelihood of each sample's response tokens, in nats; shape (batch,), float32.

    Differentiable where the caller has gradients on.
    """
    losses, counts = token_losses(model, batch)
    return losses.sum(dim=1) / counts


def token_losses(model: LocalModel, batch: ResponseBatch) -> tuple[Tensor, Tensor]:
    """Negative log-likelihood of every response token, in nats.

    The output layer runs only on the places that predict a response.

    Returns:
        Losses of shape (batch, places), 0 outside the response, and the number of response tokens of each
        sample, of shape (batch,).
    """
    import torch
    from torch.nn.functional import cross_entropy

    length = batch.ids.shape[1]
    places = torch.arange(batch.first, length - 1, device=batch.ids.device)
    output = model.torch_model(
        input_ids=batch.ids, attention_mask=batch.mask, use_cache=False, logits_to_keep=places
    )
    targets = batch.targets[:, batch.first : length - 1]
    logits = output.logits.float()
    losses = cross_entropy(logits.transpose(1, 2), targets, ignore_index=-100, reduction="none")
    return losses, (targets != -100).sum(dim=1)
