"""Reading a message log into the private part of a run folder.

People and groups are replaced by a keyed hash (BLAKE2b with the secret of this machine) before anything else
is done, so that a group cannot be found by hashing a list of known ids. Message ids become row numbers.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from tocsin.core.errors import InputError, MissingExtraError
from tocsin.models.fence import local_secret
from tocsin.trace.log.schema import MODALITIES, OPTIONAL, REQUIRED, Columns

if TYPE_CHECKING:
    import duckdb

# Folder names such as label=x would become columns, and types guessed from the first rows lose later values.
_JSON = "read_json({path}, format = 'newline_delimited', sample_size = -1, hive_partitioning = false)"
_READERS = {
    ".parquet": "read_parquet({path}, file_row_number = true, hive_partitioning = false)",
    ".csv": "read_csv({path}, all_varchar = true, header = true, hive_partitioning = false)",
    ".jsonl": _JSON,
    ".ndjson": _JSON,
}
_HASH_HEX = 16
_BATCH = 100_000
MANY_TIMES = 5
"""Counters of 5 and more, among them WhatsApp's 127 ("forwarded many times"), are read as 5 hops or more."""
LONGEST_LABEL = 80
_EARLIEST, _LATEST = 0.0, 4_102_444_800.0
"""Seconds of the years 1970 and 2100; what lies beyond is in another unit."""
_GLOB = str.maketrans({letter: f"[{letter}]" for letter in "*?["})


def open_database(folder: Path, *, memory: str = "3GB") -> duckdb.DuckDBPyConnection:
    """An in-memory database that spills into `folder`.

    Raises:
        MissingExtraError: Without DuckDB.
    """
    try:
        import duckdb
    except ImportError as error:
        raise MissingExtraError(extra="trace", purpose="Reading a message log") from error
    connection = duckdb.connect()
    connection.execute(f"SET memory_limit = {quoted(memory)}")
    connection.execute(f"SET temp_directory = {quoted(str(folder / 'spill'))}")
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("SET enable_progress_bar = false")
    return connection


def quoted(word: str) -> str:
    """A string literal of SQL."""
    return "'" + word.replace("'", "''") + "'"


def named(word: str) -> str:
    """A column name of SQL."""
    return '"' + word.replace('"', '""') + '"'


def keyed_hash(kind: str, identifier: str, secret: bytes) -> str:
    """16 hexadecimal digits that stand for a person or group. Equal ids of other kinds hash differently."""
    digest = hashlib.blake2b(
        f"{kind}\0{identifier}".encode(errors="surrogatepass"),
        key=secret,
        digest_size=_HASH_HEX // 2,
        person=b"tocsin-trace",
    )
    return digest.hexdigest()


def ingest(log: Path, columns: Columns, folder: Path) -> int:
    """Write `messages.parquet` into `folder` and return the number of rows.

    Its columns: `row` (number in the log, from 0), `group_key`, `author_key`, `time` (seconds, float),
    `modality`, `text`, `media`, `forwarding` (0 to 5, or null), `label`. Sorted as the log is.

    Raises:
        InputError: If the log is empty, lacks a column, repeats a message id, has an unknown modality or a
            time that cannot be read. The message names the first row, never its content.
        MissingExtraError: Without DuckDB.
    """
    reader = _READERS.get(log.suffix.lower())
    if reader is None:
        message = f"expected a file that ends in {', '.join(_READERS)}."
        raise InputError(message, path=log)
    if not log.is_file():
        message = "expected a message log, found no such file."
        raise InputError(message, path=log)
    database = open_database(folder)
    try:
        _load(database, log, reader.format(path=quoted(str(log).translate(_GLOB))), columns)
        rows = _refuse_bad_rows(database, log)
        _hash_people(database, local_secret())
        _write(database, folder / "messages.parquet")
    finally:
        database.close()
    return rows


