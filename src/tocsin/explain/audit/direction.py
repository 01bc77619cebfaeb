"""Which difference of means is the base's refusal direction (arXiv 2406.11717; card 02, section 3.6)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tocsin.explain.audit.geometry import Floats
from tocsin.internals.anatomy import Anatomy
from tocsin.internals.outcomes import first_tokens
from tocsin.internals.steering import Steering, next_token_logs

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tocsin.explain.audit.speaking import Speaker
    from tocsin.models.base import Array

N_VALIDATION = 32
"""Most prompts of each side that a direction is chosen by."""
DEPTH = 0.8
"""Layers after this share of the depth are no candidates."""
MOST_DIVERGENCE = 0.1
"""Of harmless prompts' next token, in nats, when the direction is taken out."""
_EPS = 1e-8


class Choice(NamedTuple):
    """A direction and where it was read."""

    row: int
    """Row of hidden states: r is the output of block r, which is the input of the next."""
    position: int
    """Index of the position."""
    by_ablation: bool
    """False where no candidate passed, or the base does not refuse, and the best probe decided."""


def refusal_scores(logs: Array, firsts: Sequence[int]) -> Floats:
    """Log-odds that the first token of a reply opens a refusal; `logs` as of `next_token_logs`."""
    chosen = logs[:, list(firsts)].astype(np.float64)
    top = chosen.max(axis=1, keepdims=True)
    log_p = np.minimum(top[:, 0] + np.log(np.exp(chosen - top).sum(axis=1)), 0.0)
    scores: Floats = log_p - np.log(np.maximum(-np.expm1(log_p), _EPS))
    return scores


def refusal_openers(speaker: Speaker, refusals: Sequence[str]) -> tuple[int, ...]:
    """First tokens of the model's own refusals, the commonest five."""
    return first_tokens(speaker.model, refusals)


def choose_by_ablation(
    speaker: Speaker,
    directions: Floats,
    rows: Sequence[int],
    harmful: Sequence[str],
    harmless: Sequence[str],
    firsts: Sequence[int],
) -> Choice | None:
    """The direction without which harmful prompts are refused least.

    A candidate must leave harmless prompts as they are when it is taken out, and make them refused when it
    is added at the block that reads it.

    Args:
        speaker: The base.
        directions: Differences of means, shape (rows, positions, width).
        rows: Row of hidden states of each.
        harmful: Prompts that took no part in the means, and on which nothing is measured later.
        harmless: Likewise.
        firsts: First tokens of refusals.

    Returns:
        None when no candidate passes.
    """
    model = speaker.model
    bad = [speaker.ids(prompt) for prompt in harmful]
    good = [speaker.ids(prompt) for prompt in harmless]
    usual = next_token_logs(model, good).astype(np.float64)
    best: tuple[float, Choice] | None = None
    for i, row in enumerate(rows):
        if row > DEPTH * model.n_blocks or row >= model.n_blocks:
            continue
        for position in range(directions.shape[1]):
            vector = directions[i, position]
            size = float(np.linalg.norm(vector))
            if size < _EPS:
                continue
            with ablated(speaker, vector / size):
                without = next_token_logs(model, good).astype(np.float64)
                left = float(refusal_scores(next_token_logs(model, bad), firsts).mean())
            divergence = float((np.exp(usual) * (usual - without)).sum(axis=1).mean())
            added = next_token_logs(model, good, steering=Steering(row, vector.astype(np.float32)))
            is_fit = divergence <= MOST_DIVERGENCE and float(refusal_scores(added, firsts).mean()) > 0
            if is_fit and (best is None or left < best[0]):
                best = left, Choice(row, position, by_ablation=True)
    return None if best is None else best[1]


@contextmanager
def ablated(speaker: Speaker, unit: Floats) -> Iterator[None]:
    """Take a direction out of all that is written to the residual stream, while this is open."""
    import torch

    model = speaker.model.torch_model
    anatomy = Anatomy(model)
    direction = torch.from_numpy(unit).to(model.device, model.dtype)

    def without(states: Tensor) -> Tensor:
        return states - (states @ direction)[..., None] * direction

    def after(
        _module: nn.Module, _args: object, output: Tensor | tuple[Tensor, ...]
    ) -> Tensor | tuple[Tensor, ...]:
        return (without(output[0]), *output[1:]) if isinstance(output, tuple) else without(output)

    written = [model.get_input_embeddings(), *anatomy.attention, *anatomy.mlp, *anatomy.blocks]
    handles = [module.register_forward_hook(after) for module in written]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
