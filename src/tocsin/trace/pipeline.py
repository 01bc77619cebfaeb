"""From a message log to cascade events."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue

from tocsin.core.errors import InputError, UsageError
from tocsin.trace.engine.engine import Engine, backend, to_arrow, write_sorted
from tocsin.trace.engine.relations import CLEANING, attributes, cleaned, dropped_counts, events
from tocsin.trace.link.link import SIMILARITY, link
from tocsin.trace.log.ingest import ingest
from tocsin.trace.log.media_files import media_forms
from tocsin.trace.log.schema import Columns
from tocsin.trace.stages import Counts, Stages, write_whole

if TYPE_CHECKING:
    import ibis

MIN_CELL = 5


@dataclass(frozen=True, slots=True)
class TraceOptions:
    """How a log is traced.

    `media` is the folder of the files that the media column names, None if it holds hashes. `min_cell` is k:
    counts under it are not exported.
    """

    columns: Columns = field(default_factory=Columns)
    rules: tuple[str, ...] = CLEANING
    similarity: float = SIMILARITY
    media: Path | None = None
    engine: Engine = "duckdb"
    master: str = "local[2]"
    min_cell: int = MIN_CELL

    def __post_init__(self) -> None:
        unknown = set(self.rules) - set(CLEANING)
        if unknown:
            message = f"expected cleaning rules of {', '.join(CLEANING)}."
            raise UsageError(message)
        if not 0 < self.similarity <= 1:
            message = f"expected a similarity in (0, 1], got {self.similarity}."
            raise UsageError(message)
        if self.media is not None and not self.media.is_dir():
            message = "expected a folder of media files."
            raise InputError(message, path=self.media)
        if self.min_cell < 1:
            message = f"expected a smallest cell of 1 or more, got {self.min_cell}."
            raise UsageError(message)


@dataclass(frozen=True, slots=True)
class TraceResult:
    """Counts by stage, and where the cascade events and their attributes are."""

    counts: dict[str, Counts]
    events: Path
    attributes: Path
    summary: Path


def run_trace(log: Path, out: Path, options: TraceOptions) -> TraceResult:
    """Trace a log into the run folder `out`, going on where an earlier run of the same log was cut short.

    Everything with a message, person or group in it stays in `out/private` (mode 0700). `out/summary.json`
    holds counts by label and modality, without cells under `min_cell`.

    Raises:
        InputError: If the log cannot be used.
        RunError: If `out` belongs to another run, or the disk is full.
        MissingExtraError: Without the extra 'trace' or, for its engine, 'spark'.
    """
    if not log.is_file():
        message = "expected a message log, found no such file."
        raise InputError(message, path=log)
    state = log.stat()
    # The engine is left out: both give the same tables.
    settings = asdict(options)
    for free in ("engine", "master", "min_cell"):
        del settings[free]
    settings["media"] = None if options.media is None else str(options.media.resolve())
    identity: dict[str, JsonValue] = {
        "log": str(log.resolve()), "bytes": state.st_size, "modified": state.st_mtime_ns,
        **{key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()},
    }  # fmt: skip
    stages = Stages(out, identity)
    counts: dict[str, Counts] = {}
    counts["read"] = stages.run("read", lambda part: {"messages": ingest(log, options.columns, part)})
    read = stages.path("read") / "messages.parquet"
    counts["clean"] = stages.run("clean", lambda part: _clean(read, part, options))
    kept = stages.path("clean") / "messages.parquet"
    media = None
    if options.media is not None:
        folder = options.media
        counts["media"] = stages.run("media", lambda part: _media(kept, part, folder))
        media = stages.path("media") / "media.parquet"
    counts["link"] = stages.run("link", lambda part: _link(kept, part, options, media))
    links = stages.path("link") / "links.parquet"
    counts["events"] = stages.run("events", lambda part: _events(kept, links, part, options))
    found = stages.path("events")
    result = TraceResult(counts, found / "events.parquet", found / "cascades.parquet", out / "summary.json")
    write_whole(result.summary, _summary(result, options.min_cell))
    return result


def _clean(read: Path, part: Path, options: TraceOptions) -> Counts:
    with backend(options.engine, part, master=options.master) as connection:
        messages = connection.read_parquet(str(read))
        dropped = to_arrow(connection, dropped_counts(messages, options.rules)).to_pylist()[0]
        write_sorted(connection, cleaned(messages, options.rules), part / "messages.parquet")
    return {name: int(value or 0) for name, value in dropped.items()}


def _media(kept: Path, part: Path, folder: Path) -> Counts:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    values = pc.unique(pq.read_table(kept, columns=["media"])["media"]).drop_null().to_pylist()
    forms, counts = media_forms(values, folder)
    table = pa.table(
        {"media": list(forms), "form": list(forms.values())},
        schema=pa.schema([("media", pa.string()), ("form", pa.string())]),
    )
    pq.write_table(table, part / "media.parquet")
    return counts


def _link(kept: Path, part: Path, options: TraceOptions, media: Path | None) -> Counts:
    import pyarrow.parquet as pq

    forms: dict[str, str] = {}
    if media is not None:
        table = pq.read_table(media)
        forms = dict(zip(table["media"].to_pylist(), table["form"].to_pylist(), strict=True))
    counts = link(kept, part / "links.parquet", similarity=options.similarity, media=forms)
    (part / "texts.u32").unlink()
    return counts


def _events(kept: Path, links: Path, part: Path, options: TraceOptions) -> Counts:
    def tables(connection: ibis.BaseBackend) -> tuple[ibis.Table, ibis.Table]:
        return connection.read_parquet(str(kept)), connection.read_parquet(str(links))

    with backend(options.engine, part, master=options.master) as connection:
        both = tables(connection)
        rows = write_sorted(connection, events(*both), part / "events.parquet")
        cascades = write_sorted(connection, attributes(*both), part / "cascades.parquet")
    return {"events": rows, "cascades": cascades}


def _summary(result: TraceResult, min_cell: int) -> dict[str, JsonValue]:
    """Counts that may leave the machine: a cell of under `min_cell` cascades is shown as null."""
    import pyarrow.parquet as pq

    table = pq.read_table(result.attributes, columns=["label", "modality", "size"])
    groups = table.group_by(["label", "modality"]).aggregate([("size", "count"), ("size", "mean")])
    cells: list[JsonValue] = []
    for row in sorted(groups.to_pylist(), key=lambda one: (one["label"], one["modality"])):
        enough = row["size_count"] >= min_cell
        cells.append(
            {
                "label": row["label"] if enough else None,
                "modality": row["modality"],
                "cascades": row["size_count"] if enough else None,
                "mean_groups": row["size_mean"] if enough else None,
            }
        )
    stages: dict[str, JsonValue] = {
        stage: {name: value if value >= min_cell else None for name, value in counts.items()}
        for stage, counts in result.counts.items()
    }
    return {"smallest cell": min_cell, "stages": stages, "cascades": cells}
