"""Partitions out to the workers of a Spark cluster, their answers back in the same order.

Each partition is a Spark job of one task, and several are under way at a time, so that no worker waits for
the slowest. An answer is kept in the run folder until its turn comes and its verdicts are written: a killed
run asks nothing again but what was under way.
"""

from __future__ import annotations

import tempfile
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tocsin.api.spark.worker import SCHEMA, Message, Row, Work, judge_batches
from tocsin.core.errors import RunError
from tocsin.core.spark import spark_session

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import SparkSession

MOST_UNDER_WAY = 512
BYTES_UNDER_WAY = 1 << 28
"""Partitions sent and not taken yet: twice the cores of the cluster, and never more than these."""


@dataclass(frozen=True, slots=True)
class Partition:
    """Whole chunks of items as rows."""

    number: int
    """Counted over the whole input, from 0."""
    wanted: int
    """Verdicts that the scan wants on its items."""
    missing: int
    """Those that are not there yet."""
    rows: list[Row] = field(repr=False)
    """Empty where nothing is missing."""

    @property
    def size(self) -> int:
        """Characters of its rows, which are ASCII."""
        return sum(len(row.item) for row in self.rows)


class Answer(NamedTuple):
    """What came back for a partition; nothing where nothing was missing."""

    partition: Partition
    messages: list[Message]


class Parts:
    """Answers that wait for their turn, one Parquet file for each partition.

    Args:
        folder: Where; None keeps nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._there = frozenset(path.name for path in folder.iterdir()) if folder and folder.is_dir() else ()

    def load(self, number: int) -> pa.Table | None:
        """The answer that an earlier process kept; None where there is none that can be read."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self._folder is None or _name(number) not in self._there:
            return None
        try:
            return pq.read_table(self._folder / _name(number))
        except (pa.ArrowException, OSError):  # cut short by a loss of power: asked again
            return None

    def keep(self, number: int, answer: pa.Table) -> None:
        """Write an answer, whole or not at all.

        Raises:
            RunError: If the folder cannot be written.
        """
        import pyarrow.parquet as pq

        if self._folder is None:
            return
        part = self._folder / f".{_name(number)}"
        try:
            self._folder.mkdir(exist_ok=True)
            pq.write_table(answer, part)
            part.replace(self._folder / _name(number))
        except OSError as error:
            reason = (error.strerror or "unknown error").lower()
            message = f"expected a folder that can be written, got: {reason}. Make room and go on."
            raise RunError(message, path=self._folder) from error

    def drop(self, number: int) -> None:
        """Forget an answer whose verdicts are in the run."""
        if self._folder is not None:
            (self._folder / _name(number)).unlink(missing_ok=True)


def _name(number: int) -> str:
    return f"{number:09d}.parquet"


class _UnderWay(NamedTuple):
    partition: Partition
    answer: Future[pa.Table]


def answered(
    partitions: Iterable[Partition], work: Work, master: str, parts: Parts, on_begin: Callable[[], None]
) -> Iterator[Answer]:
    """Answers in the order of the partitions. The cluster begins with the first partition that needs it.

    Args:
        partitions: Read as the cluster can take them.
        work: What each worker is told.
        master: Address of the Spark master.
        parts: Answers kept by an earlier process, and place for those of this one. An answer is dropped when
            the next one is asked for.
        on_begin: Called before the cluster begins.

    Raises:
        MissingExtraError: Without the extra 'spark'.
        UsageError: If Spark cannot begin.
        RunError: If workers are lost again and again, or an answer cannot be kept.
    """
    waiting: deque[_UnderWay] = deque()
    size = 0
    with ExitStack() as stack:
        cluster: _Cluster | None = None
        for partition in partitions:
            if partition.missing == 0:
                future: Future[pa.Table] = Future()
                future.set_result(None)
            elif (found := parts.load(partition.number)) is not None:
                future = Future()
                future.set_result(found)
            else:
                if cluster is None:
                    on_begin()
                    cluster = stack.enter_context(_Cluster(work, master, parts))
                future = cluster.ask(partition)
            waiting.append(_UnderWay(partition, future))
            size += partition.size
            most = cluster.room() if cluster is not None else 1
            while waiting and (len(waiting) >= most or size >= BYTES_UNDER_WAY or waiting[0].answer.done()):
                taken = waiting.popleft()
                yield _answer(taken)
                size -= taken.partition.size
                parts.drop(taken.partition.number)
        while waiting:
            taken = waiting.popleft()
            yield _answer(taken)
            parts.drop(taken.partition.number)


def _answer(taken: _UnderWay) -> Answer:
    table = taken.answer.result()
    if table is None:
        return Answer(taken.partition, [])
    columns = (table[name].to_pylist() for name in Message._fields)
    return Answer(taken.partition, [Message(*row) for row in zip(*columns, strict=True)])


class _Cluster:
    """A Spark session and the threads that wait for its jobs."""

    def __init__(self, work: Work, master: str, parts: Parts) -> None:
        self._work = work
        self._master = master
        self._parts = parts
        self._tag = f"tocsin-{uuid.uuid4().hex}"
        """Of our jobs, in a session that may have others."""
        self._is_ending = False

    def __enter__(self) -> _Cluster:
        with ExitStack() as stack:
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="tocsin-spark-"))
            settings = {"spark.sql.execution.arrow.maxRecordsPerBatch": "256"}
            session = spark_session(self._master, Path(scratch), settings)
            self._session: SparkSession = stack.enter_context(session)
            self._threads = ThreadPoolExecutor(MOST_UNDER_WAY, thread_name_prefix="tocsin-spark")
            stack.callback(self._stop)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _stop(self) -> None:
        from py4j.protocol import Py4JError

        self._is_ending = True
        self._threads.shutdown(wait=False, cancel_futures=True)
        with suppress(Py4JError):  # of an application that has ended by itself
            self._session.sparkContext.cancelJobsWithTag(self._tag)
        self._threads.shutdown(wait=True)

    def room(self) -> int:
        """How many partitions should be under way: asked each time, since workers come and go.

        Raises:
            RunError: If the application has ended.
        """
        with _as_run_error("its number of workers"):
            return min(MOST_UNDER_WAY, 2 * int(self._session.sparkContext.defaultParallelism))

    def ask(self, partition: Partition) -> Future[pa.Table]:
        """Send a partition."""
        return self._threads.submit(self._run, partition)

    def _run(self, partition: Partition) -> pa.Table:
        """One job, in a thread of its own."""
        import pyarrow as pa

        rows = pa.table({name: [getattr(row, name) for row in partition.rows] for name in Row._fields})
        with _as_run_error(f"an answer for partition {partition.number}"):
            self._session.sparkContext.addJobTag(self._tag)
            sent = self._session.createDataFrame(rows).coalesce(1)
            judged = sent.mapInArrow(partial(judge_batches, self._work), SCHEMA)
            if self._is_ending:  # too late to be cancelled with the others
                raise CancelledError
            answer = judged.toArrow()
        if not answer.num_rows or answer["sort"][-1].as_py() != "error":
            self._parts.keep(partition.number, answer)
        return answer


@contextmanager
def _as_run_error(expected: str) -> Iterator[None]:
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    try:
        yield
    except (PySparkException, Py4JError, OSError, EOFError) as error:
        message = (
            f"expected {expected} from Spark, got {type(error).__name__}. Check that every worker has tocsin "
            "and what the detectors need, memory included; its log says more. The same command goes on."
        )
        raise RunError(message) from error
