"""The loop of `Judging` with its detectors on the workers of an Apache Spark cluster.

The driver reads the input, as it must in order to number the items, sends it in partitions of whole chunks,
and writes the verdicts into the same run folder, in the same order, as the embedded engine does.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import NoReturn

from pydantic import JsonValue

from tocsin.api.judging import CHUNK, Judging, Ledger
from tocsin.api.progress import Progress, ProgressCallback, no_progress
from tocsin.api.scan_options import ScanOptions
from tocsin.api.spark.cluster import Answer, Partition, Parts, answered
from tocsin.api.spark.worker import Row, Work
from tocsin.core import errors
from tocsin.core.errors import MissingExtraError, RunError, TocsinError
from tocsin.core.records import Item, Provenance
from tocsin.core.registry import Cost
from tocsin.core.results import Result, from_line
from tocsin.core.runs import PARTS, Run

QUICK_CHUNKS = 8
"""Chunks of a partition whose detectors only look at the text: one chunk is done before its job has begun."""


class SparkJudging(Judging):
    """Detectors at work on a Spark cluster. A scan that lacks no verdict does not start it.

    Args:
        options: Of the scan.
        progress: Told how far it has come.

    Raises:
        UsageError: If a detector's name is unknown or given twice.
    """

    def __init__(self, options: ScanOptions, progress: ProgressCallback = no_progress) -> None:
        # The panel says which detector reads what. It builds none: the workers do.
        super().__init__(options.detectors, lambda name: options.context(name, {}), progress)
        self._options = options
        is_quick = all(info.cost is Cost.TEXT_ONLY for info in self.panel.infos)
        self._chunks = QUICK_CHUNKS if is_quick else 1

    def results(
        self, items: Iterable[Item], run: Ledger | None, *, total: int | None = None
    ) -> Iterator[Result]:
        """As of `Judging`, in the same order.

        Raises:
            MissingExtraError: Without the extra 'spark', or without what a detector needs on a worker.
            UsageError: If Spark cannot begin.
            RunError: If a worker is lost again and again, or a detector fails on one.
            TocsinError: What else a detector raises on a worker.
        """
        parts = Parts(run.folder / PARTS if isinstance(run, Run) else None)
        work = Work(self._options, str(Path.cwd()))
        done = 0

        def begins() -> None:
            self._progress(Progress("loading", done, total, "Spark"))

        for answer in answered(self._partitions(items, run), work, self._options.master, parts, begins):
            yield from _results(answer, run)
            done += answer.partition.wanted
            self._progress(Progress("scanning", done, total))
            if run is not None:
                run.flush()

    def _partitions(self, items: Iterable[Item], run: Ledger | None) -> Iterator[Partition]:
        """The input in partitions whose borders depend on nothing but the input and the detectors."""
        names = [info.name for info in self.panel.infos]
        stream = iter(items)
        number = 0
        while some := list(islice(stream, CHUNK * self._chunks)):
            wanted = missing = 0
            done: list[list[str]] = []
            for item in some:
                readers = [name for name in names if self.panel.reads(name, item)]
                there = [
                    name for name in readers if run is not None and run.is_done(name, item.origin.ordinal)
                ]
                wanted += len(readers)
                missing += len(readers) - len(there)
                done.append(there)
            rows = [Row.of(item, there) for item, there in zip(some, done, strict=True)] if missing else []
            yield Partition(number, wanted, missing, rows)
            number += 1


def _results(answer: Answer, run: Ledger | None) -> Iterator[Result]:
    """The verdicts of an answer that are not in the run yet."""
    provenances: dict[str, Provenance] = {}
    count = 0
    for sort, body in answer.messages:
        try:
            value = json.loads(body)
            if sort == "provenance":
                name = value.pop("id")
                provenances[name] = Provenance.model_validate(value)
                continue
            result = from_line(value, provenances) if sort == "result" else None
        except ValueError:
            message = "expected verdicts of this version from a Spark worker, got something else. "
            message += "Install the same version of tocsin on every worker."
            raise RunError(message) from None  # pydantic's error would show what it was given
        if result is not None:
            count += 1
            # Written before a process was killed that had not dropped the answer yet.
            if run is None or not run.is_done(result.verdict.detector, result.verdict.key.ordinal):
                yield result
        elif sort == "detector":
            if run is not None:
                run.note_detector(value["name"], value["identity"])
        else:
            _raise(value)
    if count < answer.partition.missing:
        number, missing = answer.partition.number, answer.partition.missing
        message = f"expected {missing} verdicts for partition {number} from Spark, got {count}."
        raise RunError(message)


def _raise(described: Mapping[str, JsonValue]) -> NoReturn:
    """The error that ended the work of a worker."""
    sort, message = str(described["sort"]), str(described["message"])
    if sort == MissingExtraError.__name__:
        raise MissingExtraError(str(described["extra"]), str(described["purpose"]))
    kind = getattr(errors, sort, RunError)
    raise kind(message) if issubclass(kind, TocsinError) else RunError(message)
