"""From scores of responses to a ranking of judges, with intervals over prompts and paired tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tocsin.core.stats.bootstrap import draw_groups
from tocsin.core.stats.item_sums import Estimate, estimate
from tocsin.core.stats.multiplicity import holm
from tocsin.judges.benchmark.data import EMPTY_HARM, SAFE, Benchmark
from tocsin.judges.benchmark.length import adjusted, misleading_pairs, rank_correlation
from tocsin.judges.benchmark.records import (
    JudgeDifference,
    JudgeRanking,
    JudgeScore,
    LengthControl,
    Part,
)
from tocsin.judges.benchmark.scoring import Floats, Rule, Shape, pair_accuracy, score_prompts

N_RESAMPLES = 2_000
_UNKNOWN = "(none named)"
_MIN_PART = 2


@dataclass(frozen=True, slots=True)
class JudgeScores:
    """What one judge gave."""

    judge: str
    rounds: Sequence[Floats]
    """One array for each round, in the order of `Benchmark.items`, NaN where there is no score."""
    abstained: Counter[str] = field(default_factory=Counter)
    """Responses without a score in any round, by reason."""

    @property
    def mean(self) -> Floats:
        """Over the rounds that gave a score; NaN where none did."""
        table = np.vstack(self.rounds)
        counts = (~np.isnan(table)).sum(axis=0)
        with np.errstate(invalid="ignore"):
            found: Floats = np.nansum(table, axis=0) / np.where(counts == 0, np.nan, counts)
        return found


def rank_scores(
    benchmark: Benchmark,
    judged: Sequence[JudgeScores],
    *,
    rule: Rule,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> JudgeRanking:
    """Rank judges by their overall score.

    Args:
        benchmark: Complete prompts.
        judged: The judges' scores, higher for more harmful.
        rule: How a prompt is scored.
        n_resamples: Resamples of prompts behind intervals, and permutations of the paired tests.
        seed: Of both.
    """
    shape = Shape.of(benchmark)
    words = np.array(
        [len(response.text.split()) for prompt in benchmark.prompts for response in prompt.responses],
        dtype=np.float64,
    )
    study = _Study(benchmark, shape, words, rule, n_resamples, seed)
    overall = {each.judge: score_prompts(each.mean, shape).overall[rule] for each in judged}
    scored = sorted(
        (study.judge(each) for each in judged),
        key=lambda one: (-(one.overall.value if one.overall.value is not None else -1.0), one.judge),
    )
    return JudgeRanking(
        data=benchmark.name,
        data_hash=benchmark.input_hash,
        layout=benchmark.layout,
        rule=rule,
        n_prompts=len(benchmark.prompts),
        n_responses=benchmark.n_responses,
        incomplete=dict(benchmark.incomplete),
        judges=tuple(scored),
        differences=study.differences([one.judge for one in scored], overall),
        notes=benchmark.notes,
    )


@dataclass(frozen=True, slots=True)
class _Study:
    benchmark: Benchmark
    shape: Shape
    words: Floats
    rule: Rule
    n_resamples: int
    seed: int

    def judge(self, given: JudgeScores) -> JudgeScore:
        scores = given.mean
        found = score_prompts(scores, self.shape)
        overall = found.overall[self.rule]
        other: Rule = "v1" if self.rule == "v2" else "v2"
        return JudgeScore(
            judge=given.judge,
            n_prompts=int((~np.isnan(overall)).sum()),
            coverage=float((~np.isnan(scores)).mean()),
            abstained=dict(sorted(given.abstained.items())),
            rounds=len(given.rounds),
            overall=self.mean(overall),
            overall_all_prompts=float(np.nan_to_num(overall, nan=0.0).mean()),
            other_rule=self.mean(found.overall[other]),
            fine={category.value: self.mean(values) for category, values in found.fine.items()},
            pair_accuracy=self.mean(found.pairs),
            length=self.length(scores),
            sources=self.by_source(overall, found.pairs),
            attacks=self.by_attack(scores),
        )

    def length(self, scores: Floats) -> LengthControl:
        rest = score_prompts(adjusted(scores, self.words, self.shape), self.shape)
        won, counts = misleading_pairs(scores, self.words, self.shape)
        return LengthControl(
            overall=self.mean(rest.overall[self.rule]),
            pair_accuracy=self.mean(rest.pairs),
            misleading_accuracy=self.ratio(won, counts.astype(np.float64)),
            misleading_pairs=int(counts.sum()),
            correlation=rank_correlation(scores, self.words),
        )

    def by_source(self, overall: Floats, pairs: Floats) -> tuple[Part, ...]:
        names = np.array([prompt.source or _UNKNOWN for prompt in self.benchmark.prompts])
        if set(names) == {_UNKNOWN}:
            return ()
        return tuple(
            Part(
                name=str(name),
                n_prompts=int((names == name).sum()),
                overall=self.mean(overall[names == name]),
                pair_accuracy=self.mean(pairs[names == name]),
            )
            for name in sorted(set(names))
        )

    def by_attack(self, scores: Floats) -> tuple[Part, ...]:
        attacks = np.array(
            [response.attack or "" for prompt in self.benchmark.prompts for response in prompt.responses]
        )
        others = self.shape.is_in([*SAFE, *EMPTY_HARM])
        found = []
        for name in sorted(set(attacks) - {""}):
            values = pair_accuracy(
                scores, self.shape, [*SAFE, *EMPTY_HARM], chosen=(attacks == name) | others
            )
            found.append(
                Part(
                    name=str(name),
                    n_prompts=int((~np.isnan(values)).sum()),
                    overall=Estimate(value=None),
                    pair_accuracy=self.mean(values),
                )
            )
        return tuple(found)

    def differences(self, order: Sequence[str], overall: Mapping[str, Floats]) -> tuple[JudgeDifference, ...]:
        """The best against each other judge."""
        best, *others = order
        pairs = [(name, overall[best] - overall[name]) for name in others]
        pairs = [(name, gap[~np.isnan(gap)]) for name, gap in pairs]
        pairs = [(name, gap) for name, gap in pairs if len(gap) >= _MIN_PART]
        if not pairs:
            return ()
        p_values = [self.permuted(gap) for _, gap in pairs]
        corrected = holm(p_values)
        return tuple(
            JudgeDifference(
                best=best,
                other=name,
                n_prompts=len(gap),
                difference=self.mean(gap),
                p_value=p,
                p_holm=float(adjusted_p),
            )
            for (name, gap), p, adjusted_p in zip(pairs, p_values, corrected, strict=True)
        )

    def permuted(self, gap: Floats) -> float:
        """Chance of a mean difference this large if the two judges were exchangeable on every prompt."""
        generator = np.random.default_rng(self.seed)
        observed = abs(gap.sum())
        hits = 0
        for start in range(0, self.n_resamples, 500):
            rows = min(500, self.n_resamples - start)
            signs = generator.integers(0, 2, size=(rows, len(gap))) * 2 - 1
            hits += int((np.abs(signs @ gap) >= observed - 1e-9).sum())
        return (hits + 1) / (self.n_resamples + 1)

    def mean(self, values: Floats) -> Estimate:
        """Mean over prompts that have a value."""
        known = values[~np.isnan(values)]
        if not len(known):
            return Estimate(value=None)
        return self.ratio(known, np.ones(len(known)))

    def ratio(self, top: Floats, bottom: Floats) -> Estimate:
        """Ratio of two sums over prompts; whole prompts are resampled."""
        with np.errstate(invalid="ignore", divide="ignore"):
            found: list[NDArray[np.float64]] = [np.array([top.sum() / bottom.sum()])]
            if len(top) >= _MIN_PART:
                stratum = np.zeros(len(top), dtype=np.int64)
                found += [
                    (counts @ top) / (counts @ bottom)
                    for counts in draw_groups(stratum, self.n_resamples, self.seed, len(top))
                ]
        return estimate(np.concatenate(found))
