"""Find the weights that write harmful responses, remove them for a while, and see what changes.

B-TAP of arXiv 2604.09544: the top of the signed ranking on harmful responses less the top of the absolute
ranking on benign ones. Everything is measured on samples that took no part in finding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tocsin.core.errors import FitError, UsageError
from tocsin.core.stages import Stages
from tocsin.explain.weights.attribution import Scores, absolute_scores, signed_scores
from tocsin.explain.weights.data import Example, Split, WeightData, check_data, split
from tocsin.explain.weights.measure import (
    Floats,
    Probe,
    changes,
    losses,
    refusal_rate,
    specificity,
)
from tocsin.explain.weights.records import Condition, ConditionKind, MatrixCount, Overlap, Role, WeightStudy
from tocsin.explain.weights.selection import Ranking, difference, magnitude_mask, random_mask, rank
from tocsin.explain.weights.settings import WeightSettings
from tocsin.internals.responses import ResponseTokens, encode_pairs
from tocsin.internals.weight_mask import WeightMask, block_matrices, count_zeros, masked
from tocsin.internals.weights_digest import weights_digest
from tocsin.testbed import speaks_testbed

if TYPE_CHECKING:
    from tocsin.models.local import LocalModel

DOSES = (0.1, 0.3, 3.0, 10.0)
"""Other sizes of the mask, as multiples of `q`."""
N_CONTROLS = 3


class Found(NamedTuple):
    """A study and the mask it found."""

    study: WeightStudy
    mask: WeightMask


def study_weights(
    model: LocalModel,
    data: WeightData,
    settings: WeightSettings | None = None,
    *,
    stages: Stages | None = None,
    progress: Callable[[str, int, int], None] = lambda _what, _done, _total: None,
) -> Found:
    """Make the study.

    Args:
        model: Its weights have their old bits when this returns, raises or is interrupted.
        data: Samples; see `tocsin.explain.weights.data.split` for how they are divided.
        settings: Published values when None.
        stages: Where finished parts are kept; nothing is kept when None.
        progress: Told of a part's name, how far it is and of how many.

    Returns:
        What was found. The mask is sparse and can be saved.

    Raises:
        InputError: If there are too few samples, one cannot be read, or one is harmful and benign at once.
        FitError: If benign responses need every weight that harmful ones need.
        ModelError: If the model has no plain weight matrices.
    """
    check_data(data)
    return _Study(model, data, settings or WeightSettings(), stages or Stages(None), progress).run()


class _Plan(NamedTuple):
    """A condition before it is measured."""

    name: str
    kind: ConditionKind
    mask: WeightMask


class _Study:
    def __init__(
        self,
        model: LocalModel,
        data: WeightData,
        settings: WeightSettings,
        stages: Stages,
        progress: Callable[[str, int, int], None],
    ) -> None:
        self.model = model
        self.settings = settings
        self.stages = stages
        self.progress = progress
        self.matrices = block_matrices(model.torch_model)
        self.shapes = {name: (m.shape[0], m.shape[1]) for name, m in self.matrices.items()}
        self.sides: dict[str, Split] = {}
        for side, examples in (("harm", data.harm), ("benign", data.benign), ("refusal", data.refusal)):
            if examples or side != "refusal":
                self.sides[side] = split(examples, settings.n_find, what=side, n_test=settings.n_test)
        if settings.test_refusal_mask and not speaks_testbed(model):
            message = "weights that refuse are looked for on a testbed only. Leave test_refusal_mask out."
            raise UsageError(message)
        self.categories = self.sides["harm"].categories()
        self.notes: list[str] = []

    def run(self) -> Found:
        digest = weights_digest(self.model.torch_model)
        probes = self._probes()
        firsts = frozenset(
            sample.ids[sample.start]
            for probe in probes
            if probe.role == "refusal"
            for sample in probe.samples
        )
        plans = self._plans()
        harm = next(probe for probe in probes if probe.role == "harm")
        before, rate = self._losses("base", probes, firsts, harm, None)
        conditions = []
        rises: dict[str, list[Floats]] = {}
        for number, plan in enumerate(plans):
            self.progress("removing weights", number, len(plans))
            after, refused = self._losses(f"condition-{number}", probes, firsts, harm, plan)
            rises[plan.name] = [now[0] - was[0] for was, now in zip(before, after, strict=True)]
            conditions.append(
                Condition(
                    name=plan.name,
                    kind=plan.kind,
                    n_weights=plan.mask.size,
                    share=plan.mask.share,
                    n_zero=count_zeros(self.matrices, plan.mask),
                    changes=changes(probes, before, after, self.categories, seed=self.settings.seed),
                    refusal_rate=refused,
                )
            )
        self.progress("removing weights", len(plans), len(plans))
        mask = plans[0].mask
        roles = [probe.role for probe in probes]
        study = WeightStudy(
            model=self.model.id,
            revision=self.model.revision,
            n_matrices=len(self.shapes),
            n_weights=sum(rows * columns for rows, columns in self.shapes.values()),
            n_find={side: len(parts.find) for side, parts in self.sides.items()},
            conditions=tuple(conditions),
            overlaps=self._overlaps(plans),
            matrices=tuple(
                MatrixCount(matrix=name, n_weights=len(chosen), share=len(chosen) / _size(self.shapes[name]))
                for name, chosen in sorted(mask.indices.items(), key=lambda each: -len(each[1]))
            ),
            refusal_rate=rate,
            specificity=specificity(
                rises[plans[0].name][roles.index("harm")],
                rises[plans[0].name][roles.index("benign")],
                seed=self.settings.seed,
            ),
            weights_unchanged=weights_digest(self.model.torch_model) == digest,
            notes=tuple(self.notes),
            settings=dict(asdict(self.settings)),
        )
        return Found(study, mask)

    def _encode(self, examples: Sequence[Example]) -> list[ResponseTokens]:
        pairs = [(example.prompt, example.response) for example in examples]
        return encode_pairs(self.model, pairs, template=self.settings.template)

    def _probes(self) -> list[Probe]:
        found = []
        roles: tuple[Role, ...] = ("harm", "benign", "refusal")
        for role in roles:
            if role in self.sides:
                test = self.sides[role].test
                found.append(Probe(role, self._encode(test), [example.category for example in test]))
        return found

    def _plans(self) -> list[_Plan]:
        """All conditions, the mask of the study first."""
        s = self.settings
        preserve = self._benign_ranking().cut(s.p)
        widest = min(1.0, s.q * max(2.0, *DOSES))
        rankings = self._harm_rankings(widest)

        def mask(ranking: Ranking, share: float, skip: float = 0.0) -> WeightMask:
            return difference(ranking.cut(share, skip=skip), preserve, self.shapes)

        harm = mask(rankings["all"], s.q)
        if not harm.size:
            message = (
                f"expected weights that harmful responses need and benign ones do not, got none: all of the "
                f"first {s.q:g} are among the {s.p:g} that benign responses need. Give a smaller p, a larger "
                "q, or samples that differ more."
            )
            raise FitError(message)
        if any(s.q * _size(shape) < 1 for shape in self.shapes.values()) and s.scope == "matrix":
            self.notes.append(
                f"q = {s.q:g} is less than one weight of some matrices; one weight of each was taken."
            )
        plans = [_Plan("harm mask", "harm", harm)]
        plans += [_Plan(f"{dose:g} x q", "dose", mask(rankings["all"], s.q * dose)) for dose in DOSES]
        plans.append(_Plan("ranks q to 2q", "next", mask(rankings["all"], s.q, s.q)))
        for number in range(N_CONTROLS):
            seed = s.seed * 1_000 + number
            plans.append(_Plan(f"random {number + 1}", "random", random_mask(harm, seed=seed)))
            plans.append(
                _Plan(f"same size {number + 1}", "magnitude", magnitude_mask(harm, self.matrices, seed=seed))
            )
        plans += [_Plan(name, "category", mask(rankings[name], s.q)) for name in self.categories]
        if s.test_refusal_mask and "refusal" in self.sides:
            # Never through `stages`: this mask exists in memory only.
            scores = signed_scores(self.model, self._encode(self.sides["refusal"].find))
            needed = self._benign_ranking().cut(s.refusal_p)
            found = self._ranking(scores, s.refusal_q).cut(s.refusal_q)
            plans.append(_Plan("refusal mask", "refusal", difference(found, needed, self.shapes)))
        return plans

    def _harm_rankings(self, share: float) -> dict[str, Ranking]:
        """The best weights on all harmful samples, and on each category; one pass over the samples."""

        def make() -> dict[str, np.ndarray]:
            find = self.sides["harm"].find
            encoded = [
                sample._replace(start=min(sample.start + self.settings.given, len(sample.ids) - 1))
                for sample in self._encode(find)
            ]
            found: dict[str, np.ndarray] = {}
            total: Scores = {}
            done = 0
            # Sums over samples add up, so the total is that of the categories and no sample is read twice.
            for name in [*self.categories, None]:
                chosen = [
                    sample
                    for sample, example in zip(encoded, find, strict=True)
                    if (example.category if example.category in self.categories else None) == name
                ]
                if not chosen:
                    continue
                start = done
                scores = signed_scores(
                    self.model, chosen, progress=self._counter("harmful samples", start, len(find))
                )
                done += len(chosen)
                if name is not None:
                    found |= _packed(f"{name}/", self._ranking(scores, share))
                if not total:
                    total = scores
                else:
                    for matrix, values in scores.items():
                        total[matrix].add_(values)
                del scores
            return found | _packed("all/", self._ranking(total, share))

        kept = self.stages.arrays("harm", make)
        return {name: self._kept_ranking(kept, f"{name}/") for name in [*self.categories, "all"]}

    def _benign_ranking(self) -> Ranking:
        """The weights that benign responses need, as far down as any mask asks."""
        share = max(self.settings.p, self.settings.refusal_p if self.settings.test_refusal_mask else 0.0)

        def make() -> dict[str, np.ndarray]:
            find = self.sides["benign"].find
            scores = absolute_scores(
                self.model,
                self._encode(find),
                order=self.settings.abs_order,
                progress=self._counter("benign samples", 0, len(find)),
            )
            return dict(self._ranking(scores, share).entries)

        return self._kept_ranking(self.stages.arrays("benign", make), "")

    def _kept_ranking(self, kept: Mapping[str, np.ndarray], prefix: str) -> Ranking:
        sizes = {matrix: _size(shape) for matrix, shape in self.shapes.items()}
        entries = {matrix: kept[f"{prefix}{matrix}"].astype(np.int64, copy=False) for matrix in self.shapes}
        return Ranking(self.settings.scope, sizes, entries)

    def _ranking(self, scores: Scores, share: float) -> Ranking:
        return rank(scores, share, scope=self.settings.scope)

    def _losses(
        self, name: str, probes: Sequence[Probe], firsts: frozenset[int], harm: Probe, plan: _Plan | None
    ) -> tuple[list[Floats], float | None]:
        def make() -> dict[str, np.ndarray]:
            with ExitStack() as stack:
                if plan is not None:
                    stack.enter_context(masked(self.model.torch_model, plan.mask))
                found: dict[str, np.ndarray] = {
                    probe.role: losses(self.model, probe.samples) for probe in probes
                }
                rate = refusal_rate(self.model, harm.samples, firsts) if firsts else np.nan
                return found | {"rate": np.array(rate)}

        kept = self.stages.arrays(name, make)
        rate = float(kept["rate"])
        values = [kept[probe.role].astype(np.float64, copy=False) for probe in probes]
        return values, None if np.isnan(rate) else rate

    def _overlaps(self, plans: Sequence[_Plan]) -> tuple[Overlap, ...]:
        masks = [(plan.name, plan.mask) for plan in plans if plan.kind == "category"]
        return tuple(
            Overlap(a=a, b=b, jaccard=_finite(first.overlap(second)), by_chance=_by_chance(first, second))
            for i, (a, first) in enumerate(masks)
            for b, second in masks[i + 1 :]
        )

    def _counter(self, what: str, start: int, total: int) -> Callable[[int], None]:
        done = start

        def count(n: int) -> None:
            nonlocal done
            done += n
            self.progress(what, done, total)

        return count


def _packed(prefix: str, ranking: Ranking) -> dict[str, np.ndarray]:
    return {f"{prefix}{matrix}": chosen for matrix, chosen in ranking.entries.items()}


def _by_chance(a: WeightMask, b: WeightMask) -> float:
    """Expected Jaccard index of two masks of these sizes, matrix by matrix at random."""
    both = sum(
        len(chosen) * len(b.indices[name]) / _size(a.shapes[name])
        for name, chosen in a.indices.items()
        if name in b.indices
    )
    either = a.size + b.size - both
    return both / either if either else 0.0


def _size(shape: tuple[int, int]) -> int:
    return shape[0] * shape[1]


def _finite(value: float) -> float | None:
    return None if np.isnan(value) else value
