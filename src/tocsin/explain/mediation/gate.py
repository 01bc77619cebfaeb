"""Do a few neurons of one block decide? Chosen on some pairs, sized on others, tested on the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from tocsin.core.stages import Stages
from tocsin.core.stats.item_sums import Estimate
from tocsin.explain.mediation.data import Part
from tocsin.explain.mediation.estimates import Floats, Resamples
from tocsin.explain.mediation.records import Gate, GatePoint, GateUtility, Intervention, Order
from tocsin.explain.mediation.runs import RunCache
from tocsin.internals.anatomy import Site
from tocsin.internals.outcomes import Outcome
from tocsin.internals.patching import Clean, Patch

MOST = 512
ENOUGH = 0.8
"""Share of the whole MLP's effect that a gate must have."""
N_RANDOM = 3
INTERVENTIONS: tuple[Intervention, ...] = ("patch", "zero", "mean", "clamp", "scale")
ORDERS: tuple[Order, ...] = ("effect", "random", "magnitude")
MAX_TEXT = 128
"""Tokens of a prompt whose perplexity is measured, at most."""


class Levels(NamedTuple):
    """Activations of one block's neurons on the discovery pairs, each of shape (neurons,)."""

    mean: np.ndarray
    """On harmless prompts."""
    high: np.ndarray
    """95th percentile there."""
    size: np.ndarray
    """Mean absolute value on harmful prompts."""


