"""Run folders of studies: one result for a whole input, made in one go.

::

    tocsin-runs/agree-3f2a91c07d4e/
        run.json       the command, its settings, versions, input, status
        result.json    everything that was found
        report.html    for people
        stages/        finished parts of a long study, until it is finished

Named and recorded like the folders of `tocsin.core.runs`, without their logs: a study that was interrupted
starts again, or goes on after the last part that it kept in `stages`. `run.json` is written as finished after
the other files, each in one step, so two processes that make the same study at once leave one of two equal
results.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pydantic import JsonValue

from tocsin.core.errors import RunError
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
from tocsin.core.stages import Stages

RESULT = "result.json"
STAGES = "stages"
_OURS = frozenset({RECORD, RESULT, REPORT, STAGES})


@dataclass(slots=True)
class StudyRun:
    """An open study folder.

    Attributes:
        folder: The run folder.
        record: What `run.json` says.
        found: The JSON of a study that was finished before; None when it is to be made.
    """

    folder: Path
    record: RunRecord
    found: bytes | None = None

    @property
    def stages(self) -> Stages:
        """Parts that a long study keeps while it runs."""
        return Stages(self.folder / STAGES)

    @classmethod
    def open(
        cls,
        command: str,
        config: Mapping[str, JsonValue],
        input_hash: str,
        identity: Mapping[str, JsonValue],
        *,
        out: Path | None = None,
        fresh: bool = False,
        input_name: str = "",
        facts: Mapping[str, JsonValue] | None = None,
    ) -> Self:
        """Find the finished study of this command on this input, or begin it.

        Args:
            command: Verb, such as `agree`.
            config: Settings that decide the result.
            input_hash: SHA-256 of the whole input.
            identity: Code, and model if any.
            out: The run folder; `tocsin-runs/<command>-<id>` when None.
            fresh: Begin anew, even if it is finished.
            input_name: As the user typed it.
            facts: Further description for `run.json`.

        Raises:
            RunError: If `out` holds another run or other files, or the folder cannot be written.
        """
        folder, wanted = wanted_run(
            command, config, input_hash, identity, out=out, input_name=input_name, facts=facts
        )
        if (folder / RECORD).exists():
            record = read_record(folder)
            refuse_other(folder, record, wanted)
            if record.status == "finished" and not fresh:
                return cls(folder, record, _read(folder / RESULT))
        else:
            refuse_foreign(folder, _OURS)
        session = Session(started=now(), versions=installed_versions())
        run = cls(folder, wanted.model_copy(update={"sessions": (session,)}))
        if fresh:
            run.stages.clear()
        write_whole(folder / RECORD, run.record.model_dump(mode="json"))
        return run

    def write_result(self, text: str) -> None:
        """Write the result as JSON. The study stays unfinished until `finish`.

        Raises:
            RunError: If the folder cannot be written.
        """
        write_text(self.folder / RESULT, text + "\n")

    def finish(self, write_page: Callable[[Path, RunRecord], None]) -> None:
        """Write the page, then mark the study as finished; its result must have been written.

        Args:
            write_page: Given the page's path and the record as it will be.

        Raises:
            RunError: If the folder cannot be written.
        """
        record = self.record.model_copy(update={"status": "finished", "finished": now()})
        write_page(self.folder / REPORT, record)
        write_whole(self.folder / RECORD, record.model_dump(mode="json"))
        self.record = record
        self.stages.clear()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        message = f"expected the result of a finished run, got: {(error.strerror or 'an error').lower()}. "
        raise RunError(message + "Repeat the command with --fresh.", path=path) from error
