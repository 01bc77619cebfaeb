"""Every component of the asked levels on every pair: patched both ways, with a control, and estimated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import numpy as np

from tocsin.core.stages import Stages
from tocsin.explain.mediation.components import Component
from tocsin.explain.mediation.estimates import Floats
from tocsin.explain.mediation.runs import RunCache
from tocsin.explain.mediation.settings import MediationSettings
from tocsin.internals.anatomy import SiteKind
from tocsin.internals.outcomes import LogitMargin

N_AGREEMENT = 8
"""Pairs on which the fast mode patches all the same, to state how far its estimates agree."""
N_IDENTITY = 200
"""Components that are patched with their own values, to state how far rounding goes."""
ESTIMATED: frozenset[str] = frozenset({"module", "window", "head", "group", "neuron"})
"""Levels that the fast mode estimates."""
_KINDS: tuple[SiteKind, ...] = ("layer", "attention", "mlp", "head", "neurons")


class Swept(NamedTuple):
    """What the sweep measured; effects of shape (pairs, components)."""

    nie: Floats
    rnie: Floats
    control: Floats
    first: Floats
    """First-order estimates of both directions, shape (pairs, components, 2); NaN where there are none."""
    neurons: Floats
    """First-order estimates, mean of both directions over discovery pairs: (blocks, neurons)."""
    gap: float
    """Largest change of Y when components get their own values."""


class Sweep:
    """The sweep over one study's pairs.

    Args:
        runs: Of all pairs.
        stages: Where finished parts are kept.
        margin: Ranks neurons where the outcome has no gradient.
        settings: Of the study.
        progress: Told how many pairs of how many are done.
    """

    def __init__(
        self,
        runs: RunCache,
        stages: Stages,
        *,
        margin: LogitMargin,
        settings: MediationSettings,
        progress: Callable[[int, int], None],
    ) -> None:
        self.runs = runs
        self.stages = stages
        self.margin = margin
        self.settings = settings
        self.progress = progress
        self.patcher = runs.patcher
        self.anatomy = runs.patcher.anatomy

    def run(self, components: Sequence[Component]) -> Swept:
        """Measure the components.

        Raises:
            ModelError: If an outcome is not a number.
        """
        discover = self.runs.pairs("discover")
        agreeing, behind = set(discover[:N_AGREEMENT]), set(discover)
        rows: dict[str, list[np.ndarray]] = {}
        neurons = np.zeros((self.anatomy.n_blocks, self.anatomy.n_neurons))
        n_pairs = len(self.runs.tokens)
        for i in range(n_pairs):
            self.progress(i, n_pairs)
            patched = [
                c
                for c, each in enumerate(components)
                if not self.settings.fast or each.level not in ESTIMATED or i in agreeing
            ]
            kept = self.stages.arrays(f"sweep-{i}", partial(self._pair, i, components, patched))
            for name in ("nie", "rnie", "control", "first"):
                rows.setdefault(name, []).append(kept[name].astype(np.float64))
            if i in behind:
                neurons += kept["neurons"].astype(np.float64)
        some = components[:N_IDENTITY]
        gap = self.stages.arrays("identity", lambda: {"gap": np.array(self._identity(some))})
        return Swept(
            nie=np.stack(rows["nie"]),
            rnie=np.stack(rows["rnie"]),
            control=np.stack(rows["control"]),
            first=np.stack(rows["first"]),
            neurons=neurons / len(discover),
            gap=float(gap["gap"]),
        )

    def _identity(self, components: Sequence[Component]) -> float:
        """Largest change of Y when components get their own values: rounding alone."""
        if not components:
            return 0.0
        run = self.runs.get(0).harmful
        patches = [component.patch(self.runs.tokens[0]) for component in components]
        return float(np.abs(self.patcher.patched(run, run, patches) - run.outcome).max())

    def _pair(self, i: int, components: Sequence[Component], patched: Sequence[int]) -> dict[str, np.ndarray]:
        runs = self.runs.get(i)
        generator = np.random.default_rng([self.settings.seed, i])
        measured = self.runs.effects(i, [components[c] for c in patched], control=generator)
        found = {}
        for name, values in measured.items():
            found[name] = np.full(len(components), np.nan)
            found[name][list(patched)] = values
        first = np.full((len(components), 2), np.nan)
        neurons = np.zeros((self.anatomy.n_blocks, self.anatomy.n_neurons))
        places = self.runs.tokens[i].places["at"]
        with self._differentiable():
            for direction, (base, source, factor) in enumerate(
                ((runs.harmless, runs.harmful, 1.0), (runs.harmful, runs.harmless, -1.0))
            ):
                parts = self.patcher.attributions(base, source, _KINDS, places)
                for c, component in enumerate(components):
                    if component.where == "at":
                        first[c, direction] = factor * component.first_order(parts, self.anatomy)
                for block in range(self.anatomy.n_blocks):
                    neurons[block] += factor * parts["neurons", block] / 2
        return found | {"first": first, "neurons": neurons.astype(np.float32)}

    @contextmanager
    def _differentiable(self) -> Iterator[None]:
        """Where the outcome has no gradient, neurons are ranked by the logit margin."""
        own = self.patcher.outcome
        if self.settings.outcome == "judge":
            self.patcher.outcome = self.margin
        try:
            yield
        finally:
            self.patcher.outcome = own
