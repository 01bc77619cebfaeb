"""Stages of a trace: each is done once, and one that was cut short is done again.

A stage writes into `NAME.part`. When it is complete its files are flushed to disk, the folder gets its name,
and last of all `NAME.json` is written, which alone says that the stage is done.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from pydantic import JsonValue

from tocsin.core.errors import RunError

Counts = dict[str, int]


class Stages:
    """The private part of a run folder, mode 0700.

    Args:
        folder: Run folder, made if needed.
        identity: What the run depends on. A folder of another run is refused.

    Raises:
        RunError: If the folder belongs to another run or cannot be written.
    """

    def __init__(self, folder: Path, identity: dict[str, JsonValue]) -> None:
        self.folder = folder
        self.private = folder / "private"
        with named_errors(folder):
            known = self.private / "run.json"
            if not known.exists():
                strange = [p for p in folder.glob("*") if p != self.private or any(p.iterdir())]
                if strange:
                    message = "expected a new or empty folder, or a trace of the same log."
                    raise RunError(message, path=folder)
                self.private.mkdir(parents=True, exist_ok=True)
                self.private.chmod(0o700)
                write_whole(known, identity)
            if json.loads(known.read_text("utf-8")) != identity:
                message = "the folder holds a trace of another log or other options. Choose another --out."
                raise RunError(message, path=folder)

    def done(self, name: str) -> bool:
        """Whether the stage was completed."""
        return (self.private / f"{name}.json").exists()

    def path(self, name: str) -> Path:
        """Folder of a completed stage."""
        return self.private / name

    def run(self, name: str, work: Callable[[Path], Counts]) -> Counts:
        """Counts of the stage, which is worked now if it was not completed before.

        Raises:
            RunError: If the disk is full or cannot be written; the stage is then worked anew next time.
        """
        marker = self.private / f"{name}.json"
        if self.done(name):
            found: Counts = json.loads(marker.read_text("utf-8"))
            return found
        part, final = self.private / f"{name}.part", self.private / name
        with named_errors(self.private):
            for stale in (part, final):
                shutil.rmtree(stale, ignore_errors=True)
            part.mkdir(mode=0o700)
            counts = work(part)
            shutil.rmtree(part / "spill", ignore_errors=True)
            for path in part.iterdir():
                _flush(path)
            part.rename(final)
            write_whole(marker, {**counts})
        return counts


class named_errors:  # noqa: N801 - reads as a statement
    """Turns failures of the disk, also those that DuckDB reports, into `RunError`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            reason = error.strerror or type(error).__name__
            message = f"cannot be written ({reason}). Free space and run again."
            raise RunError(message, path=self._path) from error
        if error is not None and type(error).__module__.endswith("duckdb"):
            name = type(error).__name__
            if name in ("IOException", "OutOfMemoryException"):
                message = (
                    f"DuckDB could not go on ({name}): disk or memory is full. Free space and run again."
                )
                raise RunError(message, path=self._path) from None


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, value: JsonValue) -> None:
    """Write JSON so that a reader finds all of it or none."""
    temporary = path.with_name(f"{path.name}.part")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(value, file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
