"""Which weights to remove: the top of one ranking less the top of another (arXiv 2604.09544, section 3.2)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from tocsin.core.errors import UsageError
from tocsin.internals.weight_mask import Indices, WeightMask

if TYPE_CHECKING:
    from torch import Tensor

    from tocsin.explain.weights.attribution import Scores

Scope = Literal["matrix", "global"]
Chosen = dict[str, Indices]
"""Positions of weights in each matrix."""


@dataclass(frozen=True, slots=True)
class Ranking:
    """The best weights by some score, as far down as was asked for."""

    scope: Scope
    """`matrix` ranks each matrix by itself and takes the same share of every one, as published; `global`
    ranks all together."""
    sizes: Mapping[str, int]
    """Number of weights of each matrix."""
    entries: Mapping[str, Indices]
    """For each matrix an array of shape (2, kept): positions, best first, and their ranks from 0."""

    def cut(self, share: float, *, skip: float = 0.0) -> Chosen:
        """The best weights.

        Args:
            share: Part of the weights, of each matrix or of all together.
            skip: Part of the best that is left out first, for the control with ranks q to 2q.
        """
        found: Chosen = {}
        for name, (positions, ranks) in self.entries.items():
            size = self.sizes[name] if self.scope == "matrix" else sum(self.sizes.values())
            first = quota(skip, size)
            found[name] = positions[(ranks >= first) & (ranks < first + quota(share, size))]
        return found


def quota(share: float, size: int) -> int:
    """Number of weights that a share of a matrix stands for: at least one unless the share is 0.

    The published rounding down gives none for a matrix of fewer than 1 / share weights.
    """
    if not 0 <= share <= 1:
        message = f"a share of weights lies between 0 and 1, got {share}."
        raise UsageError(message)
    return max(1, int(share * size)) if share else 0


def rank(scores: Scores, share: float, *, scope: Scope = "matrix") -> Ranking:
    """The weights with the highest scores; equal scores in the order of their positions.

    Args:
        scores: One number for each weight.
        share: How far down the ranking is kept, as a part of the weights.
        scope: See `Ranking`.
    """
    import torch

    sizes = {name: len(values) for name, values in scores.items()}
    if scope == "matrix":
        best = {name: _best(values, quota(share, len(values))) for name, values in scores.items()}
        ranks = {name: np.arange(len(where)) for name, where in best.items()}
        return Ranking(scope, sizes, {name: np.stack([best[name], ranks[name]]) for name in best})
    wanted = quota(share, sum(sizes.values()))
    # The best of all are among the best of each, so that all scores are never put side by side.
    best = {name: _best(values, min(len(values), wanted)) for name, values in scores.items()}
    values = torch.cat([scores[name].cpu()[torch.from_numpy(where)] for name, where in best.items()])
    order = np.argsort(-values.numpy(), kind="stable")
    overall = np.empty(len(order), dtype=np.int64)
    overall[order] = np.arange(len(order))
    entries, start = {}, 0
    for name, where in best.items():
        ranks_here = overall[start : start + len(where)]
        start += len(where)
        is_kept = ranks_here < wanted
        entries[name] = np.stack([where[is_kept], ranks_here[is_kept]])
    return Ranking(scope, sizes, entries)


def _best(values: Tensor, n: int) -> Indices:
    """Positions of the `n` highest, best first, ties by position."""
    import torch

    if n == 0:
        return np.empty(0, dtype=np.int64)
    threshold = torch.topk(values, n, sorted=True).values[-1]
    # Everything above the last score, then as many of its equals as are wanted, by position: `topk` alone
    # leaves the order of equals to the machine.
    above = (values > threshold).nonzero().flatten()
    equal = (values == threshold).nonzero().flatten()[: n - len(above)]
    order = torch.sort(values[above], descending=True, stable=True).indices
    found: Indices = torch.cat([above[order], equal]).cpu().numpy()
    return found


def difference(prune: Chosen, preserve: Chosen, shapes: Mapping[str, tuple[int, int]]) -> WeightMask:
    """The weights to prune that are not among those to preserve."""
    kept = {
        name: np.sort(np.setdiff1d(chosen, preserve.get(name, np.empty(0, dtype=np.int64))))
        for name, chosen in prune.items()
    }
    return WeightMask({name: chosen for name, chosen in kept.items() if len(chosen)}, dict(shapes))


def random_mask(like: WeightMask, *, seed: int) -> WeightMask:
    """As many weights of each matrix, drawn evenly from those that `like` does not hold."""
    generator = np.random.default_rng(seed)
    drawn = {}
    for name, chosen in like.indices.items():
        rows, columns = like.shapes[name]
        drawn[name] = _free_places(generator, rows * columns, chosen)
    return WeightMask(drawn, like.shapes)


def magnitude_mask(like: WeightMask, matrices: Mapping[str, Tensor], *, seed: int) -> WeightMask:
    """As many weights of each matrix with the nearest sizes that `like` does not hold.

    Every weight is matched with one of the `_NEIGHBOURS` nearest in absolute value, drawn at random, so that
    the control removes as much weight as the mask itself.
    """
    generator = np.random.default_rng(seed)
    drawn = {}
    for name, chosen in like.indices.items():
        sizes = matrices[name].detach().view(-1).abs().float().cpu().numpy()
        order = np.argsort(sizes, kind="stable")
        rank = np.empty(len(order), dtype=np.int64)
        rank[order] = np.arange(len(order))
        used = set(chosen.tolist())
        for position in chosen.tolist():
            shift = 1
            while True:
                width = _NEIGHBOURS * shift
                low = max(0, int(rank[position]) - width)
                near = [int(p) for p in order[low : int(rank[position]) + width + 1] if int(p) not in used]
                if near or width > len(order):
                    break
                shift *= 2
            if not near:
                break
            used.add(near[int(generator.integers(len(near)))])
        drawn[name] = np.sort(np.array(sorted(used - set(chosen.tolist())), dtype=np.int64))
    return WeightMask({name: found for name, found in drawn.items() if len(found)}, like.shapes)


_NEIGHBOURS = 16


def _free_places(generator: np.random.Generator, size: int, taken: Indices) -> Indices:
    n = min(len(taken), size - len(taken))
    # Numbers among the free places, moved past the taken ones below them.
    drawn = np.sort(generator.choice(size - len(taken), size=n, replace=False))
    gaps = taken - np.arange(len(taken))
    return (drawn + np.searchsorted(gaps, drawn, side="right")).astype(np.int64)
