"""Other values in named weights for a while; every weight has its old bits afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tocsin.core.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


@contextmanager
def swapped(model: PreTrainedModel, values: Mapping[str, Tensor]) -> Iterator[None]:
    """Put values into the parameters of these names inside the block, and the old bits back after it.

    Args:
        model: Not to be used by another thread meanwhile.
        values: New values by parameter name, of the parameter's shape.

    Raises:
        ModelError: If the model has no parameter of a name, or one of another shape.
    """
    import torch

    parameters = dict(model.named_parameters())
    for name, value in values.items():
        there = tuple(parameters[name].shape) if name in parameters else None
        if there != tuple(value.shape):
            got = "no such parameter" if there is None else f"shape {there}"
            message = f"expected {name} of shape {tuple(value.shape)}, the model has {got}."
            raise ModelError(message + " Use models of one architecture.")
    kept: list[tuple[Tensor, Tensor]] = []

    def undo() -> None:
        for parameter, old in kept:
            parameter.copy_(old)

    try:
        with torch.no_grad():
            for name, value in values.items():
                parameter = parameters[name].data
                kept.append((parameter, parameter.clone()))
                parameter.copy_(value)
        yield
    finally:
        # Also when the interrupt comes in the middle of this. Written out, since a helper could be
        # interrupted before it begins to try.
        try:
            undo()
        except KeyboardInterrupt:
            undo()
            raise
