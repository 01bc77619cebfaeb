"""Backward passes through long texts in little memory: activations inside blocks are computed again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from tocsin.models.local.blocks import find_blocks

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedModel


@contextmanager
def recomputing(model: PreTrainedModel) -> Iterator[None]:
    """Keep only what goes into each block, and compute the rest again when gradients are taken.

    A backward pass otherwise keeps every activation of every block: about 1.4 MB for each token of a model of
    135 million weights, so that one long text outweighs the model. Gradients are the same bit for bit on one
    machine; a pass costs about a third more time. `gradient_checkpointing_enable` of transformers would need
    the model in training mode, with its dropout.

    Args:
        model: Run and differentiated inside the block, both; its modules are as before after it.

    Raises:
        ModelError: If the model has no list of blocks.
    """
    from torch.utils.checkpoint import checkpoint

    def wrapped(forward: Callable[..., object]) -> Callable[..., object]:
        return partial(checkpoint, forward, use_reentrant=False)

    blocks = find_blocks(model)
    own: list[tuple[nn.Module, object]] = [(block, vars(block).get("forward")) for block in blocks]

    def undo() -> None:
        for block, before in own:
            vars(block).pop("forward", None)
            if before is not None:
                vars(block)["forward"] = before

    try:
        for block in blocks:
            block.forward = wrapped(block.forward)
        yield
    finally:
        # Also when the interrupt comes in the middle of this. Written out, since a helper could be
        # interrupted before it begins to try.
        try:
            undo()
        except KeyboardInterrupt:
            undo()
            raise
