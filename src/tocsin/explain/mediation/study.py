"""Through which components does the harmfulness of a prompt act on the reply?

Causal mediation analysis of arXiv 2604.11663, with the design of card 05: activation patching in both
directions, controls, intervals over pairs of prompts, and a test of one block's neurons on
held-out pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tocsin.core.errors import InputError, UsageError
from tocsin.core.stages import Stages
from tocsin.explain.mediation.components import (
    Component,
    group_components,
    neuron_components,
    sweep_components,
)
from tocsin.explain.mediation.data import PARTS, Part, Prepared, PromptPair, prepare
from tocsin.explain.mediation.estimates import (
    Floats,
    Measured,
    Resamples,
    effects,
    spearman,
    spread,
    summarise,
    te_floor,
)
from tocsin.explain.mediation.gate import GateTest
from tocsin.explain.mediation.records import Gate, Level, LevelName, MediationStudy, Refined
from tocsin.explain.mediation.runs import RunCache
from tocsin.explain.mediation.settings import MediationSettings
from tocsin.internals.anatomy import Site, SiteKind
from tocsin.internals.layout import PromptLayout, Template
from tocsin.internals.outcomes import (
    Judge,
    JudgedReply,
    LogitMargin,
    Outcome,
    SequenceMargin,
    first_tokens,
)
from tocsin.internals.patching import Patcher
from tocsin.internals.weights_digest import weights_digest

if TYPE_CHECKING:
    from tocsin.models.local import LocalModel

N_AGREEMENT = 8
"""Pairs on which the fast mode patches all the same, to state how far its estimates agree."""
N_IDENTITY = 200
"""Components that are patched with their own values, to state how far rounding goes."""
NO_EFFECT = 1e-3
"""Total effects below this, in the outcome's unit, are rounding."""
BEAM = 4
_KINDS: tuple[SiteKind, ...] = ("embedding", "layer", "attention", "mlp", "head", "neurons")
_ESTIMATED: frozenset[str] = frozenset({"module", "window", "head", "group", "neuron"})


def study_mediation(
    model: LocalModel,
    pairs: Sequence[PromptPair],
    settings: MediationSettings | None = None,
    *,
    judge: Judge | None = None,
    stages: Stages | None = None,
    progress: Callable[[str, int, int], None] = lambda _what, _done, _total: None,
) -> MediationStudy:
    """Make the study.

    Args:
        model: Never written to: hooks change activations only, and are gone when this returns or raises.
        pairs: Harmful prompts with harmless ones.
        settings: Defaults when None.
        judge: For the outcome `judge`.
        stages: Where finished parts are kept; nothing is kept when None.
        progress: Told of a part's name, how far it is and of how many.

    Raises:
        UsageError: If settings do not fit together.
        InputError: If too few pairs can be used, openers have no tokens, or there is no total effect.
        ModelError: If the architecture is not supported, or an outcome is not a number.
    """
    return _Study(
        model, pairs, settings or MediationSettings(), judge, stages or Stages(None), progress
    ).run()


class _Found(NamedTuple):
    """What the sweep measured; effects of shape (pairs, components)."""

    y: Floats
    """Y of the counterfactual and of the harmful run, shape (pairs, 2)."""
    nie: Floats
    rnie: Floats
    control: Floats
    first: Floats
    """First-order estimates of both directions, shape (pairs, components, 2); NaN where there are none."""
    neurons: Floats
    """First-order estimates, mean of both directions over discovery pairs: (blocks, neurons)."""
    gap: float


