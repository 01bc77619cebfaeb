"""Reader of `.parquet` files (extra `parquet`), one row group and one batch at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tocsin.core.errors import MissingExtraError
from tocsin.core.records import Reason
from tocsin.sources.files import UnreadableFileError, open_regular
from tocsin.sources.limits import Limits
from tocsin.sources.rows import Row, unreadable

if TYPE_CHECKING:
    import pyarrow.parquet as pq

_BATCH_ROWS = 512


@contextlib.contextmanager
def _open(path: Path) -> Iterator[pq.ParquetFile]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtraError("parquet", "reading a Parquet file") from error  # noqa: EM101 - an extra's name
    with open_regular(path) as stream:
        try:
            # One thread and no memory map: flat memory, and a file cut short while being read is an error.
            file = pq.ParquetFile(pa.PythonFile(stream, mode="r"), memory_map=False)
        except (pa.ArrowException, OSError, ValueError) as error:
            message = "expected a Parquet file, got one that is damaged, encrypted or of another format."
            raise UnreadableFileError(message) from error
        with file:
            yield file


class ParquetShape(NamedTuple):
    """What a Parquet file says about itself."""

    rows: int
    columns: tuple[str, ...]


def parquet_shape(path: Path) -> ParquetShape:
    """Number of rows and names of the top-level columns, from the file's own index."""
    with _open(path) as file:
        return ParquetShape(int(file.metadata.num_rows), tuple(str(name) for name in file.schema_arrow.names))


def parquet_rows(path: Path, limits: Limits, columns: Sequence[str] | None = None) -> Iterator[Row]:
    """Rows as mappings of the given columns; a damaged or oversized row group is one row that names its rows.

    Args:
        path: The file.
        limits: `row_group_bytes` bounds what one row group may hold.
        columns: Top-level columns to read; the others cost nothing. None reads all.
    """
    import pyarrow as pa

    wanted = None if columns is None else list(columns)
    with _open(path) as file:
        first_row = 1
        for group in range(file.metadata.num_row_groups):
            described = file.metadata.row_group(group)
            next_row = first_row + described.num_rows
            if described.total_byte_size > limits.row_group_bytes:
                detail = (
                    f"expected row groups of at most {limits.row_group_bytes:,} bytes; rows {first_row} to "
                )
                detail += f"{next_row - 1} are in a larger one. Write the file again with smaller row groups."
                yield unreadable(first_row, detail, Reason.TRUNCATED)
            else:
                row = first_row
                try:
                    for batch in file.iter_batches(
                        _BATCH_ROWS, row_groups=[group], columns=wanted, use_threads=False
                    ):
                        for value in batch.to_pylist():
                            yield Row(row, value)
                            row += 1
                except (pa.ArrowException, OSError, ValueError):
                    yield unreadable(row, f"expected rows {row} to {next_row - 1}, got damaged data.")
            first_row = next_row