def _load(database: duckdb.DuckDBPyConnection, log: Path, source: str, columns: Columns) -> None:
    import duckdb

    try:
        described = database.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()  # noqa: S608
    except duckdb.Error as error:
        message = f"expected a message log that DuckDB can read, got {type(error).__name__}."
        raise InputError(message, path=log) from None
    found = {str(name): str(kind) for name, kind, *_ in described}
    usual = Columns()
    missing = [
        name
        for role in OPTIONAL
        if (name := getattr(columns, role)) not in found and name != getattr(usual, role)
    ]
    missing += [getattr(columns, role) for role in REQUIRED if getattr(columns, role) not in found]
    if columns.text not in found and columns.media not in found:
        missing.append(columns.text)
    if missing:
        message = f"expected the columns {', '.join(missing)}. Name others with --column ROLE=NAME."
        raise InputError(message, path=log)

    def text_of(role: str, default: str = "CAST(NULL AS VARCHAR)") -> str:
        name = getattr(columns, role)
        return f"CAST({named(name)} AS VARCHAR)" if name in found else default

    seconds = named(columns.time)
    if found[columns.time].startswith(("TIMESTAMP", "DATE")):
        time = f"epoch(CAST({seconds} AS TIMESTAMPTZ))"
    else:
        time = (
            f"coalesce(TRY_CAST({seconds} AS DOUBLE), "
            f"epoch(TRY_CAST(CAST({seconds} AS VARCHAR) AS TIMESTAMPTZ)))"
        )
    number = "file_row_number" if "file_row_number" in found else "row_number() OVER () - 1"
    modality = f"lower(coalesce({text_of('modality')}, 'chat'))"
    hops = f"TRY_CAST({text_of('forwarding')} AS INTEGER)"
    forwarding = f"CASE WHEN {hops} >= {MANY_TIMES} THEN {MANY_TIMES} WHEN {hops} >= 0 THEN {hops} END"
    try:
        database.execute(
            f"CREATE TABLE loaded AS SELECT CAST({number} AS BIGINT) AS row, "  # noqa: S608
            f"{text_of('message')} AS message, {text_of('group')} AS group_id, "
            f"{text_of('author')} AS author, {time} AS time, "
            f"if({modality} = 'text', 'chat', {modality}) AS modality, "
            f"{text_of('text')} AS text, {text_of('media')} AS media, "
            f"{forwarding} AS forwarding, "
            f"nullif(trim({text_of('label')}), '') AS label FROM {source}"
        )
    except duckdb.Error as error:
        message = f"expected rows that DuckDB can read, got {type(error).__name__}."
        raise InputError(message, path=log) from None


def _refuse_bad_rows(database: duckdb.DuckDBPyConnection, log: Path) -> int:
    count = database.execute("SELECT count(*) FROM loaded").fetchone()
    rows = int(count[0]) if count else 0
    if not rows:
        message = "expected at least one message, found none."
        raise InputError(message, path=log)
    modalities = ", ".join(quoted(word) for word in (*MODALITIES, "ciphertext"))
    faults = (
        ("time IS NULL OR NOT isfinite(time)", "a time in seconds or as a timestamp"),
        (
            f"time < {_EARLIEST} OR time >= {_LATEST}",
            "a time in seconds between the years 1970 and 2100 (are these milliseconds?)",
        ),
        (
            f"length(label) > {LONGEST_LABEL}",
            f"a label of at most {LONGEST_LABEL} characters",
        ),
        ("message IS NULL OR group_id IS NULL OR author IS NULL", "a message id, a group and an author"),
        (f"modality NOT IN ({modalities})", f"a modality of {', '.join(MODALITIES)}"),
    )
    for wrong, expected in faults:
        query = f"SELECT min(row), count(*) FROM loaded WHERE {wrong}"  # noqa: S608
        first = database.execute(query).fetchone()
        if first and first[0] is not None:
            message = f"row {first[0] + 1}: expected {expected} ({first[1]} rows fail). Repair or drop them."
            raise InputError(message, path=log)
    repeated = database.execute(
        "SELECT min(row), count(*) FROM "
        "(SELECT max(row) AS row FROM loaded GROUP BY message HAVING count(*) > 1)"
    ).fetchone()
    if repeated and repeated[0] is not None:
        message = (
            f"row {repeated[0] + 1}: expected every message id once, found {repeated[1]} repeated. "
            "Keep one row of each."
        )
        raise InputError(message, path=log)
    return rows


def _hash_people(database: duckdb.DuckDBPyConnection, secret: bytes) -> None:
    import pyarrow as pa

    for kind, column in (("group", "group_id"), ("author", "author")):
        database.execute(f"CREATE TABLE {kind}_keys (id VARCHAR, key VARCHAR)")
        reader = database.cursor().execute(f"SELECT DISTINCT {column} FROM loaded")  # noqa: S608
        while batch := reader.fetchmany(_BATCH):
            ids = [identifier for (identifier,) in batch]
            hashed = pa.table({"id": ids, "key": [keyed_hash(kind, one, secret) for one in ids]})
            database.register("hashed", hashed)
            database.execute(f"INSERT INTO {kind}_keys SELECT id, key FROM hashed")  # noqa: S608
            database.unregister("hashed")


def _write(database: duckdb.DuckDBPyConnection, path: Path) -> None:
    database.execute(
        "COPY (SELECT row, g.key AS group_key, a.key AS author_key, time, modality, text, media, forwarding, "  # noqa: S608
        "label FROM loaded JOIN group_keys g ON g.id = group_id JOIN author_keys a ON a.id = author "
        f"ORDER BY row) TO {quoted(str(path))} (FORMAT parquet, COMPRESSION zstd)"
    )