class _Study:
    def __init__(
        self,
        model: LocalModel,
        pairs: Sequence[PromptPair],
        settings: MediationSettings,
        judge: Judge | None,
        stages: Stages,
        progress: Callable[[str, int, int], None],
    ) -> None:
        s = self.settings = settings
        self.model = model
        self.stages = stages
        self.progress = progress
        self.notes: list[str] = []
        template: Template = s.template or ("chat" if model.template_hash != "none" else "raw")
        layout = PromptLayout(model, template)
        self.margin = LogitMargin(first_tokens(model, s.compliant), first_tokens(model, s.refusing))
        self.sequence = SequenceMargin(self._ids(s.compliant[0]), self._ids(s.refusing[0]))
        self.patcher = Patcher(model, self._outcome(judge), _KINDS, prefix=layout.prefix, max_rows=s.max_rows)
        self.prepared: Prepared = prepare(
            layout,
            pairs,
            s.construction,
            n_last=s.n_last,
            at=s.at,
            most=s.n_pairs,
            context=model.context - s.max_reply_tokens,
        )
        self.tokens = self.prepared.tokens
        self.discover = [i for i, t in enumerate(self.tokens) if t.part == "discover"]
        self.runs = RunCache(
            self.patcher, self.tokens, noise=s.noise if s.construction == "noise" else None, seed=s.seed
        )
        self.anatomy = self.patcher.anatomy
        self.resamples = Resamples(s.n_resamples, s.seed)
        self.gate_block = self.anatomy.n_blocks - 1 if s.gate_block is None else s.gate_block - 1
        if not 0 <= self.gate_block < self.anatomy.n_blocks:
            message = f"expected a gate block from 1 to {self.anatomy.n_blocks}, got {s.gate_block}."
            raise UsageError(message)

    def run(self) -> MediationStudy:
        s = self.settings
        digest = weights_digest(self.model.torch_model)
        te, y = self._total_effects()
        components = sweep_components(self.anatomy, s.levels, tails=self.tokens)
        found = self._sweep(components, y)
        floor = te_floor(te)
        sign = 1.0 if te[self.discover].mean() >= 0 else -1.0
        levels = self._levels(components, found, te, floor)
        blocks = self._neuron_blocks(components, found, sign)
        order: dict[int, list[int]] = {}
        for block in blocks:
            more, order[block] = self._neurons(block, found, te, floor, sign)
            levels += more
        modules = [c for c, each in enumerate(components) if each.level == "module"]
        used = found.first[:, :, 0] if s.fast else found.nie
        return MediationStudy(
            model=self.model.id,
            revision=self.model.revision,
            construction=s.construction,
            outcome=s.outcome,
            n_pairs=len(te),
            n_rejected=self.prepared.n_unequal + self.prepared.n_same + self.prepared.n_repeated,
            n_parts={part: self._count(part) for part in PARTS},
            y_harmful=self.resamples.mean(y[:, 1]),
            y_harmless=self.resamples.mean(y[:, 0]),
            te=self.resamples.mean(te),
            te_floor=floor,
            n_below_floor=int((np.abs(te) < floor).sum()),
            identity_gap=found.gap,
            levels=tuple(levels),
            summary=summarise(
                [components[c] for c in modules], used[:, modules], self.anatomy.n_blocks, self.resamples
            )
            if modules
            else None,
            spreads=tuple(spread(block, found.neurons[block]) for block in blocks),
            refined=tuple(
                self._refine(block, sign) for block in blocks if "group" in s.levels and not s.fast
            ),
            gate=self._gate(order[self.gate_block], te) if "gate" in s.levels else None,
            weights_unchanged=weights_digest(self.model.torch_model) == digest,
            notes=self._all_notes(te),
            settings=s.to_json(),
        )

    def _count(self, part: Part) -> int:
        return sum(tokens.part == part for tokens in self.tokens)

    def _ids(self, opener: str) -> tuple[int, ...]:
        return tuple(self.model.encode_untrusted(opener.strip()).ids)

    def _outcome(self, judge: Judge | None) -> Outcome:
        s = self.settings
        if s.outcome == "logit_margin":
            return self.margin
        if s.outcome == "seq_logprob":
            return self.sequence
        if judge is None:
            message = "the outcome 'judge' needs a judge. Name one."
            raise UsageError(message)
        config = self.model.torch_model.generation_config
        ends = getattr(config, "eos_token_id", None)
        if ends is None:
            ends = getattr(self.model.torch_model.config, "eos_token_id", None)
        all_ends = tuple(ends) if isinstance(ends, list | tuple) else () if ends is None else (int(ends),)
        return JudgedReply(self.model.decode, judge, all_ends, s.max_reply_tokens)

    def _total_effects(self) -> tuple[Floats, Floats]:
        """Total effect of each pair, and Y of both runs; refuses a set without any effect."""
        rows = []
        for i in range(len(self.tokens)):
            self.progress("runs without patches", i, len(self.tokens))

            def make(i: int = i) -> dict[str, np.ndarray]:
                runs = self.runs.get(i)
                return {"y": np.array([runs.harmless.outcome, runs.harmful.outcome])}

            rows.append(self.stages.arrays(f"clean-{i}", make)["y"].astype(np.float64))
        y = np.stack(rows)
        judged: NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(y), axis=1)
        if not judged.all():
            # Only a judge abstains: other outcomes that are no number were refused where they arose.
            lost = int((~judged).sum())
            self.notes.append(f"The judge abstained on {lost} pairs, which are left out.")
            self.tokens[:] = [t for t, known in zip(self.tokens, judged.tolist(), strict=True) if known]
            self.discover = [i for i, t in enumerate(self.tokens) if t.part == "discover"]
            self.runs.clear()
            y = y[judged]
            if min(self._count(part) for part in PARTS) < 1:
                message = f"the judge abstained on {lost} pairs, so too few are left. Use another judge."
                raise InputError(message)
        te = y[:, 1] - y[:, 0]
        if float(np.abs(te).max()) < NO_EFFECT:
            message = (
                f"the total effect is about 0 for all {len(te)} pairs (at most {np.abs(te).max():.1g}): "
                "harmful and harmless prompts give the same outcome, so nothing can mediate. Give other "
                "openers, another outcome, or a model whose replies differ."
            )
            raise InputError(message)
        return te, y

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

    def _sweep(self, components: Sequence[Component], y: Floats) -> _Found:
        agreeing = set(self.discover[:N_AGREEMENT])
        rows: dict[str, list[np.ndarray]] = {}
        neurons = np.zeros((self.anatomy.n_blocks, self.anatomy.n_neurons))
        for i in range(len(self.tokens)):
            self.progress("patching", i, len(self.tokens))
            patched = [
                c
                for c, each in enumerate(components)
                if not self.settings.fast or each.level not in _ESTIMATED or i in agreeing
            ]
            kept = self.stages.arrays(f"sweep-{i}", partial(self._pair, i, components, patched))
            for name in ("nie", "rnie", "control", "first"):
                rows.setdefault(name, []).append(kept[name].astype(np.float64))
            if i in set(self.discover):
                neurons += kept["neurons"].astype(np.float64)
        some = components[:N_IDENTITY]
        gap = self.stages.arrays("identity", lambda: {"gap": np.array(self._identity(some))})
        return _Found(
            y=y,
            nie=np.stack(rows["nie"]),
            rnie=np.stack(rows["rnie"]),
            control=np.stack(rows["control"]),
            first=np.stack(rows["first"]),
            neurons=neurons / len(self.discover),
            gap=float(gap["gap"]),
        )

    def _identity(self, components: Sequence[Component]) -> float:
        """Largest change of Y when components get their own values: rounding alone."""
        if not components:
            return 0.0
        run = self.runs.get(0).harmful
        patches = [component.patch(self.tokens[0]) for component in components]
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
        kinds: tuple[SiteKind, ...] = ("layer", "attention", "mlp", "head", "neurons")
        places = self.tokens[i].places["at"]
        with self._differentiable():
            for direction, (base, source, factor) in enumerate(
                ((runs.harmless, runs.harmful, 1.0), (runs.harmful, runs.harmless, -1.0))
            ):
                parts = self.patcher.attributions(base, source, kinds, places)
                for c, component in enumerate(components):
                    if component.where == "at":
                        first[c, direction] = factor * component.first_order(parts, self.anatomy)
                for block in range(self.anatomy.n_blocks):
                    neurons[block] += factor * parts["neurons", block] / 2
        return found | {"first": first, "neurons": neurons.astype(np.float32)}

    def _levels(
        self, components: Sequence[Component], found: _Found, te: Floats, floor: float
    ) -> list[Level]:
        levels = []
        for name in dict.fromkeys(component.level for component in components):
            chosen = [c for c, each in enumerate(components) if each.level == name]
            levels.append(
                self._level(
                    [components[c] for c in chosen],
                    Measured(te, found.nie[:, chosen], found.rnie[:, chosen], found.control[:, chosen]),
                    found.first[:, chosen],
                    floor,
                )
            )
        return levels

    def _level(
        self, components: Sequence[Component], measured: Measured, first: Floats, floor: float
    ) -> Level:
        name: LevelName = components[0].level
        patched = np.flatnonzero(np.isfinite(measured.nie).all(axis=1))
        agreement, n_agreement = None, 0
        if len(patched) and np.isfinite(first).all() and self.settings.outcome != "judge":
            agreement = spearman(first[patched, :, 0].mean(axis=0), measured.nie[patched].mean(axis=0))
            n_agreement = len(patched)
        is_estimated = self.settings.fast and name in _ESTIMATED
        if is_estimated:
            measured = Measured(measured.te, first[:, :, 0], first[:, :, 1], None)
        measured, lost = _judged(measured)
        if lost:
            self.notes.append(
                f"The judge abstained on {lost} pairs in the level '{name}', which leaves them out."
            )
        return Level(
            name=name,
            effects=effects(components, measured, self.resamples, floor=floor),
            is_estimated=is_estimated,
            agreement=agreement,
            n_agreement=n_agreement,
            directions=spearman(measured.nie.mean(axis=0), measured.rnie.mean(axis=0)),
        )

    def _neuron_blocks(self, components: Sequence[Component], found: _Found, sign: float) -> list[int]:
        """The block of the gate, and that of the strongest MLP; both from discovery pairs."""
        if not {"group", "neuron", "gate"} & set(self.settings.levels):
            return []
        strength = sign * found.neurons.sum(axis=1)
        both = np.nan_to_num(found.nie + found.rnie)[self.discover].mean(axis=0) / 2
        if not self.settings.fast:
            for c, component in enumerate(components):
                if component.level == "module" and component.sites[0].kind == "mlp":
                    strength[component.sites[0].block] = sign * both[c]
        return list(dict.fromkeys([self.gate_block, int(strength.argmax())]))

    def _neurons(
        self, block: int, found: _Found, te: Floats, floor: float, sign: float
    ) -> tuple[list[Level], list[int]]:
        """Levels of one block's groups and neurons, and all its neurons, strongest first."""
        s = self.settings
        estimated = sign * found.neurons[block]
        ranked = np.argsort(-estimated, kind="stable")
        if s.fast:
            return [], ranked.tolist()
        largest = np.argsort(-np.abs(estimated), kind="stable")[: s.n_verify]
        groups = group_components(self.anatomy, block) if "group" in s.levels else []
        singles = neuron_components(block, largest.tolist())
        rows: dict[str, list[np.ndarray]] = {}
        for i in range(len(self.tokens)):
            self.progress(f"neurons of block {block + 1}", i, len(self.tokens))

            def make(i: int = i) -> dict[str, np.ndarray]:
                generator = np.random.default_rng([s.seed, i, block])
                kept = {f"group-{k}": v for k, v in self.runs.effects(i, groups, control=generator).items()}
                return kept | {f"single-{k}": v for k, v in self.runs.effects(i, singles).items()}

            for name, values in self.stages.arrays(f"neurons-{block}-{i}", make).items():
                rows.setdefault(name, []).append(values.astype(np.float64))
        kept = {name: np.stack(values) for name, values in rows.items()}
        levels = []
        if groups:
            measured = Measured(te, kept["group-nie"], kept["group-rnie"], kept["group-control"])
            levels.append(self._level(groups, measured, np.full((len(te), len(groups), 2), np.nan), floor))
        both = sign * (kept["single-nie"] + kept["single-rnie"])[self.discover].mean(axis=0) / 2
        if "neuron" in s.levels:
            # Chosen on discovery pairs, so estimated on the others: else the best would look too good.
            held = [i for i in range(len(te)) if i not in set(self.discover)]
            measured = Measured(te[held], kept["single-nie"][held], kept["single-rnie"][held], None)
            level = self._level(singles, measured, np.full((len(held), len(singles), 2), np.nan), floor)
            agreement = spearman(both, estimated[largest]) if s.outcome != "judge" else None
            levels.append(
                level.model_copy(update={"agreement": agreement, "n_agreement": len(self.discover)})
            )
        verified = dict(zip(largest.tolist(), both, strict=True))
        order = sorted(ranked.tolist(), key=lambda j: -verified.get(j, estimated[j]))
        return levels, order

    def _refine(self, block: int, sign: float) -> Refined:
        """Halve the best windows of neighbouring neurons until single ones are left."""
        windows = [
            (site.first, site.last) for each in group_components(self.anatomy, block) for site in each.sites
        ]
        step = 0
        while True:
            scores = self._window_scores(f"refine-{block}-{step}", block, windows, sign)
            best = sorted(zip(windows, scores, strict=True), key=lambda each: (-each[1], each[0]))[:BEAM]
            if all(last - first == 1 for (first, last), _ in best):
                return Refined(
                    block=block + 1, windows=tuple((first, last, score) for (first, last), score in best)
                )
            windows = sorted({half for (first, last), _ in best for half in _halves(first, last)})
            step += 1

    def _window_scores(
        self, name: str, block: int, windows: Sequence[tuple[int, int]], sign: float
    ) -> list[float]:
        sites = [Site("neurons", block, first, last) for first, last in windows]
        components = [Component("group", site.name, (site,), "at", block + 1) for site in sites]

        def make() -> dict[str, np.ndarray]:
            total = np.zeros(len(windows))
            for done, i in enumerate(self.discover):
                self.progress(f"windows of block {block + 1}", done, len(self.discover))
                found = self.runs.effects(i, components)
                total += np.nan_to_num(found["nie"] + found["rnie"]) / 2
            return {"score": sign * total / len(self.discover)}

        return [float(score) for score in self.stages.arrays(name, make)["score"]]

    def _gate(self, order: Sequence[int], te: Floats) -> Gate:
        other: Outcome | None = self.sequence if self.settings.outcome == "logit_margin" else self.margin
        return GateTest(
            self.runs,
            self.stages,
            block=self.gate_block,
            order=order,
            te=te,
            other=other,
            factor=self.settings.factor,
            seed=self.settings.seed,
            progress=lambda done, total: self.progress("testing the gate", done, total),
        ).run(self.resamples)

    def _all_notes(self, te: Floats) -> tuple[str, ...]:
        p = self.prepared
        for count, why in (
            (p.n_unequal, "their prompts differ in length"),
            (p.n_same, "their prompts are equal"),
            (p.n_repeated, "their harmful prompt came before"),
        ):
            if count:
                self.notes.append(f"{count} pairs were left out: {why}.")
        total = self.resamples.mean(te)
        if total.low is not None and total.high is not None and total.low <= 0 <= total.high:
            self.notes.append("The interval of the total effect holds 0: shares of it cannot be interpreted.")
        return tuple(self.notes)


def _halves(first: int, last: int) -> list[tuple[int, int]]:
    middle = (first + last) // 2
    return [(first, last)] if last - first == 1 else [(first, middle), (middle, last)]


def _judged(measured: Measured) -> tuple[Measured, int]:
    """Pairs on which every effect is known, and how many are not."""
    known = np.isfinite(measured.nie).all(axis=1) & np.isfinite(measured.rnie).all(axis=1)
    if measured.control is not None:
        known &= np.isfinite(measured.control).all(axis=1)
    if not known.any():
        message = "no pair has a known effect for every component: the judge abstained in each. Use another."
        raise InputError(message)
    control = None if measured.control is None else measured.control[known]
    kept = Measured(measured.te[known], measured.nie[known], measured.rnie[known], control)
    return kept, int((~known).sum())
