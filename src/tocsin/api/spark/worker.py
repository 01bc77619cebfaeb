"""The side of `scan --engine spark` that runs on the workers: items come in as rows, verdicts go out as rows.

A worker is sent the options of the scan, never a model. It opens each detector by its name when the first
item needs it, once for each process and scan, and shows it the same chunks of items as the embedded engine.

Nothing that was examined may reach Spark's logs, so no exception leaves a worker: it becomes a last row that
says what failed and where in the code, without the message of an error that is not ours.
"""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from pydantic import JsonValue

from tocsin.api.identity import code_hash
from tocsin.api.judging import CHUNK, Judging
from tocsin.api.scan_options import ScanOptions
from tocsin.core.errors import MissingExtraError, RunError, TocsinError
from tocsin.core.records import Item
from tocsin.core.results import to_line
from tocsin.core.run_record import installed_versions

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA = "sort string, body string"
"""Rows that come back, as Spark's DDL."""


class Row(NamedTuple):
    """One item on its way to a worker."""

    item: str
    """JSON of the item."""
    done: str
    """JSON list of the detectors whose verdicts on it are in the run already."""

    @classmethod
    def of(cls, item: Item, done: Iterable[str]) -> Row:
        """An item as a row."""
        # Not pydantic's own JSON, which would turn a number in the metadata that is not finite into null.
        return cls(json.dumps(item.model_dump(exclude_defaults=True)), json.dumps(list(done)))


class Message(NamedTuple):
    """One row that comes back."""

    sort: Literal["detector", "provenance", "result", "error"]
    """What a detector is made of; how verdicts came about; a verdict; or what ended the work.

    The first two come before the first verdict that needs them.
    """
    body: str
    """JSON."""


def _code() -> str:
    return f"{installed_versions()['tocsin']} (code {code_hash()})"


@dataclass(frozen=True, slots=True)
class Work:
    """All that a worker is told."""

    options: ScanOptions
    folder: str
    """Folder of the command, which relative paths are relative to."""
    code: str = field(default_factory=_code)
    """Of this package, which has to be the same everywhere."""
    scan: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Of this call: what the last one in the same session opened may have been changed since."""


def judge_batches(work: Work, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """What `mapInArrow` calls for each partition: rows of `Row` to rows of `Message`.

    Args:
        work: What the worker is told.
        batches: Columns `item` and `done`. Read as they are needed.
    """
    import pyarrow as pa

    rows = (
        Row(item, done)
        for batch in batches
        for item, done in zip(batch["item"].to_pylist(), batch["done"].to_pylist(), strict=True)
    )
    messages = answers(work, rows)
    while some := list(islice(messages, CHUNK)):
        yield pa.RecordBatch.from_pydict(
            {"sort": [one.sort for one in some], "body": [one.body for one in some]}
        )


def answers(work: Work, rows: Iterable[Row]) -> Iterator[Message]:
    """The verdicts on the items of one partition, in the order of the embedded engine.

    Args:
        work: What the worker is told.
        rows: Whole chunks of items, but for the last chunk of the input.
    """
    try:
        # A worker on another machine may lack the folder, and need none.
        with contextlib.chdir(work.folder) if Path(work.folder).is_dir() else contextlib.nullcontext():
            yield from _judged(work, rows)
    except TocsinError as error:
        yield Message("error", json.dumps(_described(error)))
    except Exception as error:  # noqa: BLE001 - its message may quote the item, and Spark would log it
        failed: dict[str, JsonValue] = {
            "sort": "RunError",
            "message": f"a detector failed on a Spark worker with {type(error).__name__} at {_place(error)}. "
            "Scan without --engine spark to see the whole error.",
        }
        yield Message("error", json.dumps(failed))


@dataclass(slots=True)
class _Opened:
    """The detectors of a worker process."""

    work: Work
    judging: Judging
    identities: dict[str, Mapping[str, JsonValue]] = field(default_factory=dict)
    """What each detector is made of, once it is built."""


_opened: _Opened | None = None
"""Of this process. Spark uses a process for many partitions."""


def _open(work: Work) -> _Opened:
    global _opened
    if _opened is None or _opened.work != work:
        _require_code(work.code)
        shared: dict[str, object] = {}
        options = work.options
        judging = Judging(options.detectors, lambda name: options.context(name, shared))
        _opened = _Opened(work, judging)
    return _opened


def _require_code(wanted: str) -> None:
    found = _code()
    if found != wanted:
        message = f"expected tocsin {wanted} on every Spark worker, got {found}. Install the same there."
        raise RunError(message)


@dataclass(slots=True)
class _Partition:
    """What `Judging` asks and tells a run; here, one partition."""

    identities: dict[str, Mapping[str, JsonValue]]
    done: dict[int, frozenset[str]] = field(default_factory=dict)
    """By the running number of the item, where a verdict is in the run already."""

    def is_done(self, detector: str, ordinal: int) -> bool:
        return detector in self.done.get(ordinal, ())

    def note_detector(self, name: str, identity: Mapping[str, JsonValue]) -> None:
        self.identities[name] = dict(identity)

    def flush(self) -> None:
        """Nothing waits here."""

    def items(self, rows: Iterable[Row]) -> Iterator[Item]:
        for row in rows:
            item = Item.model_validate(json.loads(row.item))
            if done := frozenset(json.loads(row.done)):
                self.done[item.origin.ordinal] = done
            yield item


def _judged(work: Work, rows: Iterable[Row]) -> Iterator[Message]:
    opened = _open(work)
    partition = _Partition(opened.identities)
    told: set[str] = set()
    """Names of detectors and ids of provenances."""
    for result in opened.judging.results(partition.items(rows), partition):
        verdict = result.verdict
        name, provenance = verdict.detector, verdict.provenance
        # Told in every partition: the one in which it was built may be lost, and done again elsewhere.
        if name not in told and name in opened.identities:
            told.add(name)
            yield Message("detector", json.dumps({"name": name, "identity": opened.identities[name]}))
        if provenance.id not in told:
            told.add(provenance.id)
            body = {"id": provenance.id, **provenance.model_dump(mode="json")}
            yield Message("provenance", json.dumps(body))
        yield Message("result", json.dumps(to_line(result)))


def _described(error: TocsinError) -> dict[str, JsonValue]:
    described: dict[str, JsonValue] = {"sort": type(error).__name__, "message": str(error)}
    if isinstance(error, MissingExtraError):
        described |= {"extra": error.extra, "purpose": error.purpose}
    return described


def _place(error: Exception) -> str:
    """Module and line that raised an error."""
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    return (
        "an unknown place" if last is None else f"{last.tb_frame.f_globals.get('__name__')}:{last.tb_lineno}"
    )
