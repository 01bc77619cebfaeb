"""What the capture engine asks of a model whose activations can be read.

Rows of hidden states follow card 03: row 0 is the embedding output, row `b` is the output of block `b`
(which is the input of the next block), before any final norm. A model with L blocks has rows 0..L.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from tocsin.core.errors import ModelError
from tocsin.core.records import Turn

Array = NDArray[np.float32]


class Encoded(NamedTuple):
    """Token ids and, for each, the characters it covers."""

    ids: list[int]
    offsets: list[tuple[int, int]]


class Hidden(NamedTuple):
    """Hidden states of one batch."""

    indices: list[int]
    """Which of the given sequences are in this batch."""
    lengths: list[int]
    """Number of own tokens of each (the shared prefix is not counted)."""
    states: Array
    """Shape (batch, rows, longest length, width), padded on the right with undefined values."""


@runtime_checkable
class ActivationModel(Protocol):
    """A causal language model whose residual stream can be read."""

    @property
    def id(self) -> str:
        """Name for provenance."""
        ...

    @property
    def revision(self) -> str:
        """Hash that changes when the weights change."""
        ...

    @property
    def n_blocks(self) -> int:
        """Number of transformer blocks."""
        ...

    @property
    def width(self) -> int:
        """Width of the residual stream."""
        ...

    @property
    def context(self) -> int:
        """Longest sequence in tokens."""
        ...

    @property
    def template_hash(self) -> str:
        """Hash of the chat template."""
        ...

    @property
    def raw_prefix(self) -> tuple[int, ...]:
        """Special tokens that the tokenizer puts before a text without a template; often one, or none."""
        ...

    def encode(self, text: str) -> Encoded:
        """Tokens of a text; special tokens written in it by the template are recognised."""
        ...

    def encode_untrusted(self, text: str) -> Encoded:
        """Tokens of a text in which special tokens are ordinary characters."""
        ...

    def render(self, turns: Sequence[Turn], *, generation_prompt: bool = True) -> str:
        """The chat template applied to turns."""
        ...

    def final_norm(self, states: Array) -> Array:
        """The norm after the last block, for methods that read it there."""
        ...

    def hidden(
        self, sequences: Sequence[Sequence[int]], rows: Sequence[int], *, prefix: Sequence[int] = ()
    ) -> Iterator[Hidden]:
        """Hidden states at the given rows, in batches of similar length.

        The prefix is computed once and kept; the forward pass stops at the largest row. Batches come in any
        order and cover each sequence once.
        """
        ...


def check_request(
    sequences: Sequence[Sequence[int]],
    rows: Sequence[int],
    prefix: Sequence[int],
    *,
    n_blocks: int,
    context: int,
) -> None:
    """Refuse what no model can compute, before any work is done.

    Raises:
        ModelError: If a row does not exist, a sequence is empty, or prefix and sequence exceed the context.
    """
    if not rows or not all(0 <= row <= n_blocks for row in rows):
        message = (
            f"hidden states were asked for at rows {list(rows)}; expected at least one row from 0 to "
            f"{n_blocks}."
        )
        raise ModelError(message)
    for index, sequence in enumerate(sequences):
        if not sequence:
            message = f"sequence {index} has no tokens; expected at least one."
            raise ModelError(message)
        if len(prefix) + len(sequence) > context:
            message = (
                f"sequence {index} has {len(prefix) + len(sequence)} tokens with its template; this model "
                "reads at most "
                f"{context}. Cut the text into windows."
            )
            raise ModelError(message)


def length_batches(
    sequences: Sequence[Sequence[int]], *, max_tokens: int | None = None, max_sequences: int | None = None
) -> Iterator[list[int]]:
    """Indices of sequences in batches of similar length, shortest first.

    Args:
        sequences: Token ids.
        max_tokens: Most tokens of a padded batch. A single longer sequence is a batch of its own.
        max_sequences: Most sequences of a batch.
    """
    order = sorted(range(len(sequences)), key=lambda index: len(sequences[index]))
    batch: list[int] = []
    for index in order:
        is_full = max_sequences is not None and len(batch) >= max_sequences
        is_wide = max_tokens is not None and len(sequences[index]) * (len(batch) + 1) > max_tokens
        if batch and (is_full or is_wide):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
