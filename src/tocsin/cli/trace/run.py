"""`tocsin trace run`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from tocsin.api.trace import TraceOptions, run_trace
from tocsin.cli.show import plain_table, table_text, write
from tocsin.report import visible
from tocsin.trace.engine.relations import CLEANING
from tocsin.trace.link.link import SIMILARITY
from tocsin.trace.log.schema import Columns


def run(
    messages: Path,
    /,
    *,
    out: Path,
    column: tuple[str, ...] = (),
    keep: tuple[str, ...] = (),
    similarity: float = SIMILARITY,
    media: Path | None = None,
    engine: Literal["duckdb", "spark"] = "duckdb",
    master: str = "local[2]",
    min_cell: int = 5,
) -> None:
    """Trace a message log.

    Args:
        messages: Message log: .parquet, .csv, .jsonl or .ndjson.
        out: Run folder. The same command goes on with a run that was cut short.
        column: Name of a column, as ROLE=NAME, such as group=chat_id.
        keep: Cleaning rule to switch off: empty, short, greeting or ciphertext.
        similarity: Least Jaccard similarity of near-duplicate texts.
        media: Folder of the files that the media column names; without it the column holds hashes.
        engine: What runs the relational steps.
        master: Address of the Spark master.
        min_cell: Counts under this are not exported.
    """
    unknown = tuple(rule for rule in keep if rule not in CLEANING)
    rules = tuple(rule for rule in CLEANING if rule not in keep) + unknown
    options = TraceOptions(Columns.mapped(column), rules, similarity, media, engine, master, min_cell)
    result = run_trace(messages, out, options)
    table = plain_table("stage", "count", "")
    for stage, counts in result.counts.items():
        for name, value in counts.items():
            shown = f"{value}" if value >= min_cell else f"under {min_cell}"
            table.add_row(stage, visible(name), shown)
    write([table_text(table), f"Summary: {visible(str(result.summary))}\n"])
