"""Run folders: what a command did, so that the same command finishes it, shows it, or begins another.

::

    tocsin-runs/scan-3f2a91c07d4e/
        run.json           the command, its settings and where each came from, versions, input, status
        results.jsonl      one verdict a line, only ever added to
        provenance.jsonl   how verdicts came about; a verdict names its line by `provenance`
        report.html        for people
        summary.json       what all verdicts come to, for commands that measure
        parts/             verdicts that wait for their turn, while the engine `spark` is at work

The folder's name comes from everything that decides the results: command, settings, input hash and identity
(model, profiles, detector code). A process that is killed at any moment loses at most what it had not yet
written; `Run.is_done` says what need not be computed again. Memory: one byte for each item and detector.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self, cast

from pydantic import JsonValue, ValidationError

from tocsin.core.append_log import AppendLog, damaged, read_log
from tocsin.core.errors import RunError
from tocsin.core.records import Provenance, Verdict
from tocsin.core.results import Result, from_line, to_line
from tocsin.core.run_record import (
    RECORD,
    REPORT,
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

RESULTS, PROVENANCE, SUMMARY = "results.jsonl", "provenance.jsonl", "summary.json"
PARTS = "parts"
_OURS = frozenset({RECORD, RESULTS, PROVENANCE, REPORT, SUMMARY, PARTS})


class Run:
    """An open run folder. Use as a context manager, so that what is waiting is written and the lock released.

    Attributes:
        folder: The run folder.
        record: What `run.json` says.
        was_finished: True when it had been finished before it was opened; it can then only be read.
    """

    def __init__(self, folder: Path, record: RunRecord) -> None:
        self.folder = folder
        self.record = self._wanted = record
        self.was_finished = False
        self._done: dict[str, bytearray] = {}
        self._count = 0
        self._provenances: dict[str, Provenance] = {}
        self._results: AppendLog | None = None
        self._table: AppendLog | None = None

    @classmethod
    def open(
        cls,
        command: str,
        config: Mapping[str, JsonValue],
        input_hash: str,
        identity: Mapping[str, JsonValue],
        out: Path | None = None,
        fresh: bool = False,  # noqa: FBT001, FBT002 - part of the contract between rooms
        *,
        input_name: str = "",
        sources: Mapping[str, str] | None = None,
        facts: Mapping[str, JsonValue] | None = None,
    ) -> Run:
        """Find the run of this command on this input, or begin it.

        Args:
            command: Verb, such as `scan`.
            config: Settings that decide results.
            input_hash: SHA-256 of the whole input.
            identity: Model, profiles and code.
            out: The run folder; `tocsin-runs/<command>-<id>` when None.
            fresh: Begin anew, and drop the results that this run has so far.
            input_name: As the user typed it.
            sources: Where each setting came from.
            facts: Further description for `run.json`.

        Raises:
            RunError: If `out` holds another run or something else, another process is writing the run, or
                the folder cannot be written.
        """
        folder, record = wanted_run(
            command,
            config,
            input_hash,
            identity,
            out=out,
            input_name=input_name,
            sources=sources,
            facts=facts,
        )
        run = cls(folder, record)
        if run._find() and run.record.status == "finished" and not fresh:
            run.was_finished = True
            run._load_provenances()
            return run
        try:
            run._begin(fresh=fresh)
        except BaseException:
            run.close()
            raise
        return run

    def _find(self) -> bool:
        """Take over the record in the folder, if there is one.

        Raises:
            RunError: If it is of another run, or the folder holds something else.
        """
        if not (self.folder / RECORD).exists():
            refuse_foreign(self.folder, _OURS)
            return False
        found = read_record(self.folder)
        refuse_other(self.folder, found, self._wanted)
        self.record = found
        return True

    def _begin(self, *, fresh: bool) -> None:
        """Take the lock, then begin or go on."""
        self._results = AppendLog(self.folder / RESULTS)
        self._table = AppendLog(self.folder / PROVENANCE)
        is_found = self._find()  # again: another process may have had the lock until now
        if is_found and self.record.status == "finished" and not fresh:
            self.was_finished = True
            self.close()
        elif fresh or not is_found:
            # A kill between these steps leaves a folder without run.json: nothing in it counts.
            (self.folder / RECORD).unlink(missing_ok=True)
            self._results.clear()
            self._table.clear()
            shutil.rmtree(self.folder / PARTS, ignore_errors=True)
            (self.folder / REPORT).unlink(missing_ok=True)
            (self.folder / SUMMARY).unlink(missing_ok=True)
            self.record = self._wanted
        self._load_provenances()
        if not self.was_finished:
            for result in self.results():
                self._mark(result.verdict)
            session = Session(started=now(), versions=installed_versions())
            self._update(sessions=(*self.record.sessions, session))

    def _load_provenances(self) -> None:
        self._provenances = dict(_read_table(self.folder / PROVENANCE))

    def is_done(self, detector: str, ordinal: int) -> bool:
        """Whether this detector's verdict on the item with this running number is in the folder."""
        seen = self._done.get(detector)
        return seen is not None and ordinal < len(seen) and seen[ordinal] != 0

    def _mark(self, verdict: Verdict) -> None:
        seen = self._done.setdefault(verdict.detector, bytearray())
        ordinal = verdict.key.ordinal
        if ordinal >= len(seen):
            seen.extend(bytes(ordinal + 1 - len(seen)))
        seen[ordinal] = 1
        self._count += 1

    def note_detector(self, name: str, identity: Mapping[str, JsonValue]) -> None:
        """Record what a detector is made of, once it is loaded.

        Raises:
            RunError: If the run was begun with something else under this name.
        """
        noted = self.record.detectors.get(name)
        given = cast("dict[str, JsonValue]", json.loads(json.dumps(dict(identity))))
        if noted is None:
            self._update(detectors={**self.record.detectors, name: given})
        elif noted != given:
            parts = ", ".join(sorted(key for key in {*noted, *given} if noted.get(key) != given.get(key)))
            message = f"the run was begun with another '{name}' (different: {parts}). "
            message += "Repeat the command with --fresh."
            raise RunError(message, path=self.folder)

    def append(self, result: Result) -> None:
        """Add one result, and its provenance when it is new.

        Raises:
            RunError: If the folder cannot be written.
            ValueError: If the result is there already.
        """
        verdict = result.verdict
        if (
            self._results is None
            or self._table is None
            or self.is_done(verdict.detector, verdict.key.ordinal)
        ):
            message = f"the result of {verdict.detector} on item {verdict.key.ordinal} cannot be added."
            raise ValueError(message)
        provenance = verdict.provenance
        if provenance.id not in self._provenances:
            # Flushed first, so that no result on disk names a provenance that is not.
            self._table.append({"id": provenance.id, **provenance.model_dump(mode="json")})
            self._table.flush(sync=True)
            self._provenances[provenance.id] = provenance
        self._results.append(to_line(result))
        self._mark(verdict)

    def flush(self) -> None:
        """Make sure that a kill cannot undo what was added."""
        if self._results is not None:
            self._results.flush()

    def finish(self) -> None:
        """Write everything to disk and mark the run as finished."""
        if self._results is not None:
            self._results.flush(sync=True)
            self._update(status="finished", finished=now(), results=self._count)
            shutil.rmtree(self.folder / PARTS, ignore_errors=True)

    def write_summary(self, text: str) -> None:
        """Write what all verdicts come to, whole or not at all.

        Raises:
            RunError: If the folder cannot be written.
        """
        write_text(self.folder / SUMMARY, text + "\n")

    def close(self) -> None:
        """Write what is waiting and release the lock. The run stays unfinished unless `finish` was called."""
        for log in (self._results, self._table):
            if log is not None:
                log.close()
        self._results = self._table = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def results(self) -> Iterator[Result]:
        """Every result in the folder, streamed in the order it was added.

        Raises:
            RunError: If a line was changed or damaged.
        """
        self.flush()
        path = self.folder / RESULTS
        number = 0
        for number, line in enumerate(read_log(path), start=1):
            try:
                yield from_line(line, self._provenances)
            except ValueError as error:
                raise RunError(damaged("a result of this version"), path=path, line=number) from error
        if self.record.results is not None and number != self.record.results:
            message = f"expected {self.record.results} results, got {number}: the folder was changed. "
            message += "Repeat the command with --fresh."
            raise RunError(message, path=path)

    def _update(self, **changes: object) -> None:
        self.record = self.record.model_copy(update=changes)
        write_whole(self.folder / RECORD, self.record.model_dump(mode="json"))


def _read_table(path: Path) -> Iterator[tuple[str, Provenance]]:
    for number, line in enumerate(read_log(path), start=1):
        try:
            yield str(line.pop("id")), Provenance.model_validate(line)
        except (ValidationError, KeyError) as error:
            raise RunError(damaged("a provenance of this version"), path=path, line=number) from error
