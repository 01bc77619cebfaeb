"""`tocsin trace run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.validators import Number

from tocsin.api.trace import TraceOptions, trace_log
from tocsin.api.trace_page import trace_page
from tocsin.cli.app import invocation
from tocsin.cli.options import CONFIG_DEFAULTS, ConfigOptions
from tocsin.cli.show import progress_bar, show_study
from tocsin.trace.engine.relations import CLEANING
from tocsin.trace.link.link import SIMILARITY
from tocsin.trace.log.schema import Columns
from tocsin.trace.spread.parents import DEFAULT_RULES, RuleName


def run(
    messages: Path,
    /,
    *,
    out: Path,
    column: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    keep: Annotated[tuple[str, ...], Parameter(negative=())] = (),
    similarity: float = SIMILARITY,
    media: Path | None = None,
    detector: str | None = None,
    model: str = "embedded",
    rule: Annotated[tuple[RuleName, ...], Parameter(negative=())] = (),
    draws: Annotated[int, Parameter(validator=Number(gte=1))] = 10,
    share: float = 0.05,
    seed: int = 0,
    engine: Literal["duckdb", "spark"] = "duckdb",
    master: str = "local[2]",
    min_cell: Annotated[int, Parameter(validator=Number(gte=1))] = 5,
    include_text: bool = False,
    offline: bool = False,
    json: bool = False,
    configs: ConfigOptions = CONFIG_DEFAULTS,
) -> None:
    """Trace a message log.

    Args:
        messages: Message log: .parquet, .csv, .jsonl or .ndjson.
        out: Run folder. The same command goes on with a run that was cut short.
        column: Name of a column, as ROLE=NAME, such as group=chat_id.
        keep: Cleaning rule to switch off: empty, short, greeting or ciphertext.
        similarity: Least Jaccard similarity of near-duplicate texts.
        media: Folder of the files that the media column names; without it the column holds hashes.
        detector: Detector that labels items without a label (default: labels of the log only).
        model: Model of the detector.
        rule: Rule of reconstruction; may be given several times (default: netinf, nearest, star, sampled).
        draws: Draws of the rule `sampled`.
        share: Share of all groups that the log holds, in (0, 1], for estimates of complete cascades.
        seed: Of draws, intervals and permutations.
        engine: What runs the relational steps.
        master: Address of the Spark master.
        min_cell: Cells of fewer cascades are not shown.
        include_text: Put texts of the largest cascades on the page, hidden behind a click.
        offline: Never fetch anything.
        json: Print the result as JSON.
        configs: Where options come from.
    """
    del configs  # read before this function is called
    unknown = tuple(name for name in keep if name not in CLEANING)
    options = TraceOptions(
        columns=Columns.mapped(column),
        cleaning=tuple(name for name in CLEANING if name not in keep) + unknown,
        similarity=similarity,
        media=media,
        rules=rule or DEFAULT_RULES,
        draws=draws,
        share=share,
        min_cell=min_cell,
        seed=seed,
        engine=engine,
        master=master,
    )
    with progress_bar() as progress:
        result = trace_log(
            messages, out, options, detector=detector, model=model, offline=offline,
            include_text=include_text, argv=invocation.argv, progress=progress,
        )  # fmt: skip
    show_study(trace_page(result.study), result.study.model_dump_json(), out, json=json)
