"""Inside the MLPs of a few blocks: groups of neighbouring neurons, single neurons, windows made smaller."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from tocsin.core.stages import Stages
from tocsin.explain.mediation.components import Component, group_components, neuron_components
from tocsin.explain.mediation.estimates import Measured, spearman
from tocsin.explain.mediation.levels import LevelMaker
from tocsin.explain.mediation.records import Level, Refined
from tocsin.explain.mediation.runs import RunCache
from tocsin.explain.mediation.settings import MediationSettings
from tocsin.explain.mediation.sweep import Swept
from tocsin.internals.anatomy import Site

BEAM = 4
"""Windows that are halved at each step."""


class NeuronStudy:
    """The neurons of one study.

    Args:
        runs: Of all pairs.
        stages: Where finished parts are kept.
        levels: Makes records of what is measured here, and knows the total effects.
        swept: What the sweep measured.
        settings: Of the study.
        progress: Told of a part's name, how far it is and of how many.
    """

    def __init__(
        self,
        runs: RunCache,
        stages: Stages,
        levels: LevelMaker,
        swept: Swept,
        *,
        settings: MediationSettings,
        progress: Callable[[str, int, int], None],
    ) -> None:
        self.runs = runs
        self.stages = stages
        self.levels = levels
        self.swept = swept
        self.settings = settings
        self.progress = progress
        self.anatomy = runs.patcher.anatomy
        self.discover = runs.pairs("discover")
        self.sign = 1.0 if levels.te[self.discover].mean() >= 0 else -1.0
        """Of the total effect on discovery pairs: effects towards it count as strong."""

    def blocks(self, components: Sequence[Component], gate_block: int) -> list[int]:
        """Blocks to look into, from 0: the gate's, and that of the strongest MLP on discovery pairs.

        Args:
            components: Those of the sweep.
            gate_block: From 0.

        Returns:
            One or two blocks; none where no level of neurons was asked for.
        """
        if not {"group", "neuron", "gate"} & set(self.settings.levels):
            return []
        strength = self.sign * self.swept.neurons.sum(axis=1)
        both = np.nan_to_num(self.swept.nie + self.swept.rnie)[self.discover].mean(axis=0) / 2
        if not self.settings.fast:
            for c, component in enumerate(components):
                if component.level == "module" and component.sites[0].kind == "mlp":
                    strength[component.sites[0].block] = self.sign * both[c]
        return list(dict.fromkeys([gate_block, int(strength.argmax())]))

    def block(self, block: int) -> tuple[list[Level], list[int]]:
        """Levels of one block's groups and neurons, and all its neurons, strongest first.

        Args:
            block: From 0.

        Raises:
            InputError: If the judge abstained on every pair of a level.
            ModelError: If an outcome is not a number.
        """
        s = self.settings
        estimated = self.sign * self.swept.neurons[block]
        ranked = np.argsort(-estimated, kind="stable")
        if s.fast:
            return [], ranked.tolist()
        largest = np.argsort(-np.abs(estimated), kind="stable")[: s.n_verify]
        groups = group_components(self.anatomy, block) if "group" in s.levels else []
        singles = neuron_components(block, largest.tolist())
        kept = self._measured(block, groups, singles)
        te = self.levels.te
        levels = []
        if groups:
            measured = Measured(te, kept["group-nie"], kept["group-rnie"], kept["group-control"])
            levels.append(self.levels.level(groups, measured))
        both = self.sign * (kept["single-nie"] + kept["single-rnie"])[self.discover].mean(axis=0) / 2
        if "neuron" in s.levels:
            # Chosen on discovery pairs, so estimated on the others: else the best would look too good.
            held = sorted(set(range(len(te))) - set(self.discover))
            measured = Measured(te[held], kept["single-nie"][held], kept["single-rnie"][held], None)
            level = self.levels.level(singles, measured)
            if s.outcome != "judge":
                agreement = spearman(both, estimated[largest])
                level = level.model_copy(update={"agreement": agreement, "n_agreement": len(self.discover)})
            levels.append(level)
        verified = dict(zip(largest.tolist(), both, strict=True))
        order = sorted(ranked.tolist(), key=lambda j: -verified.get(j, estimated[j]))
        return levels, order

    def _measured(
        self, block: int, groups: Sequence[Component], singles: Sequence[Component]
    ) -> dict[str, np.ndarray]:
        """Effects of groups and single neurons on all pairs, each of shape (pairs, components)."""
        rows: dict[str, list[np.ndarray]] = {}
        n_pairs = len(self.runs.tokens)
        for i in range(n_pairs):
            self.progress(f"neurons of block {block + 1}", i, n_pairs)

            def make(i: int = i) -> dict[str, np.ndarray]:
                generator = np.random.default_rng([self.settings.seed, i, block])
                kept = {f"group-{k}": v for k, v in self.runs.effects(i, groups, control=generator).items()}
                return kept | {f"single-{k}": v for k, v in self.runs.effects(i, singles).items()}

            for name, values in self.stages.arrays(f"neurons-{block}-{i}", make).items():
                rows.setdefault(name, []).append(values.astype(np.float64))
        return {name: np.stack(values) for name, values in rows.items()}

    def refine(self, block: int) -> Refined:
        """Halve the best windows of neighbouring neurons until single ones are left.

        Args:
            block: From 0.
        """
        windows = [
            (site.first, site.last) for each in group_components(self.anatomy, block) for site in each.sites
        ]
        step = 0
        while True:
            scores = self._window_scores(f"refine-{block}-{step}", block, windows)
            best = sorted(zip(windows, scores, strict=True), key=lambda each: (-each[1], each[0]))[:BEAM]
            if all(last - first == 1 for (first, last), _ in best):
                return Refined(
                    block=block + 1, windows=tuple((first, last, score) for (first, last), score in best)
                )
            windows = sorted({half for (first, last), _ in best for half in _halves(first, last)})
            step += 1

    def _window_scores(self, name: str, block: int, windows: Sequence[tuple[int, int]]) -> list[float]:
        """Mean effect of both directions on discovery pairs, towards the total effect."""
        sites = [Site("neurons", block, first, last) for first, last in windows]
        components = [Component("group", site.name, (site,), "at", block + 1) for site in sites]

        def make() -> dict[str, np.ndarray]:
            total = np.zeros(len(windows))
            for done, i in enumerate(self.discover):
                self.progress(f"windows of block {block + 1}", done, len(self.discover))
                found = self.runs.effects(i, components)
                total += np.nan_to_num(found["nie"] + found["rnie"]) / 2
            return {"score": self.sign * total / len(self.discover)}

        return [float(score) for score in self.stages.arrays(name, make)["score"]]


def _halves(first: int, last: int) -> list[tuple[int, int]]:
    middle = (first + last) // 2
    return [(first, last)] if last - first == 1 else [(first, middle), (middle, last)]
