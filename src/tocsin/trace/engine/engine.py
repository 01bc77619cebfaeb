"""The two engines behind the relational steps."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tocsin.core.errors import MissingExtraError
from tocsin.core.spark import spark_session

if TYPE_CHECKING:
    from collections.abc import Iterator

    import ibis
    import pyarrow as pa

Engine = Literal["duckdb", "spark"]


@contextmanager
def backend(engine: Engine, scratch: Path, *, master: str = "local[2]") -> Iterator[ibis.BaseBackend]:
    """A connected backend, closed at the end.

    Args:
        engine: "duckdb" runs in this process; "spark" starts or joins a Spark application.
        scratch: Folder to spill into.
        master: Address of the Spark master.

    Raises:
        MissingExtraError: Without the extra of the engine.
        UsageError: If Spark cannot begin.
    """
    try:
        import ibis
    except ImportError as error:
        raise MissingExtraError(extra="trace", purpose="Tracing") from error
    if engine == "duckdb":
        connection = ibis.duckdb.connect(temp_directory=str(scratch / "spill"), memory_limit="3GB")
        connection.raw_sql("SET enable_progress_bar = false")
        try:
            yield connection
        finally:
            connection.disconnect()
        return
    with spark_session(master, scratch, {"spark.sql.shuffle.partitions": "4"}) as session:
        yield ibis.pyspark.connect(session)


def to_arrow(connection: ibis.BaseBackend, table: ibis.Table) -> pa.Table:
    """Rows of a table. Spark's own road to Arrow is taken, since Ibis goes by pandas there."""
    if connection.name == "duckdb":
        return connection.to_pyarrow(table)
    import ibis

    return connection.raw_sql(ibis.to_sql(table, dialect="pyspark")).toArrow()


def write_sorted(connection: ibis.BaseBackend, table: ibis.Table, path: Path) -> int:
    """Write a table, already ordered, as one Parquet file, and return its rows."""
    import pyarrow.parquet as pq

    if connection.name == "duckdb":
        connection.to_parquet(table, path)
    else:  # Spark writes a folder of files, whose order is lost.
        pq.write_table(to_arrow(connection, table), path)
    return int(pq.read_metadata(path).num_rows)
