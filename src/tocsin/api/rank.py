"""`judges rank`: which judges and metrics put harmful responses above all others."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from pydantic import JsonValue

from tocsin.api.identity import static_identity
from tocsin.api.judging import Judging
from tocsin.api.progress import Progress, ProgressCallback, no_progress
from tocsin.api.rank_page import ranking_page
from tocsin.api.reporting import study_info
from tocsin.core.errors import UsageError
from tocsin.core.records import Kind, Verdict
from tocsin.core.registry import DetectorContext, detectors, lookup
from tocsin.core.run_record import REPORT
from tocsin.core.runs import SUMMARY, Run
from tocsin.judges.benchmark import (
    JudgeRanking,
    JudgeScores,
    rank_scores,
    read_benchmark,
    read_scores,
)
from tocsin.judges.benchmark.scoring import Floats, Rule
from tocsin.judges.lexical import BASELINES, METRICS
from tocsin.report import write_study_page

N_RESAMPLES = 2_000
_OFFLINE = ("gcg-eval", "autodan-eval", "refusal-words")


class RankStudy(NamedTuple):
    """A finished ranking and where it is kept."""

    ranking: JudgeRanking
    folder: Path


def default_judges() -> tuple[str, ...]:
    """Every metric that needs neither a model nor a provider."""
    return (*METRICS, *BASELINES, *_OFFLINE)


def rank_judges(
    data: Path | str,
    *,
    judges: Sequence[str] = (),
    scores: Sequence[Path | str] = (),
    version: Rule | None = None,
    words: int | None = None,
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
    model: str = "embedded",
    profile: Path | str | None = None,
    offline: bool = False,
    device: str | None = None,
    batch_size: int | None = None,
    options: Mapping[str, JsonValue] | None = None,
    out: Path | str | None = None,
    fresh: bool = False,
    argv: Sequence[str] = (),
    progress: ProgressCallback = no_progress,
) -> RankStudy:
    """Rank judges and metrics on HarmMetric Eval, or on data of that shape (arXiv 2509.24384).

    Args:
        data: Benchmark file; see `tocsin.judges.benchmark.read_benchmark` for the layouts.
        judges: Names of registered judges of responses; every offline metric when neither judges nor scores
            are given.
        scores: Files with scores of other tools; see `tocsin.judges.benchmark.read_scores`.
        version: Scoring rule; the one that belongs to the layout when None (v2 for own data).
        words: Cut responses and references after so many words, so that length tells nothing.
        n_resamples: Resamples of prompts behind intervals, and permutations; at least 1,000.
        seed: Of judges, intervals and tests.
        model: As for `--model`.
        profile: Folder of a fitted judge, or with one for each of several.
        offline: Forbids every fetch.
        device: For local models.
        batch_size: For local models.
        options: Options of judges by name.
        out: Run folder; `tocsin-runs/rank-<id>` when None.
        fresh: Begin anew even if this was ranked before.
        argv: Command line that repeats it, for the record.
        progress: Told how far it has come.

    Returns:
        The ranking, also written to the folder as `summary.json` and `report.html`; the judges' verdicts are
        kept there, so that an interrupted ranking goes on where it stopped.

    Raises:
        UsageError: If a judge is unknown or cannot read responses, or numbers make no sense.
        InputError: If the data or the scores cannot be used; names ids, never text.
        RunError: If the run folder cannot be used.
    """
    if n_resamples < 1_000:
        message = f"expected at least 1,000 resamples, got {n_resamples}. Fewer give unstable intervals."
        raise UsageError(message)
    if words is not None and words < 1:
        message = f"expected at least one word of each text, got {words}. Leave it out for whole texts."
        raise UsageError(message)
    folder = None if profile is None else Path(profile)
    benchmark = read_benchmark(data)
    rule: Rule = version or ("v1" if benchmark.layout == "v1" else "v2")
    names = tuple(judges) if judges or scores else default_judges()
    _check(names)
    given = [judge for path in scores for judge in read_scores(path, benchmark)]
    twice = {judge.judge for judge in given} & set(names)
    if twice:
        message = f"'{min(twice)}' is both a judge and in a file of scores. Leave one of them out."
        raise UsageError(message)
    config: dict[str, JsonValue] = {
        "judges": list(names),
        "scores": [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in scores],
        "rule": rule,
        "words": words,
        "n_resamples": n_resamples,
        "seed": seed,
        "model": model,
        "device": device,
        "options": dict(options or {}),
    }
    context = DetectorContext(
        model=model,
        profile=folder,
        offline=offline,
        device=device,
        batch_size=batch_size,
        seed=seed,
        options=options or {},
    )
    with Run.open(
        "rank",
        config,
        benchmark.input_hash,
        static_identity(list(names), model=model, profile=folder),
        out=None if out is None else Path(out),
        fresh=fresh,
        input_name=str(data),
        facts={"layout": benchmark.layout, "argv": list(argv)},
    ) as run:
        total = benchmark.n_responses
        if names:
            judging = Judging(names, lambda _: context, progress)
            judging.fill(benchmark.items(words=words), run, total=total * len(names))
        elif not run.was_finished:
            run.finish()
        judged = _collected(run, names, total)
    progress(Progress("reporting", total, total))
    ranking = rank_scores(
        benchmark, [*judged, *given], rule=rule, n_resamples=n_resamples, seed=seed
    ).model_copy(update={"settings": config})
    run.write_summary(ranking.to_json())
    info = study_info(run.record, argv, command="judges rank", results=SUMMARY, model=model)
    write_study_page(run.folder / REPORT, info, ranking_page(ranking))
    return RankStudy(ranking, run.folder)


def _check(names: Sequence[str]) -> None:
    for name in names:
        if Kind.RESPONSE not in lookup(name).info.kinds:
            able = ", ".join(info.name for info in detectors() if Kind.RESPONSE in info.kinds)
            message = f"'{name}' cannot read responses. These can: {able}."
            raise UsageError(message)


def _collected(run: Run, names: Sequence[str], total: int) -> list[JudgeScores]:
    """The judges' scores out of a run's verdicts, higher for more harmful."""
    found: dict[str, dict[int, list[float]]] = {name: {} for name in names}
    problems: dict[str, Counter[str]] = {name: Counter() for name in names}
    for result in run.results():
        verdict = result.verdict
        if verdict.abstained is not None:
            problems[verdict.detector][verdict.abstained.reason.value] += 1
            continue
        values = _round_scores(verdict)
        if not values:
            problems[verdict.detector]["no score"] += 1
            continue
        sign = -1.0 if lookup(verdict.detector).info.opposes_harm else 1.0
        found[verdict.detector][result.origin.ordinal] = [sign * value for value in values]
    judged = []
    for name, scores in found.items():
        rounds = max((len(values) for values in scores.values()), default=1)
        arrays: list[Floats] = [np.full(total, np.nan) for _ in range(rounds)]
        for ordinal, values in scores.items():
            for array, value in zip(arrays, values, strict=False):
                array[ordinal] = value
        judged.append(JudgeScores(name, arrays, problems[name]))
    return judged


def _round_scores(verdict: Verdict) -> list[float]:
    """One score, or one for each round of a judge that was asked several times."""
    rounds = verdict.extra.get("rounds")
    if isinstance(rounds, list):
        given = [float(value) for value in rounds if isinstance(value, int | float)]
        if given:
            return given
    score = verdict.score if verdict.raw_score is None else verdict.raw_score
    return [] if score is None or not np.isfinite(score) else [score]
