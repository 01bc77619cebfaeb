"""From a message log to a study of how its items spread."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue

from tocsin.core.errors import InputError, UsageError
from tocsin.models.fence import local_secret
from tocsin.trace.cascades import Cascades
from tocsin.trace.compare.attributes import Attributes
from tocsin.trace.compare.regression import Covariates
from tocsin.trace.engine.covariates import covariates
from tocsin.trace.engine.engine import Engine, backend, to_arrow, write_sorted
from tocsin.trace.engine.relations import (
    CLEANING,
    UNLABELLED,
    attributes,
    cleaned,
    dropped_counts,
    events,
    first_texts,
)
from tocsin.trace.estimates.complete import checked_share
from tocsin.trace.link.link import SIMILARITY, link
from tocsin.trace.log.ingest import ingest
from tocsin.trace.log.media_files import media_forms
from tocsin.trace.log.schema import Columns
from tocsin.trace.measures import Shapes
from tocsin.trace.spread.export import export
from tocsin.trace.spread.parents import (
    DEFAULT_RULES,
    RULES,
    RuleName,
    members_of,
    read_parents,
    reconstruct,
    rule_shapes,
)
from tocsin.trace.spread.records import SpreadStudy
from tocsin.trace.spread.study import Traced, cascade_id, study_spread
from tocsin.trace.stages import Counts, Stages, named_errors, write_whole

if TYPE_CHECKING:
    import ibis

MIN_CELL = 5
SHARE = 0.05
Labeller = Callable[[Iterable[str]], Iterator[bool | None]]
"""Whether each text is harmful, in order; None where that cannot be told."""
HARMFUL = "harmful"
"""Label of what a detector flags."""
_TEXTS = 10_000


@dataclass(frozen=True, slots=True)
class TraceOptions:
    """How a log is traced.

    Args:
        columns: Names of the columns.
        cleaning: Cleaning rules that apply.
        similarity: Least Jaccard similarity of near-duplicate texts.
        media: Folder of the files that the media column names; None if it holds hashes.
        rules: Rules of reconstruction; the first is shown in most charts.
        draws: Draws of the rule `sampled`.
        share: Share p of all groups that the log holds, for estimates of complete cascades.
        labeller: What `labeller` is, such as a detector and its model; None without one.
        stamp: What else decides the result, such as a hash of the code.
        min_cell: k: cells of fewer cascades are not shown.
        seed: Of draws, intervals and permutations.
        engine: What runs the relational steps.
        master: Address of the Spark master.
    """

    columns: Columns = field(default_factory=Columns)
    cleaning: tuple[str, ...] = CLEANING
    similarity: float = SIMILARITY
    media: Path | None = None
    rules: tuple[RuleName, ...] = DEFAULT_RULES
    draws: int = 10
    share: float = SHARE
    labeller: str | None = None
    stamp: str = ""
    min_cell: int = MIN_CELL
    seed: int = 0
    engine: Engine = "duckdb"
    master: str = "local[2]"

    def __post_init__(self) -> None:
        unknown = set(self.cleaning) - set(CLEANING)
        if unknown:
            message = f"expected cleaning rules of {', '.join(CLEANING)}."
            raise UsageError(message)
        if not self.rules or set(self.rules) - set(RULES) or len(set(self.rules)) < len(self.rules):
            message = f"expected different rules of {', '.join(RULES)}."
            raise UsageError(message)
        if not 0 < self.similarity <= 1:
            message = f"expected a similarity in (0, 1], got {self.similarity}."
            raise UsageError(message)
        checked_share(self.share)
        if self.media is not None and not self.media.is_dir():
            message = "expected a folder of media files."
            raise InputError(message, path=self.media)
        if self.min_cell < 1 or self.draws < 1:
            got = f"{self.draws} and {self.min_cell}"
            message = f"expected 1 or more draws and a smallest cell of 1 or more, got {got}."
            raise UsageError(message)


@dataclass(frozen=True, slots=True)
class TraceResult:
    """The study, counts by stage, and where things are.

    `events` and `attributes` are private tables; `exported` is a folder that may leave the machine.
    """

    study: SpreadStudy
    counts: dict[str, Counts]
    events: Path
    attributes: Path
    exported: Path


def run_trace(
    log: Path,
    out: Path,
    options: TraceOptions,
    *,
    labeller: Labeller | None = None,
    progress: Callable[[str], None] = lambda _stage: None,
) -> TraceResult:
    """Trace a log into the run folder `out`, going on where an earlier run of the same log was cut short.

    Everything with a message, person or group in it stays in `out/private` (mode 0700).

    Args:
        log: The message log.
        out: Run folder.
        options: How it is traced.
        labeller: Judges the first text of every item that has no label and spread; goes with
            `options.labeller`, which names it.
        progress: Told of each stage before it begins.

    Raises:
        InputError: If the log cannot be used.
        RunError: If `out` belongs to another run, or the disk is full.
        MissingExtraError: Without the extra 'trace' or, for its engine, 'spark'.
    """
    if not log.is_file():
        message = "expected a message log, found no such file."
        raise InputError(message, path=log)
    stages = Stages(out, _identity(log, options))
    counts: dict[str, Counts] = {}

    def run(name: str, work: Callable[[Path], Counts]) -> Path:
        progress(name)
        counts[name] = stages.run(name, work)
        return stages.path(name)

    read = run("read", lambda part: {"messages": ingest(log, options.columns, part)}) / "messages.parquet"
    kept = run("clean", lambda part: _clean(read, part, options)) / "messages.parquet"
    media = None
    if options.media is not None:
        folder = options.media
        media = run("media", lambda part: _media(kept, part, folder)) / "media.parquet"
    links = run("link", lambda part: _link(kept, part, options, media)) / "links.parquet"
    found = run("events", lambda part: _events(kept, links, part, options))
    known = found / "cascades.parquet"
    if labeller is not None:
        judge = labeller
        known = run("label", lambda part: _label(kept, links, known, part, options, judge)) / known.name
    cascades = Cascades.read(found / "events.parquet")
    trees = run("reconstruct", lambda part: _reconstruct(kept, cascades, part, options))
    parents, network = trees / "parents.parquet", trees / "network.parquet"
    secret = local_secret()

    def study(part: Path) -> Counts:
        traced = Traced(
            cascades, Attributes.read(known, cascades), Covariates.read(found / "traits.parquet", cascades),
            parents, network, counts,
        )  # fmt: skip
        result = study_spread(
            traced, options.rules, seen=options.share, min_cell=options.min_cell, secret=secret,
            seed=options.seed,
        )  # fmt: skip
        (part / "study.json").write_text(result.model_dump_json(), "utf-8")
        return {"cascades": len(cascades)}

    studied = run("study", study) / "study.json"

    def hand_out(part: Path) -> Counts:
        shapes: dict[str, Shapes] = {
            rule: rule_shapes(cascades, read_parents(parents, rule)) for rule in options.rules
        }
        return export(
            part, cascades, Attributes.read(known, cascades), shapes, parents=parents,
            network=network, min_cell=options.min_cell, secret=secret,
        )  # fmt: skip

    with named_errors(out):
        exported = _shown(run("export", hand_out), out / "export")
    result = SpreadStudy.model_validate_json(studied.read_text("utf-8"))
    with named_errors(out):
        write_whole(out / "result.json", result.model_dump(mode="json"))
    return TraceResult(result, counts, found / "events.parquet", known, exported)


def _shown(private: Path, exported: Path) -> Path:
    """Copy a complete folder out of the private part, so that it is there whole or not at all."""
    if not exported.exists():
        part = exported.with_name("export.part")
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(private, part, copy_function=shutil.copyfile)
        part.chmod(0o755)
        part.rename(exported)
    return exported


def _identity(log: Path, options: TraceOptions) -> dict[str, JsonValue]:
    """What the result depends on. The engine is left out: both give the same tables."""
    state = log.stat()
    settings = asdict(options)
    for free in ("engine", "master"):
        del settings[free]
    settings["media"] = None if options.media is None else str(options.media.resolve())
    plain = {key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()}
    return {
        "log": str(log.resolve()), "bytes": state.st_size, "modified": state.st_mtime_ns, **plain,
    }  # fmt: skip


def _clean(read: Path, part: Path, options: TraceOptions) -> Counts:
    with backend(options.engine, part, master=options.master) as connection:
        messages = connection.read_parquet(str(read))
        dropped = to_arrow(connection, dropped_counts(messages, options.cleaning)).to_pylist()[0]
        write_sorted(connection, cleaned(messages, options.cleaning), part / "messages.parquet")
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


def _tables(connection: ibis.BaseBackend, kept: Path, links: Path) -> tuple[ibis.Table, ibis.Table]:
    return connection.read_parquet(str(kept)), connection.read_parquet(str(links))


def _events(kept: Path, links: Path, part: Path, options: TraceOptions) -> Counts:
    with backend(options.engine, part, master=options.master) as connection:
        both = _tables(connection, kept, links)
        rows = write_sorted(connection, events(*both), part / "events.parquet")
        cascades = write_sorted(connection, attributes(*both), part / "cascades.parquet")
        write_sorted(connection, covariates(*both), part / "traits.parquet")
    return {"events": rows, "cascades": cascades}


def _label(
    kept: Path, links: Path, known: Path, part: Path, options: TraceOptions, labeller: Labeller
) -> Counts:
    """Labels from a detector for the items that have none; `cascades.parquet` with them filled in."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with backend(options.engine, part, master=options.master) as connection:
        write_sorted(connection, first_texts(*_tables(connection, kept, links)), part / "texts.parquet")
    table = pq.read_table(known)
    labels = dict(zip(table["cascade"].to_pylist(), table["label"].to_pylist(), strict=True))
    counts = {"judged": 0, "flagged": 0, "abstained": 0}
    open_keys: list[int] = []

    def texts() -> Iterator[str]:
        with pq.ParquetFile(part / "texts.parquet") as file:
            for batch in file.iter_batches(_TEXTS):
                for key, text in zip(batch["cascade"].to_pylist(), batch["text"].to_pylist(), strict=True):
                    if labels.get(key) == UNLABELLED:
                        open_keys.append(key)
                        yield text

    for place, verdict in enumerate(labeller(texts())):
        counts["judged"] += 1
        if verdict is None:
            counts["abstained"] += 1
        elif verdict:
            counts["flagged"] += 1
            labels[open_keys[place]] = HARMFUL
    column = pa.array([labels[key] for key in table["cascade"].to_pylist()], pa.string())
    pq.write_table(
        table.set_column(table.column_names.index("label"), "label", column), part / "cascades.parquet"
    )
    (part / "texts.parquet").unlink()
    return counts


def _reconstruct(kept: Path, cascades: Cascades, part: Path, options: TraceOptions) -> Counts:
    members = None
    if "membership" in options.rules:
        with backend("duckdb", part) as connection:
            members = members_of(connection.read_parquet(str(kept)), cascades, connection)
    return reconstruct(
        cascades, options.rules, draws=options.draws, seed=options.seed, members=members, folder=part
    )


def top_texts(out: Path, ids: Collection[str], secret: bytes) -> dict[str, str]:
    """Earliest texts of some cascades of a finished trace, by their ids; for readers who asked for text."""
    private = out / "private"
    with backend("duckdb", private) as connection:
        both = _tables(connection, private / "clean" / "messages.parquet", private / "link" / "links.parquet")
        keys = Cascades.read(private / "events" / "events.parquet").keys
        wanted = {int(key): name for key in keys if (name := cascade_id(int(key), secret)) in ids}
        table = first_texts(*both)
        rows = (
            to_arrow(connection, table.filter(table.cascade.isin(list(wanted)))).to_pylist() if wanted else []
        )
    return {wanted[row["cascade"]]: row["text"] for row in rows}
