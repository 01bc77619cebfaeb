"""A file of JSON lines that is only ever added to, and that survives `kill -9`.

A process can be killed in the middle of a write, which leaves a last line without its line feed. Opening the
log cuts such a line off; everything before it is whole. The open file is also the lock: two processes cannot
hold the same log.
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

from pydantic import JsonValue

from tocsin.core.errors import RunError

FLUSH_SECONDS = 1.0
"""Longest time that a line waits in memory once further lines come."""
SYNC_SECONDS = 10.0
"""Longest time that a line waits for the disk: what a loss of power, not a kill, can undo."""
_BLOCK = 1 << 16


class AppendLog:
    """JSON objects, one a line, in ASCII.

    Args:
        path: The file; made when missing.

    Raises:
        RunError: If another process holds the log, or the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._file = path.open("ab+")
        except OSError as error:
            raise RunError(_cannot("written", error), path=path) from error
        try:
            _lock(self._file.fileno(), path)
            self._file.truncate(_whole_bytes(path))
        except BaseException:
            self._file.close()
            raise
        self._flushed = self._synced = time.monotonic()

    def append(self, record: Mapping[str, JsonValue]) -> None:
        """Add one line. It is in memory until `flush`, at most `FLUSH_SECONDS` while lines keep coming.

        Raises:
            RunError: If the disk is full or the file cannot be written.
        """
        try:
            self._file.write(json.dumps(record, ensure_ascii=True, allow_nan=False).encode() + b"\n")
        except OSError as error:
            raise RunError(_cannot("written", error), path=self.path) from error
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def clear(self) -> None:
        """Drop every line."""
        self._file.flush()
        self._file.truncate(0)

    def flush(self, *, sync: bool = False) -> None:
        """Hand all lines to the system, and to the disk now and then (or now, with `sync`).

        Raises:
            RunError: If the disk is full or the file cannot be written.
        """
        now = time.monotonic()
        try:
            self._file.flush()
            if sync or now - self._synced > SYNC_SECONDS:
                os.fsync(self._file.fileno())
                self._synced = now
        except OSError as error:
            raise RunError(_cannot("written", error), path=self.path) from error
        self._flushed = now

    def close(self) -> None:
        """Write what is waiting and release the lock."""
        if not self._file.closed:
            try:
                self.flush(sync=True)
            finally:
                self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read_log(path: Path) -> Iterator[dict[str, JsonValue]]:
    """Every whole line of a log, streamed; a torn last line is left out.

    Raises:
        RunError: If a line is not a JSON object, naming its number; or the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    return
                yield _parsed(line, path, number)
    except OSError as error:
        raise RunError(_cannot("read", error), path=path) from error


def _parsed(line: bytes, path: Path, number: int) -> dict[str, JsonValue]:
    try:
        value = json.loads(line)
    except ValueError as error:
        raise RunError(damaged("a JSON object"), path=path, line=number) from error
    if not isinstance(value, dict):
        raise RunError(damaged("a JSON object"), path=path, line=number)
    return value


def damaged(expected: str) -> str:
    """Message for a line that was changed after it was written."""
    return (
        f"expected {expected}, got something else: the run folder was changed or damaged. "
        "Repeat the command with --fresh."
    )


def _cannot(done: str, error: OSError) -> str:
    reason = (error.strerror or "unknown error").lower()
    return (
        f"expected a file that can be {done}, got: {reason}. Make room or choose another folder with --out."
    )


def _lock(descriptor: int, path: Path) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        message = "another process is writing this run. "
        message += "Wait until it has finished, or choose another folder with --out."
        raise RunError(message, path=path.parent) from error
    except OSError as error:
        message = f"the file system cannot lock files ({error.strerror}). "
        message += "Choose a folder on another one with --out."
        raise RunError(message, path=path.parent) from error


def _whole_bytes(path: Path) -> int:
    """Size up to and including the last line feed."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(end - _BLOCK, 0)
            file.seek(start)
            at = file.read(end - start).rfind(b"\n")
            if at >= 0:
                return start + at + 1
            end = start
    return 0
