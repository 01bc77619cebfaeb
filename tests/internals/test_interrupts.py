"""Whatever a study changes in a model is undone, also when an interrupt comes while it is done or undone."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType

import numpy as np
import pytest
import torch
from torch import nn

from tiny_models import tiny_llama
from tocsin.explain.weights.attribution import gradients_of
from tocsin.internals.recomputing import recomputing
from tocsin.internals.weight_mask import WeightMask, block_matrices, masked
from tocsin.internals.weight_swap import swapped
from tocsin.internals.weights_digest import weights_digest
from tocsin.models.local import LocalModel


class _Wrapper:
    """As much of a LocalModel as gradients need."""

    def __init__(self, model: nn.Module) -> None:
        self.torch_model = model


def _mask(model: nn.Module) -> WeightMask:
    matrices = block_matrices(model)  # type: ignore[arg-type]
    shapes = {name: (m.shape[0], m.shape[1]) for name, m in matrices.items()}
    return WeightMask({name: np.arange(4) for name in list(matrices)[:3]}, shapes)


def _changes(model: nn.Module, name: str) -> AbstractContextManager[None]:
    matrices = block_matrices(model)  # type: ignore[arg-type]
    if name == "masked":
        return masked(model, _mask(model))  # type: ignore[arg-type]
    if name == "swapped":
        return swapped(model, {n: torch.zeros_like(m) for n, m in list(matrices.items())[:3]})  # type: ignore[arg-type]
    if name == "recomputing":
        return recomputing(model)  # type: ignore[arg-type]
    wrapper: LocalModel = _Wrapper(model)  # type: ignore[assignment]
    return gradients_of(wrapper, matrices, lambda _name, _gradient: None)


def _state(model: nn.Module) -> tuple[object, ...]:
    return (
        weights_digest(model),
        [p.requires_grad for p in model.parameters()],
        [None if p.grad is None else p.grad.sum().item() for p in model.parameters()],
        ["forward" in vars(module) for module in model.modules()],
    )


class _Interrupts:
    """Raises KeyboardInterrupt at one line of a module: before the block is open, or while it is undone."""

    def __init__(self, module: str, at: int) -> None:
        self.module, self.at, self.seen, self.is_open = module, at, 0, False

    def __call__(self, frame: FrameType, event: str, _arg: object) -> Callable[..., object] | None:
        if not frame.f_code.co_filename.endswith(self.module):
            return None
        if event == "line" and (not self.is_open or frame.f_code.co_name == "undo"):
            self.seen += 1
            if self.seen == self.at:
                raise KeyboardInterrupt
        return self


@contextmanager
def _traced(trace: _Interrupts) -> Iterator[None]:
    before = sys.gettrace()
    sys.settrace(trace)  # type: ignore[arg-type]
    try:
        yield
    finally:
        sys.settrace(before)


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("masked", "weight_mask.py"),
        ("swapped", "weight_swap.py"),
        ("recomputing", "recomputing.py"),
        ("gradients", "attribution.py"),
    ],
)
def test_an_interrupt_at_any_line_leaves_the_model_as_it_was(name: str, module: str) -> None:
    model = tiny_llama()
    next(iter(model.parameters())).grad = torch.ones_like(next(iter(model.parameters())))
    before = _state(model)
    interrupted = 0
    while True:
        change = _changes(model, name)
        trace = _Interrupts(module, interrupted + 1)
        try:
            with _traced(trace), change:
                trace.is_open = True
                assert name == "gradients" or _state(model) != before
        except KeyboardInterrupt:
            interrupted += 1
            # A trace can strike where no signal does: between the end of a `with` and its leaving.
            torch.set_grad_enabled(True)
            assert _state(model) == before, interrupted
        else:
            break
    assert interrupted > 10
    assert _state(model) == before
