"""Both unpatched runs of each pair, made once and kept while memory allows."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tocsin.core.errors import ModelError
from tocsin.explain.mediation.components import Component
from tocsin.explain.mediation.data import Part, Tokens, noise_for
from tocsin.internals.patching import Clean, Patcher

SHARE = 0.25
"""Part of the weights' size that kept runs may take."""


class Runs(NamedTuple):
    """The unpatched runs of a pair."""

    harmless: Clean
    """The counterfactual: the harmless prompt, or the harmful one with noise."""
    harmful: Clean

    @property
    def te(self) -> float:
        """Total effect."""
        return self.harmful.outcome - self.harmless.outcome


class RunCache:
    """Makes and keeps runs.

    Args:
        patcher: Of the model.
        tokens: Of all pairs.
        noise: Width of the noise for the noise construction; None for harmless prompts.
        seed: Of the noise.
    """

    def __init__(self, patcher: Patcher, tokens: Sequence[Tokens], *, noise: float | None, seed: int) -> None:
        self.patcher = patcher
        self.tokens = tokens
        self._noise = noise
        self._seed = seed
        self._kept: OrderedDict[int, Runs] = OrderedDict()
        weights = sum(p.numel() * p.element_size() for p in patcher.model.torch_model.parameters())
        self._room = SHARE * weights
        self._held = 0

    def pairs(self, part: Part) -> list[int]:
        """Numbers of the pairs of a part."""
        return [i for i, tokens in enumerate(self.tokens) if tokens.part == part]

    def get(self, i: int) -> Runs:
        """Runs of a pair.

        Raises:
            ModelError: If the outcome is not a number.
        """
        if i in self._kept:
            self._kept.move_to_end(i)
            return self._kept[i]
        runs = self.fresh(i)
        self._held += _size(runs)
        self._kept[i] = runs
        while self._held > self._room and len(self._kept) > 1:
            self._held -= _size(self._kept.popitem(last=False)[1])
        return runs

    def clear(self) -> None:
        """Forget all runs: pairs have other numbers now."""
        self._kept.clear()
        self._held = 0

    def fresh(self, i: int) -> Runs:
        """Runs of a pair with the patcher's present outcome, not kept."""
        t = self.tokens[i]
        noise = None
        if self._noise is not None:
            noise = noise_for(self.patcher, t, scale=self._noise, seed=self._seed * 100_003 + t.number)
        runs = Runs(
            self.patcher.clean(
                t.harmless,
                t.tail,
                noise=noise,
                request=t.pair.harmless if noise is None else t.pair.harmful,
            ),
            self.patcher.clean(t.harmful, t.tail, request=t.pair.harmful),
        )
        if self.patcher.outcome.name != "judge" and not np.isfinite(runs.te):
            message = (
                f"pair {i + 1} has an outcome that is not a number, so no mean over pairs would be one. The "
                "model may overflow in its precision: load it in float32, or leave the pair out."
            )
            raise ModelError(message)
        return runs

    def effects(
        self, i: int, components: Sequence[Component], *, control: np.random.Generator | None = None
    ) -> dict[str, np.ndarray]:
        """`nie` and `rnie` of components on a pair, and `control` where a generator is given."""
        runs = self.get(i)
        patches = [component.patch(self.tokens[i]) for component in components]
        found = {
            "nie": self.patcher.patched(runs.harmless, runs.harmful, patches) - runs.harmless.outcome,
            "rnie": runs.harmful.outcome - self.patcher.patched(runs.harmful, runs.harmless, patches),
        }
        if control is not None:
            found["control"] = (
                self.patcher.patched(runs.harmless, runs.harmful, patches, control=control)
                - runs.harmless.outcome
            )
        return found


def _size(runs: Runs) -> int:
    """Bytes of two runs."""
    return sum(
        sum(t.numel() * t.element_size() for t in run.values.values())
        + sum(t.numel() * t.element_size() for pair in run.past for t in pair)
        for run in runs
    )