class GateTest:
    """The test of one block.

    Args:
        runs: Of all pairs.
        stages: Where finished parts are kept.
        block: From 0.
        order: All neurons of the block, the strongest first, from the discovery pairs.
        te: Total effect of every pair.
        other: An outcome that the gate was not chosen for, if there is one.
        factor: Of the intervention `scale`.
        seed: Of random sets.
        progress: Told how many pairs of how many are done.
    """

    def __init__(
        self,
        runs: RunCache,
        stages: Stages,
        *,
        block: int,
        order: Sequence[int],
        te: Floats,
        other: Outcome | None,
        factor: float,
        seed: int,
        progress: Callable[[int, int], None],
    ) -> None:
        self.runs = runs
        self.stages = stages
        self.block = block
        self.te = te
        self.other = other
        self.factor = factor
        self.progress = progress
        self.n = len(order)
        self.point = ("neurons", block)
        self.most = min(MOST, self.n)
        self.sizes = [2**i for i in range(self.most.bit_length()) if 2**i <= self.most]
        self.levels = self._levels()
        generator = np.random.default_rng([seed, block])
        self.orders: dict[str, list[list[int]]] = {
            "effect": [list(order)],
            "random": [generator.permutation(self.n).tolist() for _ in range(N_RANDOM)],
            "magnitude": [self._matched(order)],
        }

    def run(self, resamples: Resamples) -> Gate:
        """The test's result."""
        select = self._measure("select", ("effect",), ("patch",))
        test = self._measure("test", ORDERS, INTERVENTIONS)
        points = [*self._points("select", select, resamples), *self._points("test", test, resamples)]
        k = self._smallest(select)
        chosen = self.orders["effect"][0][: k or 20]
        test_pairs = self.runs.pairs("test")
        harmful = test["harmful/whole"][:, 0]
        utility, before = self._utility(chosen, resamples)
        return Gate(
            block=self.block + 1,
            n_neurons=self.n,
            k=k,
            sparsity=None if k is None else k / self.n,
            neurons=tuple(chosen),
            whole=resamples.mean(test["harmful/before"][:, 0] - harmful),
            swapped=self._swapped(test_pairs, chosen, resamples),
            points=tuple(points),
            utility=utility,
            refusals_before=before,
        )

    def _levels(self) -> Levels:
        def make() -> dict[str, np.ndarray]:
            harmless, harmful = [], []
            for i in self.runs.pairs("discover"):
                runs = self.runs.get(i)
                tail = self.runs.tokens[i].tail
                where = [tail + place for place in self.runs.tokens[i].places["at"]]
                harmless.append(runs.harmless.values[self.point][where].double().cpu().numpy())  # type: ignore[index]
                harmful.append(runs.harmful.values[self.point][where].double().cpu().numpy())  # type: ignore[index]
            low, high = np.vstack(harmless), np.vstack(harmful)
            return {
                "mean": low.mean(axis=0),
                "high": np.quantile(low, 0.95, axis=0),
                "size": np.abs(high).mean(axis=0),
            }

        return Levels(**self.stages.arrays(f"gate-levels-{self.block}", make))

    def _matched(self, order: Sequence[int]) -> list[int]:
        """For each of the strongest neurons another one, not among them, with activations as large."""
        free = sorted(order[self.most :] if self.n > self.most else order[self.n // 2 :])
        wanted = order[: min(len(free), self.most)]
        found = []
        for j in wanted:
            best = int(np.argmin([abs(self.levels.size[f] - self.levels.size[j]) for f in free]))
            found.append(free.pop(best))
        return found

    def _sources(self, base: Clean, other: Clean) -> dict[Intervention, Clean]:
        """Runs whose neurons are what each intervention sets them to."""
        import torch

        own = base.values[self.point]  # type: ignore[index]
        mean, high = (torch.from_numpy(each).to(own) for each in (self.levels.mean, self.levels.high))
        changed = {
            "zero": torch.zeros_like(own),
            "mean": mean.expand_as(own),
            "clamp": torch.minimum(own, high),
            "scale": own * self.factor,
        }
        found: dict[Intervention, Clean] = {"patch": other}
        for name, values in changed.items():
            found[name] = base._replace(values={**base.values, self.point: values})  # type: ignore[index, dict-item]
        return found

    def _site(self, members: Sequence[int]) -> Site:
        return Site("neurons", self.block, members=tuple(members))

    def _measure(
        self, part: Part, orders: Sequence[Order], interventions: Sequence[Intervention]
    ) -> dict[str, np.ndarray]:
        """Y of every pair of a part under every condition, shape (pairs, sizes) each."""
        found: dict[str, list[np.ndarray]] = {}
        pairs = self.runs.pairs(part)
        for done, i in enumerate(pairs):
            self.progress(done, len(pairs))
            make = partial(self._conditions, i, orders, interventions)
            kept = self.stages.arrays(f"gate-{self.block}-{i}", make)
            for name, values in kept.items():
                found.setdefault(name, []).append(values)
        return {name: np.stack(rows) for name, rows in found.items()}

    def _conditions(
        self, i: int, orders: Sequence[Order], interventions: Sequence[Intervention]
    ) -> dict[str, np.ndarray]:
        runs = self.runs.get(i)
        places = self.runs.tokens[i].places["at"]
        found: dict[str, np.ndarray] = {}
        whole = Patch((Site("neurons", self.block, 0, self.n),), places)
        for side, base, other in (
            ("harmful", runs.harmful, runs.harmless),
            ("harmless", runs.harmless, runs.harmful),
        ):
            found[f"{side}/before"] = np.array([base.outcome])
            found[f"{side}/whole"] = self.runs.patcher.patched(base, other, [whole])
            sources = self._sources(base, other)
            for order in orders:
                sets = [[o[:k] for k in self.sizes if k <= len(o)] for o in self.orders[order]]
                patches = [Patch((self._site(members),), places) for own in sets for members in own]
                for intervention in interventions:
                    values = self.runs.patcher.patched(base, sources[intervention], patches)
                    found[f"{side}/{order}/{intervention}"] = values.reshape(len(sets), -1).mean(axis=0)
        return found

    def _points(self, part: Part, found: dict[str, np.ndarray], resamples: Resamples) -> list[GatePoint]:
        te = self.te[self.runs.pairs(part)]
        points = []
        for order in ORDERS:
            for intervention in INTERVENTIONS:
                name = f"{order}/{intervention}"
                if f"harmful/{name}" not in found:
                    continue
                values, harmless = found[f"harmful/{name}"], found[f"harmless/{name}"]
                change = found["harmful/before"] - values
                points += [
                    GatePoint(
                        order=order,
                        intervention=intervention,
                        part="select" if part == "select" else "test",
                        k=k,
                        outcome=resamples.mean(values[:, c]),
                        share=resamples.ratio(change[:, c], te),
                        harmless_outcome=resamples.mean(harmless[:, c]),
                    )
                    for c, k in enumerate(self.sizes[: values.shape[1]])
                ]
        return points

    def _smallest(self, select: dict[str, np.ndarray]) -> int | None:
        """Smallest set with enough of the whole MLP's effect, in the direction of the total effect."""
        te = float(np.nanmean(self.te[self.runs.pairs("select")]))
        before = select["harmful/before"]
        whole = float(np.nanmean(before - select["harmful/whole"]))
        if whole * te <= 0:
            return None
        shares = np.nanmean(before - select["harmful/effect/patch"], axis=0) / whole
        return next((k for k, share in zip(self.sizes, shares, strict=True) if share >= ENOUGH), None)

    def _swapped(self, pairs: Sequence[int], chosen: Sequence[int], resamples: Resamples) -> Estimate:
        if self.other is None:
            return Estimate(value=None)
        patcher, own = self.runs.patcher, self.runs.patcher.outcome

        def make() -> dict[str, np.ndarray]:
            rows = []
            for i in pairs:
                runs = self.runs.fresh(i)
                patch = Patch((self._site(chosen),), self.runs.tokens[i].places["at"])
                changed = patcher.patched(runs.harmful, runs.harmless, [patch])[0]
                rows.append((runs.harmful.outcome - changed, runs.te))
            return {"rows": np.array(rows)}

        patcher.outcome = self.other
        try:
            rows = self.stages.arrays(f"gate-swapped-{self.block}", make)["rows"].astype(np.float64)
        finally:
            patcher.outcome = own
        return resamples.ratio(rows[:, 0], rows[:, 1])

    def _utility(
        self, chosen: Sequence[int], resamples: Resamples
    ) -> tuple[tuple[GateUtility, ...], tuple[float | None, float | None]]:
        import torch

        patcher = self.runs.patcher
        pairs = self.runs.pairs("test")
        is_margin = patcher.outcome.name != "judge"
        site = self._site(chosen)
        mean, high = (
            torch.from_numpy(each[list(chosen)]).to(
                patcher.model.torch_model.device, patcher.model.torch_model.dtype
            )
            for each in (self.levels.mean, self.levels.high)
        )
        changes: dict[Intervention, Callable[[torch.Tensor], torch.Tensor]] = {
            "zero": torch.zeros_like,
            "mean": mean.expand_as,
            "clamp": lambda values: torch.minimum(values, high),
            "scale": lambda values: values * self.factor,
        }

        def measure() -> dict[str, np.ndarray]:
            losses, harmless, harmful = [], [], []
            for i in pairs:
                t = self.runs.tokens[i]
                # Not `t.harmless`, which is the harmful prompt again where noise makes the counterfactual.
                own = t.own
                text = [] if own is None else patcher.model.encode_untrusted(t.pair.harmless).ids[:MAX_TEXT]
                losses.append(patcher.token_losses(text).mean() if len(text) > 1 else np.nan)
                if is_margin:
                    if own is not None:
                        harmless.append(patcher.clean(own, 1).outcome)
                    harmful.append(patcher.clean(t.harmful, 1).outcome)
            return {"loss": np.array(losses), "harmless": np.array(harmless), "harmful": np.array(harmful)}

        before = self.stages.arrays(f"gate-utility-{self.block}-none", measure)
        found = []
        for name, change in changes.items():

            def under(change: Callable[[torch.Tensor], torch.Tensor] = change) -> dict[str, np.ndarray]:
                with patcher.held(site, change):
                    return measure()

            after = self.stages.arrays(f"gate-utility-{self.block}-{name}", under)
            rise = resamples.mean(after["loss"].astype(np.float64) - before["loss"].astype(np.float64))
            found.append(
                GateUtility(
                    intervention=name,
                    perplexity_ratio=Estimate(**{end: _exp(getattr(rise, end)) for end in _ENDS}),
                    harmless_refusals=_below_zero(after["harmless"]),
                    harmful_refusals=_below_zero(after["harmful"]),
                )
            )
        return tuple(found), (_below_zero(before["harmless"]), _below_zero(before["harmful"]))


_ENDS = ("value", "low", "high")


def _exp(value: float | None) -> float | None:
    return None if value is None else float(np.exp(value))


def _below_zero(values: np.ndarray) -> float | None:
    return float((values < 0).mean()) if len(values) else None
