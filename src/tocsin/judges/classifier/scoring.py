"""The model's next word after the question, and the loss that it is trained with."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from tocsin.core.errors import ModelError
from tocsin.models.base import length_batches

if TYPE_CHECKING:
    from torch import Tensor

    from tocsin.models.local import LocalModel

TOKENS_PER_BATCH = 4096
_TINY = 1e-300


class Answer(NamedTuple):
    """How likely the two answers are as the next token."""

    p_yes: float
    p_no: float

    @property
    def mass(self) -> float:
        """Probability of an answer at all, from 0 to 1."""
        return self.p_yes + self.p_no

    @property
    def score(self) -> float:
        """p(Yes) / (p(Yes) + p(No)), from 0 to 1; NaN without mass."""
        return self.p_yes / self.mass if self.mass > 0 else math.nan

    @property
    def log_odds(self) -> float:
        """log(p(Yes) / p(No)), for ranking: near 0 and 1 many scores are the same number. Finite."""
        return math.log(max(self.p_yes, _TINY)) - math.log(max(self.p_no, _TINY))


def soft_label_loss(logits: Tensor, soft: Tensor, *, yes: int, no: int) -> Tensor:
    """-[y log p(Yes) + (1 - y) log p(No)] of each item, in nats (arXiv 2509.24384, released training code).

    The softmax is over the whole vocabulary, so probability of any other token costs too.

    Args:
        logits: At the position that predicts the answer, shape (items, vocabulary).
        soft: Soft labels y from 0 to 1, shape (items,).
        yes: Token id of Yes.
        no: Token id of No.

    Returns:
        Shape (items,), at least the entropy of y.

    Example:
        >>> import torch
        >>> loss = soft_label_loss(torch.zeros(1, 4), torch.tensor([0.5]), yes=0, no=1)
        >>> round(loss.item(), 4)  # every token has probability 1/4, and log 4 = 1.3863
        1.3863
    """
    logs = logits.float().log_softmax(dim=-1)
    return -(soft * logs[:, yes] + (1 - soft) * logs[:, no])


def answer_logits(model: LocalModel, sequences: Sequence[Sequence[int]]) -> Tensor:
    """Logits of the token after each sequence, shape (sequences, vocabulary), float32; differentiable.

    What all sequences begin with (the instructions) is computed once for the batch. They are padded on the
    right, where causal attention does not see it.

    Raises:
        ModelError: If the batch does not fit into the device's memory.
    """
    import torch

    try:
        return _logits(model, sequences)
    except torch.OutOfMemoryError as error:
        longest = max(len(sequence) for sequence in sequences)
        message = (
            f"a batch of {len(sequences)} sequences of {longest} tokens does not fit into the memory of "
            f"{model.torch_model.device}. Use a smaller batch."
        )
        raise ModelError(message) from error


def _logits(model: LocalModel, sequences: Sequence[Sequence[int]]) -> Tensor:
    import torch
    from transformers import DynamicCache

    network, n = model.torch_model, len(sequences)
    device = network.device
    shared = common_beginning(sequences) if n > 1 else 0
    past = None
    if shared:
        beginning = torch.tensor([list(sequences[0][:shared])], device=device)
        first = network(input_ids=beginning, use_cache=True, logits_to_keep=1).past_key_values
        past = DynamicCache(
            [(key.expand(n, -1, -1, -1), value.expand(n, -1, -1, -1)) for key, value, _ in first]
        )
    lengths = [len(sequence) - shared for sequence in sequences]
    ids = torch.zeros((n, max(lengths)), dtype=torch.long)
    mask = torch.zeros((n, shared + max(lengths)), dtype=torch.long)
    for row, sequence in enumerate(sequences):
        ids[row, : lengths[row]] = torch.tensor(list(sequence[shared:]))
        mask[row, : len(sequence)] = 1
    last = torch.tensor(lengths, device=device) - 1
    # The output layer of a large vocabulary runs only where some sequence of the batch ends.
    places, where = torch.unique(last, return_inverse=True)
    logits: Tensor = network(
        input_ids=ids.to(device),
        attention_mask=mask.to(device),
        past_key_values=past,
        use_cache=past is not None,
        logits_to_keep=places,
    ).logits
    return logits[torch.arange(n, device=device), where].float()


def common_beginning(sequences: Sequence[Sequence[int]]) -> int:
    """How many tokens all sequences begin with; at least one token of each is left over."""
    first, last = min(map(list, sequences)), max(map(list, sequences))
    most = min(len(sequence) for sequence in sequences) - 1
    for index in range(most):
        if first[index] != last[index]:
            return index
    return most


def answers(
    model: LocalModel,
    sequences: Sequence[Sequence[int]],
    *,
    yes: int,
    no: int,
    max_sequences: int | None = None,
) -> Iterator[tuple[int, Answer]]:
    """Index and answer of each sequence, in batches of similar length and so in any order; each once."""
    import torch

    for batch in length_batches(sequences, max_tokens=TOKENS_PER_BATCH, max_sequences=max_sequences):
        with torch.inference_mode():
            logs = answer_logits(model, [sequences[index] for index in batch]).log_softmax(dim=-1)
        found = logs[:, [yes, no]].double().exp().tolist()
        for index, (p_yes, p_no) in zip(batch, found, strict=True):
            yield index, Answer(p_yes, p_no)
