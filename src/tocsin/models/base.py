"""What the capture engine asks of a model whose activations can be read.

Rows of hidden states follow card 03: row 0 is the embedding output, row `b` is the output of block `b`
(which is the input of the next block), before any final norm. A model with L blocks has rows 0..L.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

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

    def hidden(self, sequences: Sequence[Sequence[int]], rows: Sequence[int], *, prefix: Sequence[int] = ()) -> Iterator[Hidden]:
        """Hidden states at the given rows, in batches of similar length.

        The prefix is computed once and kept; the forward pass stops at the largest row. Batches come in any
        order and cover each sequence once.
        """
        ...
