"""Run folders of commands that collect records one by one and go on where they were interrupted.

::

    tocsin-runs/elicit-3f2a91c07d4e/
        run.json            the command, its settings, versions, input, status
        responses.jsonl     one record a line, only ever added to

Named and recorded like the folders of `tocsin.core.runs`, which hold verdicts.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

from pydantic import JsonValue

from tocsin.core.append_log import AppendLog, read_log
from tocsin.core.errors import RunError
from tocsin.core.run_record import (
    RECORD,
    RunRecord,
    Session,
    installed_versions,
    now,
    read_record,
    refuse_foreign,
    refuse_other,
    wanted_run,
    write_text,
    write_whole,
)


class LogRun:
    """An open run folder of records. Use as a context manager.

    Attributes:
        folder: The run folder.
        path: Its log.
        was_finished: True when it had been finished before; it can then only be read.
    """

    def __init__(self, folder: Path, log: str, record: RunRecord) -> None:
        self.folder, self.path = folder, folder / log
        self.record = record
        self.was_finished = False
        self._log: AppendLog | None = None

    @classmethod
    def open(
        cls,
        command: str,
        config: Mapping[str, JsonValue],
        input_hash: str,
        identity: Mapping[str, JsonValue],
        *,
        log: str,
        others: tuple[str, ...] = (),
        out: Path | None = None,
        fresh: bool = False,
        input_name: str = "",
        facts: Mapping[str, JsonValue] | None = None,
    ) -> Self:
        """Find the run of this command on this input, or begin it.

        Args:
            command: Verb, such as `elicit`.
            config: Settings that decide the records.
            input_hash: SHA-256 of the whole input.
            identity: Models and code.
            log: Name of the file of records.
            others: Names of further files that the command writes.
            out: The run folder; `tocsin-runs/<command>-<id>` when None.
            fresh: Begin anew, and drop the records so far.
            input_name: As the user typed it.
            facts: Further description for `run.json`.

        Raises:
            RunError: If `out` holds another run or other files, another process is writing the run, or the
                folder cannot be written.
        """
        folder, wanted = wanted_run(
            command, config, input_hash, identity, out=out, input_name=input_name, facts=facts
        )
        run = cls(folder, log, wanted)
        found = folder / RECORD
        if found.exists():
            refuse_other(folder, read_record(folder), wanted)
        else:
            refuse_foreign(folder, {RECORD, log, *others})
        lock = AppendLog(run.path)
        try:
            # Read under the lock: another process may have finished it until now.
            if found.exists() and not fresh:
                run.record = read_record(folder)
                run.was_finished = run.record.status == "finished"
            else:
                found.unlink(missing_ok=True)
                lock.clear()
            if run.was_finished:
                lock.close()
                return run
            session = Session(started=now(), versions=installed_versions())
            run.record = run.record.model_copy(update={"sessions": (*run.record.sessions, session)})
            write_whole(found, run.record.model_dump(mode="json"))
        except BaseException:
            lock.close()
            raise
        run._log = lock
        return run

    def records(self) -> Iterator[dict[str, JsonValue]]:
        """Every record so far, in the order in which they were added.

        Raises:
            RunError: If the log was damaged.
        """
        if self._log is not None:
            self._log.flush()
        return read_log(self.path)

    def append(self, record: Mapping[str, JsonValue]) -> None:
        """Add one record; a kill cannot undo it.

        Raises:
            RunError: If the folder cannot be written, or the run is finished.
        """
        if self._log is None:
            message = "expected an unfinished run, got a finished one. Repeat the command with --fresh."
            raise RunError(message, path=self.folder)
        self._log.append(record)
        self._log.flush()

    def write(self, name: str, text: str) -> None:
        """Write a further file, whole or not at all."""
        write_text(self.folder / name, text)

    def finish(self, results: int) -> None:
        """Mark the run as finished."""
        if self._log is not None:
            self._log.flush(sync=True)
            update = {"status": "finished", "finished": now(), "results": results}
            self.record = self.record.model_copy(update=update)
            write_whole(self.folder / RECORD, self.record.model_dump(mode="json"))

    def close(self) -> None:
        """Release the lock. The run stays unfinished unless `finish` was called."""
        if self._log is not None:
            self._log.close()
            self._log = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
