"""`tocsin judges agree`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from tocsin.api.agree import N_RESAMPLES, judge_agreement
from tocsin.api.agree_page import agreement_page
from tocsin.cli.app import invocation
from tocsin.cli.options import CONFIG_DEFAULTS, ConfigOptions
from tocsin.cli.show import notice, write
from tocsin.core.run_record import REPORT
from tocsin.report import render_study


def agree(
    path: Path,
    /,
    *,
    reference: str = "human",
    annotators: tuple[str, ...] = (),
    humans: tuple[str, ...] = ("human", "expert"),
    items: Path | None = None,
    skip_bad: bool = False,
    out: Path | None = None,
    fresh: bool = False,
    resamples: Annotated[int, Parameter(validator=Number(gte=1_000))] = N_RESAMPLES,
    seed: int = 0,
    json: bool = False,
    configs: ConfigOptions = CONFIG_DEFAULTS,
) -> None:
    """Measure how well annotators agree.

    Args:
        path: File or folder of rankings.
        reference: Annotator that the others are measured against.
        annotators: Annotator that takes part; may be repeated (default: all).
        humans: Annotator that is a person; may be repeated. The others are judges.
        items: File with one item id a line: rankings of other items are an error (default: any item).
        skip_bad: Leave out bad rankings of a long file and count them, instead of stopping.
        out: Run folder (default: tocsin-runs/agree-ID, named by command, data and settings).
        fresh: Make it anew even if this was measured before.
        resamples: Resamples of items behind the intervals, and permutations of the position test.
        seed: Of resamples and permutations.
        json: Print the result as JSON.
        configs: Where options come from.
    """
    del configs  # read before this function is called
    study = judge_agreement(
        path,
        reference=reference,
        annotators=annotators,
        humans=humans,
        known_items=items,
        skip_bad=skip_bad,
        n_resamples=resamples,
        seed=seed,
        out=out,
        fresh=fresh,
        argv=invocation.argv,
    )
    if json:
        write([study.agreement.to_json() + "\n"])
    else:
        write([render_study(agreement_page(study.agreement), is_terminal=sys.stdout.isatty())])
    notice(f"report: {study.folder / REPORT}")
