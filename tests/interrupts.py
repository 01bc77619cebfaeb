"""Ctrl+C in the middle of a forward pass, and what must not be left of a study that it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from tocsin.internals.weights_digest import weights_digest
from tocsin.models.local import LocalModel
from tocsin.models.local.blocks import find_blocks

Block = Callable[..., AbstractContextManager[None]]


def state(model: LocalModel) -> tuple[str, int]:
    """Hash of a model's weights, and how many hooks act on it."""
    modules = list(model.torch_model.modules())
    hooks = sum(len(each._forward_hooks) + len(each._forward_pre_hooks) for each in modules)
    return weights_digest(model.torch_model), hooks


def interrupting(real: Block, model: LocalModel, *, at: int, when: Callable[..., bool]) -> Block:
    """A context manager as `real`, in which the last block of the model raises `KeyboardInterrupt`.

    Args:
        real: Holds a change of the model inside its block.
        model: Whose forward pass is interrupted.
        at: Raise inside the block that is entered for this time, from 1.
        when: Is told the arguments: does this block count?
    """
    entered = 0

    def stop(*_args: Any) -> None:
        raise KeyboardInterrupt

    @contextmanager
    def block(*args: Any, **options: Any) -> Iterator[None]:
        nonlocal entered
        with real(*args, **options):
            entered += when(*args, **options)
            if entered != at:
                yield
                return
            handle = find_blocks(model.torch_model)[-1].register_forward_hook(stop)
            try:
                yield
            finally:
                handle.remove()

    return block
