"""`tocsin judges rank`."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from tocsin.api.rank import N_RESAMPLES, rank_judges
from tocsin.api.rank_page import ranking_page
from tocsin.cli.app import invocation
from tocsin.cli.options import CONFIG_DEFAULTS, MODEL_DEFAULTS, ConfigOptions, ModelOptions
from tocsin.cli.show import notice, progress_bar, write
from tocsin.cli.words import parse_options
from tocsin.core.run_record import REPORT
from tocsin.report import render_study


def rank(
    dataset: Path,
    /,
    *,
    version: Literal["v1", "v2"] | None = None,
    metric: tuple[str, ...] = (),
    scores: tuple[Path, ...] = (),
    profile: Path | None = None,
    words: Annotated[int | None, Parameter(validator=Number(gte=1))] = None,
    out: Path | None = None,
    fresh: bool = False,
    resamples: Annotated[int, Parameter(validator=Number(gte=1_000))] = N_RESAMPLES,
    set_: Annotated[tuple[str, ...], Parameter(name="--set")] = (),
    json: bool = False,
    models: ModelOptions = MODEL_DEFAULTS,
    configs: ConfigOptions = CONFIG_DEFAULTS,
) -> None:
    """Rank judges and metrics.

    Args:
        dataset: Benchmark file: HarmMetric Eval in either layout, or one of your own.
        version: Scoring rule (default: the one that belongs to the layout; v2 for your own).
        metric: Judge or metric from `tocsin detectors`; may be repeated (default: every one that needs no
            model).
        scores: File with scores of another tool; may be repeated (default: none).
        profile: Folder of a fitted judge, such as one of `tocsin judges train` (default: those that ship).
        words: Cut all texts after so many words, so that length tells nothing (default: whole texts).
        out: Run folder (default: tocsin-runs/rank-ID, named by data, judges and settings).
        fresh: Begin anew even if this was ranked before.
        resamples: Resamples of prompts behind the intervals, and permutations.
        set_: Option of a judge as NAME.OPTION=VALUE (default: none).
        json: Print the result as JSON.
        models: Which model is read, and how.
        configs: Where options come from.
    """
    del configs  # read before this function is called
    with progress_bar() as progress:
        study = rank_judges(
            dataset,
            judges=metric,
            scores=scores,
            profile=profile,
            version=version,
            words=words,
            n_resamples=resamples,
            options=dict(parse_options(set_)),
            out=out,
            fresh=fresh,
            argv=invocation.argv,
            progress=progress,
            **asdict(models),
        )
    if json:
        write([study.ranking.to_json() + "\n"])
    else:
        write([render_study(ranking_page(study.ranking), is_terminal=sys.stdout.isatty())])
    notice(f"report: {study.folder / REPORT}")
